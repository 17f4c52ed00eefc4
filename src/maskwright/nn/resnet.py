"""ResNet-50 and -101 with the two bottleneck forms of published detection weights (He et al. 2015).

Parameter names are torchvision's and timm's. Depth 14 (one block a stage) is there for tests.
"""

import torch
from torch import Tensor, nn

from maskwright.nn.deform import DeformableConv2d
from maskwright.nn.layers import Backbone, Norm

BLOCKS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; output 4 x width channels.

    stride_in_1x1: the stride sits in the first 1x1 (original weights, detectron2) instead of the 3x3 (torchvision).
    deformable: the 3x3 is a deformable convolution.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, norm: Norm, *, stride_in_1x1: bool, deformable: bool = False
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, stride=first, bias=False)
        self.bn1 = norm(width)
        self.conv2: nn.Conv2d | DeformableConv2d
        if deformable:
            self.conv2 = DeformableConv2d(width, width, stride=second)
        else:
            self.conv2 = nn.Conv2d(width, width, 3, stride=second, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = norm(width * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != width * 4:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width * 4, 1, stride=stride, bias=False), norm(width * 4))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu_(y + shortcut)


def stage(
    inputs: int, width: int, blocks: int, stride: int, norm: Norm, *, stride_in_1x1: bool, deformable: int = 0
) -> nn.Sequential:
    """`blocks` bottlenecks, the first with the stride.

    deformable: n: the first block and every n-th after it have a deformable convolution; 0: none.
    """
    rows = (
        Bottleneck(
            inputs if i == 0 else width * 4,
            width,
            stride if i == 0 else 1,
            norm,
            stride_in_1x1=stride_in_1x1,
            deformable=bool(deformable) and i % deformable == 0,
        )
        for i in range(blocks)
    )
    return nn.Sequential(*rows)


class ResNet(Backbone):
    """The stages up to the last one in `out`; returns the outputs of the stages in `out`.

    out: numbers of stages, 2 (stride 4) to 5 (stride 32). width: channels after the first convolution. deformable: in
    stages 3 to 5 every n-th block has a deformable convolution (0: none).
    """

    def __init__(
        self,
        depth: int,
        norm: Norm,
        *,
        stride_in_1x1: bool = False,
        out: tuple[int, ...] = (2, 3, 4, 5),
        width: int = 64,
        deformable: int = 0,
    ) -> None:
        super().__init__()
        self.out = out
        self.channels = tuple(width * 2**i for i in out)
        self.strides = tuple(2**i for i in out)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = width
        for i, blocks in enumerate(BLOCKS[depth][: max(out) - 1]):
            every = deformable if i > 0 else 0
            layer = stage(
                inputs, width * 2**i, blocks, min(i + 1, 2), norm, stride_in_1x1=stride_in_1x1, deformable=every
            )
            self.add_module(f"layer{i + 1}", layer)
            inputs = width * 2**i * 4
        self._initialise()

    def _initialise(self) -> None:
        moved = {m.sampling for m in self.modules() if isinstance(m, DeformableConv2d)}  # these start at zero
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module not in moved:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outputs = []
        for number in range(2, sorted(self.out)[:levels][-1] + 1):
            x = self.get_submodule(f"layer{number - 1}")(x)
            if number in self.out:
                outputs.append(x)
        return outputs
