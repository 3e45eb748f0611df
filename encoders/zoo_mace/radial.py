"""Radial basis and envelope of MACE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.api import polynomial_envelope
from zoo_mace.architecture import Architecture


class AgnesiTransform(nn.Module):
    """Distance -> 0..1, by the two atoms' covalent radii: Witt et al., J. Chem. Phys. 159, 164101 (2023)."""

    q: Tensor
    p: Tensor
    a: Tensor
    covalent_radii: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("q", "p", "a"):
            self.register_buffer(name, torch.ones(()))
        self.register_buffer("covalent_radii", torch.ones(119))

    def forward(self, distance: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(E,) Å and the atomic numbers of both ends, (E,) -> (E,)."""
        radii = self.covalent_radii
        r = distance / (0.5 * (radii[first] + radii[second]))
        return 1 / (1 + self.a * r**self.q / (1 + r ** (self.q - self.p)))


class RadialBasis(nn.Module):
    """sqrt(2/r_c) sin(k_n r) / r of the distance or of its transform."""

    bessel_weights: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.cutoff = architecture.cutoff
        self.envelope_power = architecture.envelope
        self.register_buffer("bessel_weights", torch.ones(architecture.radial[0]))
        self.distance_transform = AgnesiTransform() if architecture.transform == "agnesi" else None

    def forward(self, distance: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(E,) Å and the atomic numbers of both ends, (E,) -> (E, R); it does not vanish at the cutoff."""
        x = distance if self.distance_transform is None else self.distance_transform(distance, first, second)
        x = x.unsqueeze(-1)
        return (2 / self.cutoff) ** 0.5 * torch.sin(self.bessel_weights * x) / x

    def envelope(self, distance: Tensor) -> Tensor:
        """(E,) -> (E, 1), zero with two derivatives at the cutoff."""
        return polynomial_envelope(distance, self.cutoff, self.envelope_power).unsqueeze(-1)
