"""A potential whose energy is told of crystals alone, as a plugin that knows nothing of the energies of atoms."""

from __future__ import annotations

from torch import Tensor

from zoo.api import CrystalBatch
from zoo.testing import PairPotential


class PotentialOfSums(PairPotential):
    """The energy of `PairPotential`, without its parts."""

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV."""
        return batch.sum_over_atoms(PairPotential.atomic_energies(self, batch))

    def atomic_energies(self, batch: CrystalBatch) -> None:  # type: ignore[override]
        """There are none."""
