"""The layers of the heads: pooled features to classes, boxes and masks.

Letters: R RoIs, C channels, S pooled side, Q classes, M mask side (2 x S after the deconvolution).
Class rows are the Q foreground classes, then background.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.nn.layers import Norm, conv


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
    """C4: the last ResNet stage ran on each RoI, and the mean over its window is the vector."""

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
