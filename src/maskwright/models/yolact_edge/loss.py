"""What YolactEdge's video models learn beside YOLACT's losses: to carry features, and the motion along which.

As in the published code, except that the coarsest level is compared behind its own convolution, where the published
code takes the finest level's by mistake, and that one step learns from both paths, where the published code takes one
step for each.

Letters: B batch, C channels, h w cells of a level, H W the input.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from maskwright.models.yolact_edge.parts import LevelMotion
from maskwright.ops.losses import Term

FARTHEST = 1 / 16
"""A still image is moved by at most this share of a side to stand for a key frame."""


def matching(own: Sequence[Tensor], carried: Sequence[Tensor], outputs: Sequence[nn.Module]) -> Term:
    """How far carried levels point away from those that the frame itself gives: 1 - cosine over the channels.

    own, carried: the merged maps (B, C, h, w) of the carried levels; outputs: the pyramid's convolution of each. The
    mean over positions, levels, and both sides of the convolutions; only the carried maps learn from it.
    """
    terms: list[Tensor] = []
    for a, b, output in zip(own, carried, outputs, strict=True):
        fixed = {name: value.detach() for name, value in output.state_dict(keep_vars=True).items()}
        pairs = ((a, b), (functional_call(output, fixed, (a,)), functional_call(output, fixed, (b,))))
        terms += [(1 - F.cosine_similarity(x.detach().float(), y.float(), dim=1)).mean((1, 2)) for x, y in pairs]
    return Term(torch.stack(terms).mean(dim=0).sum(), len(own[0]))


def end_point_error(motion: Sequence[LevelMotion], truth: Tensor | None, reach: float) -> Term:
    """Distance between the estimated flow and the true one, in the network's units, summed over the levels.

    truth (B, 2, H', W'): the true displacement from this frame to the key frame, x before y, as a share of the side;
    None: it is not known, and nothing is learnt.
    """
    if truth is None:
        return Term(torch.stack([level.flow.sum() * 0 for level in motion]).sum(), 0)
    total = truth.new_zeros(len(truth))
    for level in motion:
        h, w = level.flow.shape[-2:]
        share = level.flow.float() / level.flow.new_tensor([w - 1, h - 1]).clamp(min=1)[:, None, None]
        wanted = F.interpolate(truth, (h, w), mode="bilinear", align_corners=False)
        total = total + (2 * reach * (share - wanted)).norm(dim=1).mean((1, 2))
    return Term(total.sum(), len(truth))


def moved(images: Tensor, draws: Sequence[torch.Generator | None]) -> tuple[Tensor, Tensor]:
    """Copies of (B, 3, H, W) that are moved by whole pixels, zeros where nothing is known; and by which share of the
    sides each one was, (B, 2, 1, 1), x before y: a still image and its copy are two frames whose motion is known."""
    height, width = images.shape[-2:]
    out, shares = torch.zeros_like(images), images.new_zeros(len(images), 2, 1, 1)
    for image, copy, share, generator in zip(images, out, shares, draws, strict=True):
        unit = torch.rand(2, generator=generator) * 2 - 1
        dx, dy = (int(u * FARTHEST * side) for u, side in zip(unit.tolist(), (width, height), strict=True))
        copy[:, max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = image[
            :, max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)
        ]
        share[:, 0, 0] = share.new_tensor([dx / width, dy / height])
    return out, shares
