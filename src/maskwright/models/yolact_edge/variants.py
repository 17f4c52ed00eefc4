"""The video models of YolactEdge that were published, as configs."""

from dataclasses import fields

from maskwright.models.yolact import variants as yolact
from maskwright.models.yolact.config import YolactConfig
from maskwright.models.yolact_edge.config import FlowConfig, YolactEdgeConfig


def over(config: YolactConfig, flow: FlowConfig | None = None) -> YolactEdgeConfig:
    """The video model around the image model of this config."""
    shared = {f.name: getattr(config, f.name) for f in fields(config)}
    widths = tuple(64 * 2**i for i in range(len(config.strides)))
    return YolactEdgeConfig(**shared, flow=flow or FlowConfig(widths=widths))


def published(num_classes: int = 40, backbone: str = "resnet50") -> YolactEdgeConfig:
    """YolactEdge's `yolact_edge_vid*` configs."""
    return over(yolact.published(num_classes, backbone))


def tiny_variants() -> dict[str, YolactEdgeConfig]:
    """A tiny config for each way in which the family's networks differ."""
    return {"video": over(yolact.tiny("yolact"), FlowConfig(pre=8, widths=(8, 16)))}
