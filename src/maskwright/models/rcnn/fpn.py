"""Feature pyramid network (Lin et al. 2017): every level gets the semantics of the coarser ones.

Letters: L levels, C channels; level 0 is the finest.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.nn.layers import Norm, conv


class FPN(nn.Module):
    """L feature maps in, L + 1 maps of `channels` out; the extra one is every second cell of the coarsest."""

    def __init__(self, inputs: Sequence[int], channels: int, norm: Norm | None = None) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv(c, channels, 1, norm) for c in inputs)
        self.output = nn.ModuleList(conv(channels, channels, 3, norm) for _ in inputs)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        levels: list[Tensor] = []
        above: Tensor | None = None
        for lateral, output, feature in reversed(list(zip(self.lateral, self.output, features, strict=True))):
            merged = lateral(feature)
            if above is not None:
                merged += F.interpolate(above, merged.shape[-2:], mode="nearest")
            levels.insert(0, output(merged))
            above = merged
        return [*levels, levels[-1][:, :, ::2, ::2]]
