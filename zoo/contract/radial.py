"""Functions of the distance that several models share."""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor

from zoo.contract.features import Features


def polynomial_envelope(distance: Tensor, cutoff: float, p: int = 6) -> Tensor:
    """1 at zero and, with its first two derivatives, 0 at the cutoff; same shape as `distance` (Å).

    Gasteiger, Groß, Günnemann, ICLR 2020 (DimeNet), eq. (8), with x the distance in units of the cutoff, factored as
    (1 - x)³ Σ_k (k + 1)(k + 2)/2 x^k, k < p: the sum of powers as printed cancels near the cutoff, in float32 by 1e-5.
    """
    x = distance / cutoff
    series = torch.zeros_like(x)
    for k in reversed(range(p)):
        series = series * x + (k + 1) * (k + 2) / 2
    value = (1 - x) ** 3 * series
    return torch.where(x < 1, value, torch.zeros_like(value))


def bessel_basis(distance: Tensor, cutoff: float, count: int) -> Tensor:
    """(E,) Å -> (E, count): sqrt(2/r_c) sin(kπ r/r_c) / r, k = 1..count (DimeNet, eq. 7)."""
    k = torch.arange(1, count + 1, dtype=distance.dtype, device=distance.device)
    distance = distance.unsqueeze(-1)
    return (2 / cutoff) ** 0.5 * torch.sin(k * torch.pi * distance / cutoff) / distance


def bond_features(radial: Tensor, vectors: Tensor) -> Features:
    """R×0e+R×1o of E bonds: functions of the distance, and these × Y_1 of the direction.

    Args:
        radial: (E, R), zero at the cutoff.
        vectors: (E, 3) Å.
    """
    direction = o3.spherical_harmonics([1], vectors, normalize=True, normalization="component")
    values = torch.cat([radial, (radial.unsqueeze(-1) * direction.unsqueeze(1)).flatten(1)], dim=1)
    return Features(o3.Irreps([(radial.shape[1], "0e"), (radial.shape[1], "1o")]), values)
