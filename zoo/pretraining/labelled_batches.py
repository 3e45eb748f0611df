"""Labelled crystals for a training step: what energies, forces and stress are asked of, and what Φv is asked of."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.contract.batch import CrystalBatch
from zoo.graphs.graph import CrystalGraph, collate
from zoo.graphs.store import GraphStore
from zoo.phonons.force_constants import ForceConstants
from zoo.pretraining.labelled_store import LabelledCrystals
from zoo.pretraining.pretraining_config import Loss
from zoo.pretraining.soft_directions import FARTHEST, soft_direction, step_along
from zoo.storage.cache import give_back
from zoo.training.batches import Batches

OF_ATOMS = {"atomic_energies", "forces"}
"""Labels that each atom has."""


@dataclass(frozen=True)
class Bent:
    """B crystals in two geometries each, x + hv, then x - hv of all, and what their force constants say of v.

    Attributes:
        crystals: 2B crystals.
        product: (N, 3) Φv, eV/Å², of the atoms of the B crystals; the label.
        step: (N, 1) h of each atom's crystal, Å.
    """

    crystals: CrystalBatch
    product: Tensor
    step: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Bent:
        """Move all to a device."""
        product, step = (x.to(device, non_blocking=non_blocking) for x in (self.product, self.step))
        return Bent(self.crystals.to(device, non_blocking=non_blocking), product, step)

    def pinned(self) -> Bent:
        """In memory from which a GPU fetches it while the processor goes on."""
        return Bent(self.crystals.pin_memory(), self.product.pin_memory(), self.step.pin_memory())


@dataclass(frozen=True)
class LabelledBatch:
    """Crystals of a step by what is asked of them; a crystal with labels of both kinds is in both.

    Attributes:
        crystals: those with an energy, forces or a stress that is used; None where there are none.
        labels: of these, `energy` (B,) eV, `atomic_energies` (N,) eV, `forces` (N, 3) eV/Å, `stress` (B, 3, 3) eV/Å³,
            NaN where there is none.
        bent: those with force constants, where these are used; None where there are none.
        weights: by label that of its mean error, as in `zoo.training.batches.Batch`.
        indices: of the crystals of this batch among the samples.
    """

    crystals: CrystalBatch | None
    labels: Mapping[str, Tensor]
    bent: Bent | None
    weights: Mapping[str, float]
    indices: Sequence[int]

    def pinned(self) -> LabelledBatch:
        """In memory from which a GPU fetches it while the processor goes on."""
        return dataclasses.replace(
            self,
            crystals=None if self.crystals is None else self.crystals.pin_memory(),
            labels={name: label.pin_memory() for name, label in self.labels.items()},
            bent=None if self.bent is None else self.bent.pinned(),
        )


@dataclass(frozen=True)
class LabelledSamples:
    """The labelled crystals of a pretraining, as `zoo.training.batches.Batches` wants them.

    Attributes:
        graphs: one a crystal, with the edges that a displacement may bring within the cutoff (`margin`).
        crystals: the same crystals with their labels.
        loss: says which labels are used, and how v is drawn.
        dtype: of what is computed.
    """

    graphs: GraphStore
    crystals: LabelledCrystals
    loss: Loss
    dtype: torch.dtype
    per_atom = False

    def labelled(self, indices: Sequence[int] | np.ndarray) -> Counter[str]:
        """By label that is used the number of its components in these crystals."""
        facts = self.crystals.facts[np.asarray(indices, dtype=np.int64)]
        counts = {
            "energy": np.isfinite(facts["energy"]).sum(),
            "atomic_energies": facts["n_atoms"][facts["atomic_energies"]].sum(),
            "forces": 3 * facts["n_atoms"][facts["forces"]].sum(),
            "stress": np.isfinite(facts["stress"]).sum(),
            "force_constants": 3 * facts["n_atoms"][curved(facts)].sum(),
        }
        return Counter({name: int(counts[name]) for name in self.loss.used})

    def load(
        self,
        indices: Sequence[int],
        rows: np.ndarray,
        weights: Mapping[str, float],
        draw: tuple[int, ...] | None = None,
    ) -> LabelledBatch:
        """The crystals of these indices from the files; v depends on the crystal and on `draw` (seed, epoch) alone."""
        used, chosen = self.loss.used, np.asarray(indices, dtype=np.int64)
        facts = self.crystals.facts[chosen]
        wanted = np.zeros(len(chosen), dtype=bool)
        if "energy" in used:
            wanted |= np.isfinite(facts["energy"])
        for name in OF_ATOMS & set(used):
            wanted |= facts[name]
        if "stress" in used:
            wanted |= np.isfinite(facts["stress"]).all(axis=(1, 2))
        plain = chosen[wanted].tolist()
        labels = {}
        if plain:
            arrays = {"energy": facts["energy"][wanted], "stress": facts["stress"][wanted]}
            for name in OF_ATOMS & set(used):
                arrays[name] = np.concatenate([self.crystals.of_atoms(name, i) for i in plain])
            labels = {name: torch.from_numpy(arrays[name]).to(self.dtype) for name in arrays if name in used}
        soft = chosen[curved(facts)].tolist() if "force_constants" in used else []
        batch = LabelledBatch(
            collate([self.graphs[i] for i in plain], self.dtype) if plain else None,
            labels,
            self._bent(soft, draw) if soft else None,
            weights,
            list(indices),
        )
        give_back()
        return batch

    def _bent(self, indices: list[int], draw: tuple[int, ...] | None) -> Bent:
        there: list[CrystalGraph] = []
        back: list[CrystalGraph] = []
        products, steps = [], []
        for index in indices:
            constants = ForceConstants.of(self.crystals.force_constants(index))
            name = zlib.crc32(self.crystals.keys[index].encode())
            v = soft_direction(constants, self.loss.softness, np.random.default_rng((name, *(draw or ()))))
            h = step_along(v, self.loss.step)
            graph = self.graphs[index]
            for graphs, sign in ((there, 1), (back, -1)):
                graphs.append(dataclasses.replace(graph, positions=graph.positions + sign * h * v))
            products.append((constants.matrix @ v.ravel()).reshape(-1, 3))
            steps.append(np.full((len(v), 1), h))
        product, step = (torch.from_numpy(np.concatenate(parts)).to(self.dtype) for parts in (products, steps))
        return Bent(collate([*there, *back], self.dtype), product, step)

    def batch(self, loaded: LabelledBatch, device: torch.device) -> LabelledBatch:
        """Move what was loaded to `device`."""
        pinned = device.type == "cuda"
        crystals, bent = loaded.crystals, loaded.bent
        return dataclasses.replace(
            loaded,
            crystals=None if crystals is None else crystals.to(device, non_blocking=pinned),
            labels={name: label.to(device, non_blocking=pinned) for name, label in loaded.labels.items()},
            bent=None if bent is None else bent.to(device, non_blocking=pinned),
        )


class LabelledBatches(Batches):
    """Batches of labelled crystals: with a seed v is drawn anew in each epoch, without it is that of the crystal."""

    def load(self, indices: Sequence[int], rows: np.ndarray, weights: Mapping[str, float]) -> Any:
        """The crystals of these indices from the files."""
        assert isinstance(self.samples, LabelledSamples)
        draw = None if self.seed is None else (self.seed, self.epoch)
        return self.samples.load(indices, rows, weights, draw)


def curved(facts: np.ndarray) -> np.ndarray:
    """(n,) bool: which crystals have force constants that say something: a cell of one atom has none at Γ."""
    return np.asarray((facts["force_constants"] >= 0) & (facts["n_atoms"] > 1))


def margin(loss: Loss) -> float:
    """Å beyond the cutoff that graphs must reach, as two atoms may come nearer by that when they are displaced."""
    return 2 * FARTHEST * loss.step if "force_constants" in loss.used else 0.0
