"""What is done with each region of interest: pool its features, name its class, refine its box, draw its mask.

Letters: R RoIs, C channels, S pooled side, Q classes, M mask side (2 x S after the deconvolution).
Class rows are the Q foreground classes, then background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.nn.layers import Norm, conv
from maskwright.ops.roi_align import roi_align


@dataclass(frozen=True)
class RoIConfig:
    """Pooling, heads, selection and sampling of the regions of interest.

    sampling_ratio, aligned, outer_epsilon: of the pooling (`Pooler`). box_side, mask_side: pooled sides.
    box_convs, box_fcs, box_width; mask_convs, mask_width: sizes of the heads. score, nms, keep: which rows become
    detections; min_side: shorter ones are dropped. samples, foreground, iou: RoIs an image contributes to the loss.
    beta: smooth L1 of the box (0: L1). binary_targets: bitmaps are thresholded at 0.5 after resampling.
    """

    sampling_ratio: int = 0
    aligned: bool = True
    outer_epsilon: bool = False
    box_side: int = 7
    mask_side: int = 14
    box_convs: int = 0
    box_fcs: int = 2
    box_width: int = 1024
    mask_convs: int = 4
    mask_width: int = 256
    score: float = 0.05
    nms: float = 0.5
    keep: int = 100
    min_side: float = 0.0
    samples: int = 512
    foreground: float = 0.25
    iou: float = 0.5
    beta: float = 0.0
    binary_targets: bool = True


@dataclass(frozen=True)
class Pooler:
    """RoIAlign over a pyramid: each RoI is read from the level that fits its size (FPN paper, eq. 1).

    scales: feature / input size of each level. aligned, sampling_ratio: see `ops.roi_align`.
    outer_epsilon: where the published code adds its guard against rounding: to log2 (torchvision) or inside it.
    """

    scales: tuple[float, ...]
    side: int
    sampling_ratio: int
    aligned: bool
    outer_epsilon: bool = False

    def levels(self, boxes: Tensor) -> Tensor:
        """(R,) index of the level of each box (R, 4): an area of 224 x 224 belongs to stride 16."""
        finest = -torch.log2(torch.tensor(self.scales[0])).item()
        size = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        if self.outer_epsilon:
            level = torch.floor(4 + torch.log2(size / 224) + 1e-6)
        else:
            level = torch.floor(4 + torch.log2(size / 224 + 1e-8))
        return (level.clamp(finest, finest + len(self.scales) - 1) - finest).to(torch.int64)

    def __call__(self, features: Sequence[Tensor], boxes: Tensor, batch_index: Tensor) -> Tensor:
        """Boxes (R, 4) in input pixels, batch_index (R,), to (R, C, S, S)."""
        levels = self.levels(boxes) if len(self.scales) > 1 else None
        return roi_align(
            features[: len(self.scales)],
            boxes,
            batch_index,
            levels,
            self.scales,
            self.side,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )


@dataclass(eq=False)
class Sampled:
    """RoIs of one image for the loss, foreground first.

    boxes (R, 4); labels (R,), Q for background; truth (F, 4) and objects (F,): box and row in the target of each
    foreground RoI.
    """

    boxes: Tensor
    labels: Tensor
    truth: Tensor
    objects: Tensor

    @property
    def foreground(self) -> Tensor:
        """Boxes (F, 4) of the foreground RoIs."""
        return self.boxes[: len(self.truth)]

    @classmethod
    def nothing(cls, device: torch.device) -> "Sampled":
        """No RoI."""
        boxes, rows = torch.zeros(0, 4, device=device), torch.zeros(0, dtype=torch.int64, device=device)
        return cls(boxes, rows, boxes, rows)


class BoxHead(nn.Module):
    """Pooled features (R, C, S, S) to a vector (R, D): `convs` 3x3 layers, then `fcs` full ones, ReLU after each."""

    def __init__(
        self, channels: int, side: int, fcs: int, width: int, convs: int = 0, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential(*(conv(channels, channels, 3, norm, relu=True) for _ in range(convs)))
        self.count, self.side = fcs, side
        inputs = channels * side * side
        for i in range(1, fcs + 1):
            layer = nn.Linear(inputs, width)
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
            self.add_module(f"fc{i}", layer)
            inputs = width

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).contiguous().flatten(1)  # (R, C*S*S), channel first as published weights expect
        for i in range(1, self.count + 1):
            x = torch.relu_(self.get_submodule(f"fc{i}")(x))
        return x


class MeanHead(nn.Module):
    """C4: the last ResNet stage runs on each RoI and its mean over the window is the vector."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class BoxPredictor(nn.Module):
    """(R, D) to class logits (R, Q+1), background last, and offsets (R, Q, 4), one row per class."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, num_classes + 1)
        self.deltas = nn.Linear(width, num_classes * 4)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.classes.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(x), self.deltas(x).unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Pooled features (R, C, S, S) to mask logits: `convs` 3x3 layers, a 2x2 deconvolution, one map per class.

    Only the map of the wanted class is computed: training and detection never look at the others.
    """

    def __init__(self, inputs: int, width: int, num_classes: int, convs: int, norm: Norm | None = None) -> None:
        super().__init__()
        layers = [conv(inputs if i == 0 else width, width, 3, norm, relu=True) for i in range(convs)]
        self.conv = nn.Sequential(*layers)
        self.deconv = nn.ConvTranspose2d(width if convs else inputs, width, 2, stride=2)
        self.logits = nn.Conv2d(width, num_classes, 1)
        for module in (self.deconv, self.logits):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.logits.weight, std=0.001)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(R, C, S, S) and labels (R,) to the logits (R, M, M) of each RoI's own class."""
        return self.draw(self.conv(x), labels)

    def draw(self, x: Tensor, labels: Tensor) -> Tensor:
        """`forward` after the 3x3 layers."""
        hidden = self.upsample(x)  # (R, S, S, 2, 2, width)
        rows, side = hidden.shape[0], hidden.shape[1]
        weight = self.logits.weight.flatten(1)[labels]  # (R, width)
        bias = self.logits.bias[labels] if self.logits.bias is not None else weight.new_zeros(rows)
        maps = torch.bmm(hidden.flatten(1, -2), weight[:, :, None])  # (R, S*S*4, 1)
        maps = maps.view(rows, side, side, 2, 2).transpose(2, 3).reshape(rows, 2 * side, 2 * side)
        return maps + bias[:, None, None]

    def all_classes(self, x: Tensor) -> Tensor:
        """(R, C, S, S) to the logits (R, Q, M, M) of every class."""
        out: Tensor = self.logits(torch.relu(self.deconv(self.conv(x))))
        return out

    def upsample(self, x: Tensor) -> Tensor:
        """The deconvolution as one matrix product: its 2x2 kernel with stride 2 never overlaps itself.

        (R, C, S, S) to (R, S, S, 2, 2, width): the four output cells of every input cell.
        """
        x = x.permute(0, 2, 3, 1)  # (R, S, S, C)
        weight = self.deconv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2*2*width, C)
        bias = None if self.deconv.bias is None else self.deconv.bias.repeat(4)
        return F.linear(x, weight, bias).relu_().view(*x.shape[:3], 2, 2, self.deconv.out_channels)
