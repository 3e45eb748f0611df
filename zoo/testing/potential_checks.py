"""Tests that an encoder must pass to be trained as a potential: `PotentialTests`, or the single checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from torch import Tensor

from zoo.config import plugins
from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder
from zoo.contract.potential import HasEnergy, Potential, energies_of
from zoo.graphs.graph import collate, crystal_graph
from zoo.testing.compare import orthogonal_matrices, rotate_crystal, rotate_tensor
from zoo.testing.pair import default_dtype, shake
from zoo.testing.prototypes import varied
from zoo.testing.symmetry_checks import repeated

STEP = 1e-4  # Å, of the finite differences: their own error is of the order of its square
EXACT = 1e-10


@dataclass(frozen=True)
class EncoderWithEnergy:
    """An encoder under an energy head, in float64 and eval mode, its weights drawn at random.

    Attributes:
        encoder: a class, or the name of a registered one.
        hypers: what a recipe would say beside its name.
    """

    encoder: type[Encoder] | str
    hypers: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def potential(self) -> Potential:
        """The model."""
        made = plugins.load("encoder", self.encoder) if isinstance(self.encoder, str) else self.encoder
        with torch.random.fork_rng(devices=[]), default_dtype(torch.float64):
            torch.manual_seed(0)
            model = Potential(made(made.Hypers(**self.hypers)), width=16).double().eval()
            shake(model)
        return model

    def batch(self, structures: list[Structure]) -> CrystalBatch:
        """Graphs up to the encoder's cutoff, float64."""
        return collate([crystal_graph(s, self.potential.encoder.cutoff) for s in structures], torch.float64)


def check_forces(model: EncoderWithEnergy) -> None:
    """Forces and stress are the derivatives of the energy: against central differences, the graph built anew."""
    structure = repeated(varied()[0], (1, 1, 1))
    out = model.potential(model.batch([structure]))
    scale = out.forces.abs().max()
    assert scale > 0, "no force on any atom of a triclinic crystal: the energy does not depend on the positions"

    @torch.no_grad()
    def energy(moved: Structure) -> float:
        return float(model.potential.energy(model.batch([moved])))

    def displaced(atom: int, axis: int, step: float) -> Structure:
        positions = structure.cart_coords.copy()
        positions[atom, axis] += step
        return Structure(structure.lattice, structure.species, positions, coords_are_cartesian=True, to_unit_cell=False)

    for atom in range(min(2, len(structure))):
        for axis in range(3):
            slope = (energy(displaced(atom, axis, STEP)) - energy(displaced(atom, axis, -STEP))) / (2 * STEP)
            error = abs(out.forces[atom, axis].item() + slope) / scale
            assert error < 1e-5, f"the force on atom {atom} is not minus the slope of the energy: off by {error:.1e}"
    for i, j in ((0, 0), (1, 2)):

        def strained(step: float, i: int = i, j: int = j) -> Structure:
            strain = np.eye(3)
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            lattice = Lattice(structure.lattice.matrix @ strain)
            return Structure(lattice, structure.species, structure.frac_coords, to_unit_cell=False)

        slope = (energy(strained(STEP)) - energy(strained(-STEP))) / (2 * STEP) / structure.volume
        error = abs(out.stress[0, i, j].item() - slope) / out.stress.abs().max()
        assert error < 1e-5, f"stress component {i}{j} is not the slope of the energy: off by {error:.1e}"


def check_energy_symmetry(model: EncoderWithEnergy) -> None:
    """The energy is invariant, forces and stress turn with the crystal, a supercell has twice the energy."""
    crystals = varied()
    batch = model.batch(crystals)
    before = model.potential(batch)
    for R in orthogonal_matrices(2, seed=7):
        after = model.potential(model.batch([rotate_crystal(s, R) for s in crystals]))
        pairs = (
            ("energy", after.energy, before.energy),
            ("forces", after.forces, before.forces @ R.T),
            ("stress", after.stress, rotate_tensor(before.stress, R)),
        )
        for what, got, expected in pairs:
            error = ((got - expected).abs().max() / expected.abs().max()).item()
            assert error < EXACT, f"{what} does not turn with the crystal: off by {error:.1e}"
    double = model.potential.energy(model.batch([repeated(s, (2, 1, 1)) for s in crystals]))
    error = ((double - 2 * before.energy).abs() / before.energy.abs()).max().item()
    assert error < EXACT, f"the energy of a 2×1×1 supercell is not twice that of the cell: off by {error:.1e}"


