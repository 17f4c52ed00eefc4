"""The partial feature transform of YolactEdge: what brings a key frame's features to a later frame (Liu et al. 2021).

Letters: B batch, C channels of the pyramid, L levels of the backbone, h w cells of a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.models.yolact.parts import enlarged
from maskwright.ops.flow import warp

SLOPE = 0.1
"""Of the leaky ReLU behind every convolution of the encoder and of the refinement."""


@dataclass(frozen=True, eq=False)
class LevelMotion:
    """How one level follows from the key frame's: flow (B, 2, h, w) in cells, x before y; scale, bias (B, C, h, w),
    None for the finest level, which is not carried."""

    flow: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def carry(self, level: Tensor) -> Tensor:
        """The key frame's (B, C, h, w) at this frame."""
        assert self.scale is not None
        assert self.bias is not None
        return warp(level, self.flow) * self.scale + self.bias


class FlowPredictor(nn.Module):
    """Features to a flow in the network's units, and what the carried features are multiplied with and moved by.

    channels: C of what is carried; 0: nothing is, only the flow is predicted.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.flow = nn.Conv2d(inputs, 2, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.flow.weight, nonlinearity="linear")
        self.scale, self.bias = (_pointwise(inputs, channels, start) if channels else None for start in (1.0, 0.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        scale, bias = (None if layer is None else layer(x) for layer in (self.scale, self.bias))
        return self.flow(x), scale, bias


class FlowNet(nn.Module):
    """Two frames' finest lateral maps to the motion of every level, in the manner of FlowNet with fewer layers.

    channels: C. pre, widths, reach: see `FlowConfig`.
    """

    def __init__(self, channels: int, pre: int, widths: Sequence[int], reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.pre = _leaky(channels, pre)
        before = (2 * pre, *widths)
        self.encoder = nn.ModuleList(
            nn.Sequential(_leaky(a, b, stride=1 if i == 0 else 2), _leaky(b, b))
            for i, (a, b) in enumerate(zip(before, widths, strict=False))
        )
        rows = [2 * width + 2 for width in widths[:-1]] + [widths[-1]]
        self.predictors = nn.ModuleList(FlowPredictor(row, channels if i else 0) for i, row in enumerate(rows))
        pairs = zip(rows[1:], widths, strict=False)
        self.enlarge = nn.ModuleList(nn.Conv2d(above, width, 3, padding=1, bias=False) for above, width in pairs)
        self.enlarge_flow = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1, bias=False) for _ in widths[1:])

    def look(self, lateral: Tensor) -> Tensor:
        """What is compared of a frame, from its finest lateral map (B, C, h, w)."""
        y: Tensor = self.pre(lateral)
        return y

    def forward(self, current: Tensor, key: Tensor, first: int = 0) -> list[LevelMotion]:
        """The motion of the levels from number `first` on, finest first, from what `look` gave of both frames."""
        maps, x = [], torch.cat([current, key], dim=1)
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        motions = [self._motion(x, len(maps) - 1)]
        for level in reversed(range(first, len(maps) - 1)):
            flow = enlarged(motions[0][0], maps[level])
            x = torch.cat(
                [maps[level], self.enlarge[level](enlarged(x, maps[level])), self.enlarge_flow[level](flow)], dim=1
            )
            motions.insert(0, self._motion(x, level))
        return [LevelMotion(self._cells(flow), scale, bias) for flow, scale, bias in motions]

    def _motion(self, x: Tensor, level: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        motion: tuple[Tensor, Tensor | None, Tensor | None] = self.predictors[level](x)
        return motion

    def _cells(self, flow: Tensor) -> Tensor:
        """From the network's units, the same at all levels, to cells."""
        h, w = flow.shape[-2:]
        return flow * flow.new_tensor([w - 1, h - 1])[:, None, None] / (2 * self.reach)


class Refinement(nn.Module):
    """Corrects a carried level by what the finest lateral map of this very frame shows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _leaky(2 * channels, channels)

    def forward(self, level: Tensor, lateral: Tensor) -> Tensor:
        y: Tensor = level + self.conv(torch.cat([level, lateral], dim=1))
        return y


def _pointwise(inputs: int, outputs: int, start: float) -> nn.Conv2d:
    """A 1x1 convolution whose bias begins at `start`."""
    conv = nn.Conv2d(inputs, outputs, 1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    assert conv.bias is not None
    nn.init.constant_(conv.bias, start)
    return conv


def _leaky(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE, nonlinearity="leaky_relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.LeakyReLU(SLOPE, inplace=True))
