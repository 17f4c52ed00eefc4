"""MobileNetV2 (Sandler et al. 2018) with torchvision's modules and names, cut where YolactEdge's weights are read."""

from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.nn.layers import Backbone, Norm

ENDS = {2: 1, 4: 3, 8: 6, 16: 10, 32: 16}
"""Stride to the number of the block whose output is read. At stride 16 it is the end of the fourth stage of seven (64
channels), not of the fifth, and at stride 32 of the sixth (160), not of the last."""


class MobileNetV2(Backbone):
    """Gives the maps at the wanted `strides`, finest first; blocks after the last of them are left out."""

    def __init__(self, norm: Norm, *, strides: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v2

        if not strides or any(s not in ENDS for s in strides):
            raise ConfigError(f"'mobilenetv2' has feature maps at the strides 2, 4, 8, 16 and 32, got {strides}.")
        self.strides = tuple(sorted(strides))
        self.ends = tuple(ENDS[s] for s in self.strides)
        self.features = mobilenet_v2(weights=None, norm_layer=norm).features[: self.ends[-1] + 1]
        self.channels = tuple(int(self.features[end].out_channels) for end in self.ends)

    def forward(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        outputs = []
        for i, block in enumerate(self.features[: self.ends[:levels][-1] + 1]):
            x = block(x)
            if i in self.ends:
                outputs.append(x)
        return outputs
