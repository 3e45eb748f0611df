"""Geometry of the edges for the layers: directions, distances, and which edges are within a cutoff."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.api import CrystalBatch, bessel_basis, polynomial_envelope, spherical_to_matrix

CORE = 1.9  # Å; few atoms are nearer to each other


def neighbours(cutoff: float, power: int, density: float) -> float:
    """Σ_j f_c(r_ij)² over atoms of uniform density (Å⁻³) outside of a core: the variance of a sum of messages.

    Within a tenth of what crystals have on average at 4 and 6 Å (`petousis2017`: 2.0 and 9.8); at 3 Å they vary.
    """
    core = min(CORE, cutoff / 2)
    r = core + (cutoff - core) * (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    shells = 4 * math.pi * r.square() * polynomial_envelope(r, cutoff, power).square()
    return density * (cutoff - core) * shells.mean().item()


@dataclass(frozen=True)
class Edges:
    """The e edges of a batch that are within a layer's cutoff.

    Attributes:
        index: (e,) int64, ascending: their places among the E edges of the batch.
        src: (e,) int64.
        dst: (e,) int64.
        direction: (e, 3), unit vectors u from dst to src.
        coupling: (e, 3, 5), K: K t = T u for a tensor T of spherical components t, and K^T v are the components of the
            symmetric traceless part of v ⊗ u.
        harmonics: (e, 9): 1, u, and the components of the symmetric traceless part of u ⊗ u, each degree of norm 1.
        radial: (e, R), Bessel functions; they do not vanish at the cutoff smoothly, the envelope does.
        envelope: (e, 1).
    """

    index: Tensor
    src: Tensor
    dst: Tensor
    direction: Tensor
    coupling: Tensor
    harmonics: Tensor
    radial: Tensor
    envelope: Tensor


class Geometry:
    """All edges of a batch, of which each layer takes those within its cutoff.

    Args:
        batch: E edges.
        num_bessel: number of radial basis functions.
        power: p of the polynomial envelope.
    """

    def __init__(self, batch: CrystalBatch, num_bessel: int, power: int) -> None:
        self.batch = batch
        self.num_bessel = num_bessel
        self.power = power
        vectors = batch.edge_vectors()
        self.distance = vectors.norm(dim=-1)
        self.direction = vectors / self.distance.unsqueeze(-1)
        basis = spherical_to_matrix(torch.eye(5, dtype=vectors.dtype, device=vectors.device), 2)
        self.coupling = torch.einsum("mij,ej->eim", basis, self.direction)
        second = torch.einsum("eim,ei->em", self.coupling, self.direction) * 1.5**0.5
        self.harmonics = torch.cat([torch.ones_like(second[:, :1]), self.direction, second], dim=1)
        self._made: dict[float, Edges] = {}

    def within(self, cutoff: float) -> Edges:
        """The edges no longer than `cutoff` (Å); made once for layers of the same cutoff."""
        if cutoff not in self._made:
            index = (self.distance.detach() <= cutoff).nonzero().squeeze(1)
            # Half the cutoff is the unit of length: in Å Bessel functions are small, beside what else an edge has.
            distance = self.distance[index] / (cutoff / 2)
            self._made[cutoff] = Edges(
                index,
                self.batch.src[index],
                self.batch.dst[index],
                self.direction[index],
                self.coupling[index],
                self.harmonics[index],
                bessel_basis(distance, 2.0, self.num_bessel),
                polynomial_envelope(distance, 2.0, self.power).unsqueeze(-1),
            )
        return self._made[cutoff]
