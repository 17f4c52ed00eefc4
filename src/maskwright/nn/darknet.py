"""DarkNet-53 (Redmon and Farhadi 2018), as YOLACT's published weights have it."""

import torch.nn as nn
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.nn.layers import Backbone, Norm

BLOCKS = (1, 2, 8, 8, 4)


class Residual(nn.Module):
    """1x1 convolution to half the channels, 3x3 back, added to the input; no activation after the sum."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = unit(channels, channels // 2, 1, norm)
        self.conv2 = unit(channels // 2, channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(self.conv1(x))
        return y


def unit(inputs: int, outputs: int, kernel: int, norm: Norm, *, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, norm, leaky ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
    return nn.Sequential(conv, norm(outputs), nn.LeakyReLU(0.1, inplace=True))


class DarkNet(Backbone):
    """A convolution, then five stages that each halve the map; gives the maps at the wanted `strides`, finest first.

    channels: of those maps. Stages after the last of them are left out. width: channels of the first convolution.
    """

    def __init__(self, norm: Norm, *, strides: tuple[int, ...] = (8, 16, 32), width: int = 32) -> None:
        super().__init__()
        if not strides or any(s not in (2, 4, 8, 16, 32) for s in strides):
            raise ConfigError(f"DarkNet-53 has feature maps at the strides 2, 4, 8, 16 and 32, got {strides}.")
        self.strides = tuple(sorted(strides))
        self.channels = tuple(width * s for s in self.strides)
        self.stem = unit(3, width, 3, norm)
        stages = []
        for i, blocks in enumerate(BLOCKS[: max(strides).bit_length() - 1]):
            outputs = width * 2 ** (i + 1)
            down = unit(outputs // 2, outputs, 3, norm, stride=2)
            stages.append(nn.Sequential(down, *(Residual(outputs, norm) for _ in range(blocks))))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        x, outputs = self.stem(x), []
        for i, stage in enumerate(self.stages[: self.strides[:levels][-1].bit_length() - 1]):
            x = stage(x)
            if 2 ** (i + 1) in self.strides:
                outputs.append(x)
        return outputs
