"""The heads of the R-CNNs for prediction, made of heads whose convolutions are fused already: see `fast.accelerate`."""

import torch
from torch import Tensor, nn

from maskwright.fast.accelerate import FastForm
from maskwright.fast.fused import FusedLinear
from maskwright.models.rcnn.layers import BoxHead, MaskHead
from maskwright.ops.rows import exporting


class FastBoxHead(nn.Module):
    """A `BoxHead` whose first full layer reads pooled features in the order in which they lie: channels last."""

    def __init__(self, head: BoxHead) -> None:
        super().__init__()
        self.conv = head.conv
        layers = []
        for i in range(1, head.count + 1):
            layer = head.get_submodule(f"fc{i}")
            assert isinstance(layer, nn.Linear)
            weight = layer.weight
            if i == 1:
                weight = weight.unflatten(1, (-1, head.side, head.side)).permute(0, 2, 3, 1).flatten(1)
            layers.append(FusedLinear(weight, layer.bias, relu=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(self.conv(x).permute(0, 2, 3, 1).flatten(1))
        return y


class FastMaskHead(MaskHead):
    """A `MaskHead` that upsamples a few RoIs at a time, so that their maps stay in the cache."""

    ROWS = 16

    def __init__(self, head: MaskHead) -> None:
        nn.Module.__init__(self)
        self.conv, self.logits = head.conv, head.logits
        width = head.deconv.out_channels
        bias = head.deconv.bias if head.deconv.bias is not None else head.deconv.weight.new_zeros(width)
        self.spread = FusedLinear(head.deconv.weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4), relu=True)

    def draw(self, x: Tensor, labels: Tensor) -> Tensor:
        if exporting():
            return super().draw(x, labels)
        parts = zip(x.split(self.ROWS), labels.split(self.ROWS), strict=True)
        maps: Tensor = torch.cat([super(FastMaskHead, self).draw(rows, wanted) for rows, wanted in parts])
        return maps

    def upsample(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.spread(x.permute(0, 2, 3, 1))
        return hidden.view(*hidden.shape[:3], 2, 2, self.logits.in_channels)

    def all_classes(self, x: Tensor) -> Tensor:
        hidden = self.upsample(self.conv(x)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        maps: Tensor = self.logits(hidden)
        return maps


FAST = FastForm({BoxHead: FastBoxHead, MaskHead: FastMaskHead})
