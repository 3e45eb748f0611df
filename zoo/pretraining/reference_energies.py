"""The start of an energy that is put on an encoder: reference energies of the elements, scale and shift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from zoo.contract.potential import Potential
from zoo.errors import ZooError
from zoo.graphs.elements import symbols
from zoo.pretraining.labelled_batches import LabelledSamples
from zoo.pretraining.labelled_store import LabelledCrystals
from zoo.pretraining.potential_loss import predictions
from zoo.pretraining.trained_potential import TrainedPotential

LOOKED_AT = 32
"""Crystals by which scale and shift are set."""
LARGEST_FACTOR = 100.0
"""Energies of the random start are scaled by no more than that, or its inverse."""


def composition_energies(crystals: LabelledCrystals, indices: Sequence[int]) -> dict[int, float]:
    """By atomic number e_Z, eV, of the least-squares fit E = Σ n_Z e_Z to the energies of some crystals.

    Elements that only occur together share theirs (the solution of smallest norm).

    Raises:
        ZooError: an element of the crystals occurs in none that has an energy.
    """
    known = np.isfinite(crystals.facts["energy"])
    numbers = {i: np.asarray(crystals[i].numbers, dtype=np.int64) for i in indices}
    having = [i for i in indices if known[i]]
    present = {int(z) for found in numbers.values() for z in found}
    elements = np.array(sorted({int(z) for i in having for z in numbers[i]}), dtype=np.int64)
    without = np.array(sorted(present - set(elements.tolist())), dtype=np.int64)
    if len(without):
        raise ZooError(
            f"no crystal with an energy holds {', '.join(symbols(without))}, so there is no reference energy of it: "
            "leave out the crystals that do, or set loss.energy: 0"
        )
    counts = np.stack([(numbers[i][:, None] == elements).sum(axis=0) for i in having]).astype(np.float64)
    fitted = np.linalg.lstsq(counts, crystals.facts["energy"][having], rcond=None)[0]
    return {int(number): float(energy) for number, energy in zip(elements, fitted, strict=True)}


def mean_atomic_energies(crystals: LabelledCrystals, indices: Sequence[int]) -> dict[int, float]:
    """By atomic number the mean energy of its atoms, eV, in those of the crystals that have energies of atoms."""
    having = [i for i in indices if crystals.facts["atomic_energies"][i]]
    numbers = np.concatenate([crystals[i].numbers for i in having])
    energies = np.concatenate([crystals.of_atoms("atomic_energies", i) for i in having])
    return {int(number): float(energies[numbers == number].mean()) for number in np.unique(numbers)}


@torch.no_grad()
def start(potential: TrainedPotential, head: Potential, samples: LabelledSamples, indices: Sequence[int]) -> None:
    """Set the reference energies by the training crystals; scale the rest to the size of their forces, its mean to 0.

    Raises:
        ZooError: as `composition_energies`, where energies are trained on.
    """
    references: dict[int, float] = {}
    if "energy" in samples.loss.used:
        references = composition_energies(samples.crystals, indices)
    if "atomic_energies" in samples.loss.used:
        references |= mean_atomic_energies(samples.crystals, indices)
    for number, energy in references.items():
        head.reference.weight[number] = energy
    chosen = [indices[int(i)] for i in np.linspace(0, len(indices) - 1, min(LOOKED_AT, len(indices)))]
    batch = samples.batch(samples.load(chosen, np.zeros(0), {}), head.reference.weight.device)
    head.eval()
    with torch.enable_grad():
        found = predictions(potential, batch, create_graph=False)
    last = head.atomic_energy[-1]
    assert isinstance(last, nn.Linear)  # for the type checker
    name = next((name for name in ("forces", "force_constants", "stress") if name in found), None)
    if name is not None:
        ours, theirs = (float(x.detach().square().mean().sqrt()) for x in found[name])
        factor = theirs / ours if ours else 1.0
        last.weight.mul_(min(max(factor, 1 / LARGEST_FACTOR), LARGEST_FACTOR))
    if batch.crystals is not None:
        crystals = batch.crystals.within(potential.encoder.cutoff)
        own = head.atomic_energies(crystals) - head.reference(crystals.numbers).squeeze(-1)
        last.bias.sub_(own.mean())
