"""Proposals for networks that are given them, so that tests of every model can run those too."""

from dataclasses import replace

import torch

from maskwright.models.base import Config
from maskwright.types import Inputs


def proposed(config: Config, inputs: Inputs) -> Inputs:
    """The inputs, with the same 80 boxes for every image of one size where the network is given its proposals."""
    if config.box_search is None:
        return inputs
    shares = torch.rand(80, 2, 2, generator=torch.Generator().manual_seed(6)).sort(dim=1).values.flatten(1)
    return replace(inputs, proposals=[shares * torch.tensor([w, h, w, h]) for h, w in inputs.sizes])
