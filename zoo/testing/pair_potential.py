"""A potential of pairs of atoms, so cheap that its exact second derivatives are: force constants for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from e3nn import o3
from pydantic import PositiveFloat
from torch import Tensor

from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Features
from zoo.contract.plugin import Encoder, Hypers, Provides
from zoo.contract.radial import polynomial_envelope
from zoo.phonons.force_constants import ForceConstants
from zoo.storage.cache import content_key

WIDTH = 1.2
"""1/Å, how fast the pair energy rises on either side of its minimum."""


class PairPotentialHypers(Hypers):
    """Hyperparameters of `PairPotential`."""

    cutoff: PositiveFloat = 4.3
    """Å, where the energy of a pair has gone to zero, with its first two derivatives."""

    depth: PositiveFloat = 1.0
    """eV, about the energy of a pair at its best distance."""


class PairPotential(Encoder):
    """E = ½ Σ φ(r) over pairs, φ the function of P. M. Morse, Phys. Rev. 34, 57 (1929), eq. (4), times an envelope.

    Depth and distance of the minimum depend on both elements, all of which it knows; a crystal is not at rest in it.
    Invariant under O(3) to rounding, smooth at the cutoff. Nothing in it is fitted to anything.
    """

    Hypers = PairPotentialHypers
    pretrained = True

    hypers: PairPotentialHypers

    def __init__(self, hypers: PairPotentialHypers) -> None:
        super().__init__(hypers)
        self.cutoff = hypers.cutoff
        number = torch.arange(119, dtype=torch.float64)
        self.radius: Tensor
        self.depth: Tensor
        self.register_buffer("radius", 1.0 + 0.2 * torch.sin(number))
        self.register_buffer("depth", hypers.depth * (1 + 0.4 * torch.cos(2 * number)))

    @classmethod
    def provides(cls, hypers: Any) -> Provides:
        """One invariant, the energy of the atom, and the energy of the crystal."""
        return Provides(o3.Irreps("1x0e"), energy=True)

    def fingerprint(self) -> str:
        """Hash of the hyperparameters."""
        return content_key("pair potential", self.hypers.model_dump())

    def atomic_energies(self, batch: CrystalBatch) -> Tensor:
        """(N,) eV, half of the energy of each pair that an atom is in."""
        batch = batch.within(self.cutoff)
        first, second = batch.numbers[batch.src], batch.numbers[batch.dst]
        distance = batch.edge_vectors().norm(dim=1)
        radius, depth = self.radius.to(distance), self.depth.to(distance)
        beyond = 1 - torch.exp(-WIDTH * (distance - radius[first] - radius[second]))
        pair = (depth[first] * depth[second]).sqrt() * (beyond.square() - 1)
        return batch.sum_to_atoms(0.5 * pair * polynomial_envelope(distance, self.cutoff))

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV."""
        return batch.sum_over_atoms(self.atomic_energies(batch))

    def forward(self, batch: CrystalBatch) -> Embedding:
        """The energies of the atoms, as an invariant feature."""
        return Embedding(Features(o3.Irreps("1x0e"), self.atomic_energies(batch).unsqueeze(1)))


def second_derivatives(potential: Encoder, batch: CrystalBatch) -> list[ForceConstants]:
    """Exact force constants at Γ, by differentiating the energy twice.

    Each crystal's columns are computed beside those of all others: it takes 3N passes, N that of the largest crystal.

    Args:
        potential: provides an energy, which it can differentiate twice.
        batch: of float64, with all edges up to the potential's cutoff.
    """
    counts = batch.atoms_per_crystal()
    first = counts.cumsum(0) - counts
    rows: list[Tensor] = []
    with torch.enable_grad():
        positions = batch.positions.detach().requires_grad_()
        energy = potential.even_energy(dataclasses.replace(batch, positions=positions))
        slope = torch.autograd.grad(energy.sum(), positions, create_graph=True, materialize_grads=True)[0]
        slope = slope + 0 * positions  # of atoms without neighbours, too, there is something to differentiate
        for place in range(int(counts.max())):
            chosen = first[counts > place] + place
            for axis in range(3):
                of_one = slope[chosen, axis].sum()
                rows.append(torch.autograd.grad(of_one, positions, retain_graph=True)[0])
    largest = slope.detach().norm(dim=1)
    return [
        _of_one(torch.stack(rows[: 3 * n])[:, start : start + n].reshape(3 * n, 3 * n), largest[start : start + n])
        for start, n in zip(first.tolist(), counts.tolist(), strict=True)
    ]


def _of_one(matrix: Tensor, forces: Tensor) -> ForceConstants:
    return ForceConstants.of(matrix.cpu().numpy(), float(forces.max()))