def check_smooth_energy(model: EncoderWithEnergy) -> None:
    """Energy and forces do not jump where an edge crosses the cutoff, beside the change over a longer way."""
    cutoff = model.potential.encoder.cutoff

    def at(length: float) -> CrystalBatch:
        lattice = Lattice([[length, 0, 0], [0.61, 0.83 * cutoff, 0], [0.32, 0.71, 0.87 * cutoff]])
        return model.batch([Structure(lattice, ["Ti", "O"], np.array([[0, 0, 0], [0.41, 0.53, 0.37]]))])

    counts = [len(at(cutoff + d).src) for d in (-1e-6, 1e-6)]
    assert counts[0] > counts[1], "no edge crosses the cutoff: is every edge up to it in the graph?"

    def change(half: float) -> tuple[float, float]:
        before, after = (model.potential(at(cutoff + d)) for d in (-half, half))
        forces = (after.forces - before.forces).norm() / before.forces.norm()
        energy = (after.energy - before.energy).abs() / before.energy.abs()
        return energy.item(), forces.item()

    for what, jump, slope in zip(("energy", "force"), change(1e-6), change(1e-3), strict=True):
        assert jump <= 0.05 * slope + 1e-11, (
            f"the {what} jumps when a bond crosses the cutoff: by {jump:.1e} over 2e-6 Å, "
            f"beside {slope:.1e} over 2e-3 Å"
        )


def check_second_derivative(model: EncoderWithEnergy) -> None:
    """A loss on forces can be trained: in training mode the forces have finite gradients, cubic crystals included."""
    crystals = [varied()[0], Structure(Lattice.cubic(2.913), ["O"], [[0, 0, 0]])]
    model.potential.train()
    try:
        out = model.potential(model.batch(crystals))
        loss = out.energy.square().sum() + out.forces.square().sum() + out.stress.square().sum()
        names, parameters = zip(*model.potential.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        model.potential.eval()
    bad = [n for n, g in zip(names, gradients, strict=True) if g is not None and not g.isfinite().all()]
    assert not bad, f"gradients of a loss on energy, forces and stress are not finite: {', '.join(bad)}"


def check_atomic_energies(potential: HasEnergy, batch: CrystalBatch) -> None:
    """The energies of the atoms, where the potential tells them, add up to its energy of each crystal.

    Args:
        potential: in float64 and eval mode.
        batch: float64.
    """
    summed, atomic = energies_of(potential, batch)
    if atomic is not None:
        assert atomic.shape == (batch.n_atoms,), f"energies of {batch.n_atoms} atoms have shape {tuple(atomic.shape)}"
        error = ((summed - potential.energy(batch)).abs() / summed.abs()).max().item()
        assert error < EXACT, f"the energies of the atoms do not add up to that of the crystal: off by {error:.1e}"


def check_hessian(potential: HasEnergy, batch: CrystalBatch) -> None:
    """Second derivatives by positions and strain are the slopes of the first ones, by central differences of these.

    One direction, drawn at random, in which all atoms move and the cell is strained.

    Args:
        potential: in float64 and eval mode.
        batch: float64, without a strain; crystals of high symmetry belong in it.
    """
    generator = torch.Generator().manual_seed(0)
    move = torch.randn(batch.positions.shape, generator=generator, dtype=torch.float64)
    strain = 0.1 * torch.randn(batch.cell.shape, generator=generator, dtype=torch.float64)

    def slopes(step: float, create_graph: bool = False) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        at = ((batch.positions + step * move).requires_grad_(), (step * strain).requires_grad_())
        energy = potential.energy(dataclasses.replace(batch, positions=at[0], strain=at[1])).sum()
        found = torch.autograd.grad(energy, at, create_graph=create_graph, materialize_grads=True)
        return at, (found[0], found[1])

    at, first = slopes(0.0, create_graph=True)
    along = (first[0] * move).sum() + (first[1] * strain).sum()
    second = torch.autograd.grad(along, at, materialize_grads=True)
    _, without_graph = slopes(0.0)
    for what, a, b in zip(("the positions", "the strain"), first, without_graph, strict=True):
        error = ((a - b).abs().max() / b.abs().max()).item()
        assert error < EXACT, f"the slopes by {what} are others where they can be differentiated: off by {error:.1e}"
    (_, plus), (_, minus) = slopes(STEP / 10), slopes(-STEP / 10)
    for what, exact, up, down in zip(("the positions", "the strain"), second, plus, minus, strict=True):
        assert exact.isfinite().all(), f"second derivatives by {what} are not finite"
        difference = (up - down) / (2 * STEP / 10)
        error = ((exact - difference).abs().max() / difference.abs().max()).item()
        assert error < 1e-5, f"second derivatives by {what} are not the slopes of the first: off by {error:.1e}"


class PotentialTests:
    """Subclass it, name the encoder, and pytest runs all checks.

    class TestMine(PotentialTests):
        model = EncoderWithEnergy("mine", {"channels": 8})
    """

    # ruff: noqa: D102 (each test is documented by its check)

    model: ClassVar[EncoderWithEnergy]

    def test_forces(self) -> None:
        check_forces(self.model)

    def test_energy_symmetry(self) -> None:
        check_energy_symmetry(self.model)

    def test_smooth_energy(self) -> None:
        check_smooth_energy(self.model)

    def test_second_derivative(self) -> None:
        check_second_derivative(self.model)

    def test_hessian(self) -> None:
        cubic = Structure(Lattice.cubic(2.913), ["O"], [[0, 0, 0]])
        check_hessian(self.model.potential, self.model.batch([*varied(), cubic]))
