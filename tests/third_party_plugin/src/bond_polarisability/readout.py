"""The readout `bond-polarisability`."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from zoo.api import (
    CrystalBatch,
    Embedding,
    Hypers,
    Needs,
    Provides,
    Readout,
    TensorTarget,
    bessel_basis,
    polynomial_envelope,
)


class BondPolarisabilityHypers(Hypers):
    """Hyperparameters of `BondPolarisability`."""

    width: Annotated[int, Field(ge=1)] = 64
    """Width of the hidden layer of atoms and of that of bonds."""

    radial: Annotated[int, Field(ge=1)] = 8
    """Radial basis functions of the bond length."""


class BondPolarisability(Readout):
    """ε = mean over atoms of α(s_i) 1 + Σ_j f_c(r_ij) [α_L r̂r̂ᵀ + α_T (1 - r̂r̂ᵀ)]: the bond polarisability model.

    Long, Proc. R. Soc. A 217, 203 (1953): a bond has one polarisability along itself, α_L, and one across, α_T. Here
    both are learned functions of the bond's length, the invariants of its two atoms and, where the encoder gives any,
    the components v_i · r̂ and r̂ · t_i · r̂ of the atom's vectors and tensors along the bond. All atoms and images
    within the encoder's cutoff are bonds, with an envelope f_c.
    """

    Hypers = BondPolarisabilityHypers
    needs: ClassVar[Needs] = Needs(atoms=("0e",))

    def __init__(
        self, hypers: BondPolarisabilityHypers, provides: Provides, cutoff: float, target: TensorTarget
    ) -> None:
        super().__init__(hypers, provides, cutoff, target)
        scalars, width = provides.atoms.count("0e"), hypers.width
        self.atom = nn.Sequential(nn.Linear(scalars, width), nn.SiLU(), nn.Linear(width, 1))
        self.centre = nn.Linear(scalars, width)
        self.neighbour = nn.Linear(scalars, width, bias=False)
        self.length = nn.Linear(hypers.radial, width, bias=False)
        vectors, tensors = provides.atoms.count("1o"), provides.atoms.count("2e")
        self.vector = nn.Linear(vectors, width, bias=False) if vectors else None
        self.tensor = nn.Linear(tensors, width, bias=False) if tensors else None
        self.bond = nn.Linear(width, 2)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        if target.rank != 2 or {str(ir) for _, ir in target.irreps} != {"0e", "2e"}:
            return f"makes symmetric 3×3 tensors (ij=ji) alone, '{target.name}' is {target.formula}"
        if target.per_atom or not target.intensive:
            return f"makes one intensive tensor a crystal, which '{target.name}' is not"
        return None

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3)."""
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        direction = vectors / distance.unsqueeze(-1)
        along = direction.unsqueeze(2) * direction.unsqueeze(1)
        identity = torch.eye(3).to(along)
        scalars = embedding.atoms.scalars()
        envelope = polynomial_envelope(distance, self.cutoff).unsqueeze(-1)
        hidden = self.centre(scalars)[batch.dst] + self.neighbour(scalars)[batch.src]
        hidden = hidden + self.length(bessel_basis(distance, self.cutoff, self.hypers.radial))
        if self.vector is not None:
            hidden = hidden + torch.einsum("eic,ei->ec", self.vector(embedding.atoms.vectors())[batch.dst], direction)
        if self.tensor is not None:
            hidden = hidden + torch.einsum("eijc,eij->ec", self.tensor(embedding.atoms.tensors())[batch.dst], along)
        longitudinal, transverse = (envelope * self.bond(nn.functional.silu(hidden))).unsqueeze(-1).unbind(dim=1)
        bonds = longitudinal.unsqueeze(-1) * along + transverse.unsqueeze(-1) * (identity - along)
        atoms = self.atom(scalars).unsqueeze(-1) * identity + batch.sum_to_atoms(bonds)
        return batch.mean_over_atoms(atoms)
