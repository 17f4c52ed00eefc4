"""Deformable convolution, second version (Zhu et al. 2019): each tap moves and is weighted by what the input says.

Letters: B batch, C channels, O output channels, h w map, T taps of the kernel.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv2d(nn.Module):
    """3x3 convolution with bias whose taps are sampled bilinearly at learned places; 0 outside the map.

    `sampling` gives 3 T = 27 channels: (dy, dx) of each tap in turn, row by row, then T weights before their sigmoid.
    It starts at zero: no tap is moved and each counts half.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = inputs, outputs, stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.sampling = nn.Conv2d(inputs, 27, 3, stride=stride, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's rule for the kernel, zero for everything else."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        for tensor in (self.bias, self.sampling.weight, self.sampling.bias):
            if tensor is not None:
                nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        return deformed(x, self.sampling(x), self.weight, self.bias, self.stride)


def deformed(x: Tensor, sampling: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """(B, C, h, w) to (B, O, h', w') in the type of `x`; see `DeformableConv2d`.

    Worked out in float32: places between pixels need it, and there is no 16-bit form on a CPU.
    """
    taps = weight.shape[2] * weight.shape[3]
    offsets, factors = sampling[:, : 2 * taps].float(), sampling[:, 2 * taps :].float().sigmoid()
    offsets = offsets.nan_to_num(torch.inf, torch.inf, -torch.inf)  # torchvision reads any memory at NaN, 0 outside
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = deform_conv2d(
            x.float(), offsets, weight.float(), bias.float(), stride=stride, padding=1, mask=factors
        )
    return y.to(x.dtype)
