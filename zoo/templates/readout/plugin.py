"""A dielectric tensor from the scalars, vectors and tensors of the atoms."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from zoo.api import CrystalBatch, Embedding, Hypers, Needs, Provides, Readout, TensorTarget


class MyPluginHypers(Hypers):
    """Keys that a recipe may give beside the name; anything else is refused with the nearest key."""

    width: Annotated[int, Field(ge=1)] = 64
    """Hidden width of the network on scalars."""


class MyPlugin(Readout):
    """ε = mean over atoms of MLP(s_i) 1 + u_i ⊗ u_i + Σ_c w_c t_ic, with u_i = Σ_c w'_c v_ic.

    Only scalars go through nonlinear functions: vectors and tensors are summed over channels, so the tensor turns with
    the crystal. The mean over atoms makes it intensive.
    """

    Hypers = MyPluginHypers
    citation = ""  # BibTeX of its paper, once there is one: zoo cite prints it
    needs: ClassVar[Needs] = Needs(atoms=("0e", "1o", "2e"))

    def __init__(self, hypers: MyPluginHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        scalars, width = provides.atoms.count("0e"), hypers.width
        self.scalar = nn.Sequential(nn.Linear(scalars, width), nn.SiLU(), nn.Linear(width, 1))
        self.vector = nn.Linear(provides.atoms.count("1o"), 1, bias=False)
        self.tensor = nn.Linear(provides.atoms.count("2e"), 1, bias=False)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        if target.formula != "ij=ji" or target.per_atom or not target.intensive:
            return f"makes one symmetric intensive 3×3 tensor (ij=ji) a crystal, which '{target.name}' is not"
        return None

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3)."""
        atoms = embedding.atoms
        scalar = self.scalar(atoms.scalars()).unsqueeze(-1)  # (N, 1, 1)
        vector = self.vector(atoms.vectors())  # (N, 3, 1)
        tensor = self.tensor(atoms.tensors()).squeeze(-1)  # (N, 3, 3)
        identity = torch.eye(3, dtype=scalar.dtype, device=scalar.device)
        return batch.mean_over_atoms(scalar * identity + vector * vector.transpose(1, 2) + tensor)
