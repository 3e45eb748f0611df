"""Labels of crystals beside the tensor that is the target: Born charges, means, band gap, and the level of theory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.data.crystals import CrystalStore


@dataclass(frozen=True)
class Labels:
    """Labels of n crystals with N atoms in all, NaN where there is none.

    Attributes:
        level: (n,) int64, the level of theory, by its number in `zoo.contract.level_of_theory.LEVELS`.
        band_gap: (n,) float32, eV.
        means: (n, 3) float32, a third of the trace of each part of a joint target that is known by it alone.
        born: (N, 3, 3) float32, e, one crystal after another; None where the target is no joint one.
    """

    level: Tensor
    band_gap: Tensor
    means: Tensor
    born: Tensor | None = None

    @classmethod
    def of(cls, stores: Sequence[CrystalStore]) -> Labels:
        """Collect those of several sources, one after another."""

        def column(name: str) -> np.ndarray:
            return np.concatenate([store.facts[name] for store in stores])

        born = None
        if stores[0].target.parts:
            born = torch.from_numpy(np.concatenate(list(_born(stores)))).float()
        return cls(
            torch.from_numpy(column("level").astype(np.int64)),
            torch.from_numpy(column("band_gap")).float(),
            torch.from_numpy(column("means")).float(),
            born,
        )

    def read(self, crystals: np.ndarray, atoms: np.ndarray) -> dict[str, Tensor]:
        """By name the labels of some crystals and of their atoms, which are given by their numbers."""
        rows = torch.from_numpy(crystals)
        found = {"band_gap": self.band_gap[rows], "means": self.means[rows]}
        if self.born is not None:
            found["born"] = self.born[torch.from_numpy(atoms)]
        return found


def _born(stores: Sequence[CrystalStore]) -> Iterator[np.ndarray]:
    return (store.born(i) for store in stores for i in range(len(store)))
