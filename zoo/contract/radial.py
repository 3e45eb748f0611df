"""Functions of the distance that several models share."""

from __future__ import annotations

import torch
from torch import Tensor


def polynomial_envelope(distance: Tensor, cutoff: float, p: int = 6) -> Tensor:
    """1 at zero and, with its first two derivatives, 0 at the cutoff; same shape as `distance` (Å).

    Gasteiger, Groß, Günnemann, ICLR 2020 (DimeNet), eq. (8), with the distance in units of the cutoff.
    """
    x = distance / cutoff
    value = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return torch.where(x < 1, value, torch.zeros_like(value))


def bessel_basis(distance: Tensor, cutoff: float, count: int) -> Tensor:
    """(E,) Å -> (E, count): sqrt(2/r_c) sin(kπ r/r_c) / r, k = 1..count (DimeNet, eq. 7)."""
    k = torch.arange(1, count + 1, dtype=distance.dtype, device=distance.device)
    distance = distance.unsqueeze(-1)
    return (2 / cutoff) ** 0.5 * torch.sin(k * torch.pi * distance / cutoff) / distance
