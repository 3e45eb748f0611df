"""Eq. (7) of DTNet's paper as it stands, and what it has to be for a crystal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import silu

from zoo.api import (
    CrystalBatch,
    Embedding,
    Hypers,
    Needs,
    Provides,
    Readout,
    TensorTarget,
    bessel_basis,
    only_symmetric_rank_2,
    polynomial_envelope,
    references,
)
from zoo_painn_rank1.gated import GatedBlock, linear

Positive = Annotated[int, Field(ge=1, le=4096)]


class PaiNNRank1PaperHypers(Hypers):
    """Hyperparameters of `PaiNNRank1Paper`."""

    width: Positive = 64
    """Latent channels of each of scalars and vectors."""


class PaiNNRank1Hypers(PaiNNRank1PaperHypers):
    """Hyperparameters of `PaiNNRank1`."""

    num_bessel: Positive = 8
    """Radial basis functions of the distance that a pair's weight depends on."""

    average_neighbours: Annotated[float, Field(gt=0)] = 32.0
    """Typical number of neighbours within the cutoff: a constant that sums over them are normalised by."""


class PaiNNRank1Paper(Readout):
    """Eq. (7) of DTNet's paper as it is written, for comparison: not a function of the crystal alone.

    ε = Σ_i s(s_i) 1 + ν(v_i)⊗r_i + r_i⊗ν(v_i), with r_i the absolute position, in Å, in the cell that the crystal comes
    in, and s, ν two of PaiNN's gated blocks. Made for molecules, it is another tensor for the same crystal with another
    origin, another choice of unit cell, or an atom written in another cell; see `PaiNNRank1`.
    """

    Hypers = PaiNNRank1PaperHypers
    citation = references("mao2024dtnet", "schuett2021painn")
    needs: ClassVar[Needs] = Needs(atoms=("0e", "1o"))
    violates: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("supercell", "self_images"), "sums over atoms: extensive"),
        **dict.fromkeys(("origin_shift", "lattice_shift", "point_groups", "zero_pattern"), "absolute positions"),
        "anisotropy": "isotropic without polar sites",
    }

    def __init__(self, hypers: PaiNNRank1PaperHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        width = hypers.width
        self.hidden = GatedBlock(provides.atoms.count("0e"), provides.atoms.count("1o"), width, width)
        self.out = GatedBlock(width, width, width, 1)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        return only_symmetric_rank_2(target)

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3)."""
        s, v = self.hidden(embedding.atoms.scalars(), embedding.atoms.vectors())
        s, v = self.out(silu(s), v)
        identity = torch.eye(3, dtype=s.dtype, device=s.device)
        atoms = s.unsqueeze(-1) * identity + symmetric_product(v.squeeze(-1), batch.positions)
        return atoms.new_zeros(batch.n_crystals, 3, 3).index_add(0, batch.crystal, atoms)


class PaiNNRank1(Readout):
    """Eq. (7) of DTNet's paper with relative positions: a tensor out of scalars and vectors that is the crystal's own.

    ε = mean over atoms of s_i 1 + Σ_j f_c(r_ij) (ν_ij⊗r_ij + r_ij⊗ν_ij), ν_ij = W [v_i, v_j] + w(s_i, s_j, r_ij) r_ij,
    after one of PaiNN's gated blocks. The sum runs over all images within the cutoff, r_ij from i to j, under a smooth
    envelope f_c. The term with w is there because vectors alone vanish at every site without a polar direction: layered
    BN would come out isotropic. Mean, envelope and ν_ij are ours.
    """

    Hypers = PaiNNRank1Hypers
    needs: ClassVar[Needs] = Needs(atoms=("0e", "1o"))

    def __init__(self, hypers: PaiNNRank1Hypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        width = hypers.width
        self.hidden = GatedBlock(provides.atoms.count("0e"), provides.atoms.count("1o"), width, width)
        self.scalar = linear(width, 1)
        self.vectors = linear(width, 2, bias=False)  # W: of atom i, of atom j
        # w(s_i, s_j, r_ij), one hidden layer. What it takes of the atoms is made on the atoms: edges outnumber them.
        self.weight_of_atoms = linear(width, 2 * width)
        self.weight_of_distance = linear(hypers.num_bessel, width, bias=False)
        self.weight = linear(width, 1)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        return only_symmetric_rank_2(target)

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3)."""
        s, v = self.hidden(embedding.atoms.scalars(), embedding.atoms.vectors())
        s = silu(s)
        identity = torch.eye(3, dtype=s.dtype, device=s.device)
        atoms = self.scalar(s).unsqueeze(-1) * identity + batch.sum_to_atoms(self.pairs(s, v, batch))
        return batch.mean_over_atoms(atoms)

    def pairs(self, s: Tensor, v: Tensor, batch: CrystalBatch) -> Tensor:
        """(E, 3, 3): f_c(r_ij) (ν_ij⊗r_ij + r_ij⊗ν_ij), normalised; the unit of length is half the cutoff."""
        r = batch.edge_vectors() / (self.cutoff / 2)
        distance = r.norm(dim=1)
        of_i, of_j = self.weight_of_atoms(s).chunk(2, dim=1)
        of_distance = self.weight_of_distance(bessel_basis(distance, 2.0, self.hypers.num_bessel))
        w = self.weight(silu(of_i[batch.dst] + of_j[batch.src] + of_distance))
        of_i, of_j = self.vectors(v).unbind(dim=2)
        nu = of_i[batch.dst] + of_j[batch.src] + w * r
        envelope = polynomial_envelope(distance, 2.0) * self.hypers.average_neighbours**-0.5
        return envelope[:, None, None] * symmetric_product(nu, r)


def symmetric_product(a: Tensor, b: Tensor) -> Tensor:
    """(n, 3), (n, 3) -> (n, 3, 3): a⊗b + b⊗a, symmetric to the last bit."""
    product = a.unsqueeze(2) * b.unsqueeze(1)
    return product + product.transpose(1, 2)
