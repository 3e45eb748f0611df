"""The radial basis functions that matgl's models are trained with, and the envelope."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def cosine_envelope(distance: Tensor, cutoff: float) -> Tensor:
    """1 at zero and, with its first derivative, 0 at the cutoff (Å): Behler, J. Chem. Phys. 134, 074106 (2011)."""
    value = 0.5 * (torch.cos(math.pi * distance / cutoff) + 1)
    return torch.where(distance < cutoff, value, torch.zeros_like(value))


class SmoothBessel(nn.Module):
    """Orthogonal sums of spherical Bessel functions, with two derivatives that vanish at the cutoff.

    Kocer, Mason, Erturk, J. Chem. Phys. 150, 154102 (2019), the functions g_n.
    """

    def __init__(self, count: int, cutoff: float) -> None:
        super().__init__()
        self.count = count
        self.cutoff = cutoff

    def _coefficients(self) -> Tensor:
        """(count, count + 1), float64: of sin(kπ r/r_c) / (kπ r/r_c), k = 1 .. count + 1, in every function."""
        rows = []
        previous = torch.zeros(self.count + 1, dtype=torch.float64)
        d = 1.0
        for n in range(self.count):
            plain = torch.zeros(self.count + 1, dtype=torch.float64)
            plain[n : n + 2] = (-1) ** n * math.sqrt(2) * math.pi / self.cutoff**1.5 * (n + 1) * (n + 2)
            plain /= math.sqrt((n + 1) ** 2 + (n + 2) ** 2)
            e = n**2 * (n + 2) ** 2 / (4 * (n + 1) ** 4 + 1)
            last, d = d, 1 - e / d
            previous = (plain + math.sqrt(e / last) * previous) / math.sqrt(d)
            rows.append(previous)
        return torch.stack(rows)

    def forward(self, distance: Tensor) -> Tensor:
        """(E,) Å -> (E, count)."""
        k = torch.arange(1, self.count + 2, dtype=distance.dtype, device=distance.device)
        waves = torch.sinc(k * distance.unsqueeze(-1) / self.cutoff)
        return waves @ self._coefficients().to(distance).T


class Gaussians(nn.Module):
    """exp(-w (r - μ)²), the centres μ (Å) as the model was trained with them."""

    centers: Tensor

    def __init__(self, count: int, width: float) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("centers", torch.zeros(count))

    def forward(self, distance: Tensor) -> Tensor:
        """(E,) Å -> (E, count)."""
        return torch.exp(-self.width * (distance.unsqueeze(-1) - self.centers) ** 2)
