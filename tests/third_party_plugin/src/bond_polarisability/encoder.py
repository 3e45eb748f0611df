"""The encoder `moments`."""

from __future__ import annotations

from typing import Annotated

import torch
from e3nn import o3
from pydantic import Field
from torch import Tensor, nn

from zoo.api import CrystalBatch, Embedding, Encoder, Features, Hypers, Provides, bessel_basis, polynomial_envelope

Positive = Annotated[int, Field(ge=1)]


class MomentsHypers(Hypers):
    """Hyperparameters of `Moments`."""

    cutoff: Annotated[float, Field(gt=0)] = 5.0
    """Å; neighbours up to it are seen."""

    channels: Positive = 32
    """Channels of each of scalars, vectors and tensors."""

    radial: Positive = 8
    """Radial basis functions; also the channels of the bond scalars and of the bond vectors."""


class Moments(Encoder):
    """Moments of rank 0, 1, 2 of an atom's neighbour density, and their power spectrum, in one layer.

    The density of neighbours of an atom is expanded in radial functions times 1, r̂ and r̂r̂ᵀ - 1/3; the squared norms of
    these moments are the diagonal of the power spectrum of Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), for
    l ≤ 2. Each neighbour counts with an attention weight of ours, a_ij = w_ij / (1 + Σ_k w_ik) with
    w_ij = f_c(r_ij) σ(q_i · k_ij): it vanishes at the cutoff, and an atom without neighbours has none to attend to.
    """

    Hypers = MomentsHypers
    bonds_from_geometry = True

    hypers: MomentsHypers

    def __init__(self, hypers: MomentsHypers) -> None:
        super().__init__(hypers)
        self.cutoff = hypers.cutoff
        width = hypers.channels
        self.element = nn.Embedding(119, width)  # atomic numbers 0 (none) to 118
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width + hypers.radial, width)
        self.radial = nn.Linear(hypers.radial, width, bias=False)
        self.scalar = nn.Sequential(nn.Linear(4 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.vector = nn.Linear(width, width, bias=False)
        self.tensor = nn.Linear(width, width, bias=False)

    @classmethod
    def provides(cls, hypers: MomentsHypers) -> Provides:
        """Atoms 32x0e+32x1o+32x2e, bonds 8x0e+8x1o by default."""
        c, n = hypers.channels, hypers.radial
        return Provides(o3.Irreps(f"{c}x0e+{c}x1o+{c}x2e"), o3.Irreps(f"{n}x0e+{n}x1o"))

    def edges(self, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Envelope (E, 1), radial basis × envelope (E, n), direction (E, 3)."""
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        envelope = polynomial_envelope(distance, self.cutoff).unsqueeze(-1)
        radial = bessel_basis(distance, self.cutoff, self.hypers.radial) * envelope
        return envelope, radial, vectors / distance.unsqueeze(-1)

    def bonds(self, batch: CrystalBatch) -> Features:
        """8x0e+8x1o: radial basis × envelope, and that × the direction."""
        _, radial, direction = self.edges(batch)
        return Features.from_cartesian(radial, radial.unsqueeze(1) * direction.unsqueeze(2))

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the atoms and bonds."""
        envelope, radial, direction = self.edges(batch)
        element = self.element(batch.numbers)
        neighbour = element[batch.src]
        key = self.key(torch.cat([neighbour, radial], dim=-1))
        match = (self.query(element)[batch.dst] * key).sum(dim=-1, keepdim=True) / key.shape[-1] ** 0.5
        weight = envelope * torch.sigmoid(match)
        attention = weight / (1 + batch.sum_to_atoms(weight))[batch.dst]
        density = attention * neighbour * self.radial(radial)
        square = direction.unsqueeze(2) * direction.unsqueeze(1) - torch.eye(3).to(direction) / 3
        s = batch.sum_to_atoms(density)
        v = batch.sum_to_atoms(direction.unsqueeze(2) * density.unsqueeze(1))
        t = batch.sum_to_atoms(square.unsqueeze(3) * density[:, None, None])
        power = [element, s, v.square().sum(dim=1), t.square().sum(dim=(1, 2))]
        scalars = element + self.scalar(torch.cat(power, dim=-1))
        return Embedding(Features.from_cartesian(scalars, self.vector(v), self.tensor(t)), self.bonds(batch))
