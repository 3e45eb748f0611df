"""The element table: what an atom knows of itself before the first layer."""

from __future__ import annotations

import torch
from torch import Tensor

ELEMENTS = 119  # atomic numbers 0 (none) to 118
CHANNELS = 59  # as many as Z = 118 needs


def half_charges(channels: int) -> Tensor:
    """(119, channels): row Z has ⌊Z/2⌋ ones, then 0.5 where Z is odd, then zeros: its sum is Z/2.

    Takamoto et al. want an encoding of that sum (an orbital for two electrons) and print no table: this one is ours.

    Args:
        channels: 59 or more.
    """
    if channels < CHANNELS:
        raise ValueError(f"the encoding of Z = {ELEMENTS - 1} needs {CHANNELS} channels, there are {channels}")
    filling = torch.arange(ELEMENTS).unsqueeze(1) / 2 - torch.arange(channels)
    return filling.clamp(0, 1)
