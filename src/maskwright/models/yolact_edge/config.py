"""The config of YolactEdge's video models: a YOLACT, and the network that carries its features between frames."""

from dataclasses import dataclass, field

from maskwright.errors import ConfigError
from maskwright.models.yolact.config import YolactConfig


@dataclass(frozen=True)
class FlowConfig:
    """The network that estimates the motion since the key frame.

    pre: channels to which the finest lateral map of each frame is reduced. widths: channels of the encoder at each
    level of the backbone, finest first. reach: a flow of this value is half the width of a map.
    """

    pre: int = 64
    widths: tuple[int, ...] = (64, 128, 256)
    reach: float = 8.0

    def __post_init__(self) -> None:
        if self.pre < 1 or len(self.widths) < 2 or min(self.widths) < 1 or self.reach <= 0:
            raise ConfigError(f"FlowConfig: pre, reach and two or more widths above zero are needed, got {self}.")


@dataclass(frozen=True)
class YolactEdgeConfig(YolactConfig):
    """Rebuilds a `YolactEdge`; see `YolactConfig` for what it shares with YOLACT.

    flow: its motion network. interval: every so many frames one is a key frame, which goes through the whole network.
    """

    flow: FlowConfig = field(default_factory=FlowConfig)
    interval: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.flow.widths) != len(self.strides):
            raise ConfigError(
                f"YolactEdgeConfig: flow.widths needs one number for each of the strides {self.strides}, got "
                f"{self.flow.widths}."
            )
        if self.interval < 1:
            raise ConfigError(f"YolactEdgeConfig: interval is at least 1, got {self.interval}.")
