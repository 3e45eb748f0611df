"""Force constants of the crystals of a batch, for readouts that need them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedForceConstants:
    """Force constants at Γ of B crystals, padded with zeros to the A atoms of the largest.

    They are computed before any training, in float64, from the energy of a frozen potential (`zoo.phonons`).

    Attributes:
        matrix: (B, 3A, 3A) eV/Å², row 3κ+α for atom κ of the crystal and direction α.
        eigenvalues: (B, 3A) eV/Å², without masses; zero where there is no atom.
        eigenvectors: (B, 3A, 3A), in columns; zero where there is no atom.
        atoms: (N,) int64, the place κ of each atom of the batch in its crystal.
        exact: (B,) bool, of which crystals they are those of the labels' own calculation, not a potential's: nothing
            in them is to be corrected. None: of no crystal.
    """

    matrix: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor
    atoms: Tensor
    exact: Tensor | None = None

    @property
    def most_atoms(self) -> int:
        """A."""
        return self.matrix.shape[1] // 3

    def pad(self, values: Tensor, crystal: Tensor) -> Tensor:
        """(N, ...) of atoms -> (B, A, ...), zero where there is no atom; `crystal` is the batch's."""
        out = values.new_zeros((len(self.matrix), self.most_atoms, *values.shape[1:]))
        return out.index_put((crystal, self.atoms), values)

    def each(self, change: Callable[[Tensor], Tensor]) -> PaddedForceConstants:
        """The same with every tensor changed."""
        exact = None if self.exact is None else change(self.exact)
        return PaddedForceConstants(
            change(self.matrix), change(self.eigenvalues), change(self.eigenvectors), change(self.atoms), exact
        )


def places(atoms_per_crystal: Tensor) -> Tensor:
    """(N,) int64, the place of each atom in its crystal, from the (B,) numbers of atoms."""
    first = atoms_per_crystal.cumsum(0) - atoms_per_crystal
    return torch.arange(int(atoms_per_crystal.sum())) - first.repeat_interleave(atoms_per_crystal)
