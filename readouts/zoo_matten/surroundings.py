"""Positions of an atom's neighbours, in a degree that the encoder's features lack."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from e3nn import o3
from torch import Tensor, nn

from zoo.api import CrystalBatch, bessel_basis, polynomial_envelope
from zoo_matten.layers import ByIrrep

RADIAL = 8
"""Bessel functions."""


class Surroundings(nn.Module):
    """Σ_j R(r_ij) (W s_j) Y_l(r_ij), channel by channel, R a linear map of Bessel functions under an envelope.

    The first step of an interaction layer, for the degrees that are lacking alone. Products of features of lower
    degree do not replace it: where the site is cubic, all of degree 1 and 2 vanish and so do their products, though
    the crystal may have a part of degree 4 (C44 is not (C11 - C12)/2).

    Args:
        irreps: of natural parity, (-1)^l: those of spherical harmonics.
        scalars: invariant channels of the encoder.
        channels: of each irrep.
        cutoff: Å.
    """

    def __init__(self, irreps: Iterable[o3.Irrep], scalars: int, channels: int, cutoff: float) -> None:
        super().__init__()
        self.irreps = sorted(irreps)
        self.cutoff = cutoff
        self.radial = nn.Linear(RADIAL, channels, bias=False)
        self.neighbour = nn.Linear(scalars, channels)

    def forward(self, scalars: Tensor, batch: CrystalBatch) -> ByIrrep:
        """(N, C) invariants -> (N, 2l+1, channels) of each irrep."""
        vectors = batch.edge_vectors()
        # In units of half the cutoff, as in Å the functions would be small beside the encoder's features.
        distance = vectors.norm(dim=-1) / (self.cutoff / 2)
        radial = bessel_basis(distance, 2.0, RADIAL) * polynomial_envelope(distance, 2.0).unsqueeze(-1)
        weight = self.radial(radial) * self.neighbour(scalars)[batch.src]
        found = {}
        for irrep in self.irreps:
            harmonics = o3.spherical_harmonics(irrep.l, vectors, normalize=True, normalization="component")
            found[str(irrep)] = batch.sum_to_atoms(torch.einsum("em,ec->emc", harmonics, weight))
        return found
