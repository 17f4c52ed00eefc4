"""The config of YolactEdge's video models: a YOLACT, and the network that carries its features between frames."""

from dataclasses import dataclass, field

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError
from maskwright.models.base import POSITIVE
from maskwright.models.yolact.config import YolactConfig


@dataclass(frozen=True)
class FlowConfig(Section):
    """The network that estimates the motion since the key frame.

    pre: channels to which the finest lateral map of each frame is reduced. widths: channels of the encoder at each
    level of the backbone, finest first. reach: a flow of this value is half the width of a map.
    """

    pre: int = ranged(64, low=1, high=2**16)
    widths: tuple[int, ...] = ranged((64, 128, 256), low=1, high=2**16)
    reach: float = ranged(8.0, **POSITIVE)


@dataclass(frozen=True)
class YolactEdgeConfig(YolactConfig):
    """Rebuilds a `YolactEdge`; see `YolactConfig` for what it shares with YOLACT.

    flow: its motion network. interval: frames from one key frame to the next; those pass through the whole network.
    """

    flow: FlowConfig = field(default_factory=FlowConfig)
    interval: int = ranged(5, low=1, high=10**6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.flow.widths) != len(self.strides) or len(self.strides) < 2:
            raise ConfigError(
                f"flow.widths has a number for each of two or more strides, got {self.flow.widths} and {self.strides}."
            )
