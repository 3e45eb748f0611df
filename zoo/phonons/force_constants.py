"""Force constants at Γ of crystals, by displacements, from the energy of any potential.

Φ = ∂²E/∂r∂r per cell with all periodic images moving together, in eV/Å², at the geometry that is given. In float64: by
central differences of forces for displacements of 0.005 Å. Exact second derivatives, a row at a time, take several
times as long with SevenNet (`python benchmarks/force_constants.py`).

An energy that was trained without parity differs for a crystal and its inverted image. The force constants are those of
the mean of the two (`Encoder.even_energy`), which is exact under O(3), so that improper operations may be used, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from ase.units import GPa

from zoo.contract.plugin import Encoder
from zoo.contract.potential import forces_and_stress, forces_of
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.elements import symbols
from zoo.graphs.graph import CrystalGraph, collate, crystal_graphs, size_sorted
from zoo.graphs.space_group import SpaceGroup
from zoo.phonons.displacements import Displacement, assemble, displacements
from zoo.phonons.modes import without_translations
from zoo.runtime.devices import device_of
from zoo.runtime.threads import cores, in_order

STEP = 0.005
"""Å, the length of a displacement."""

MAX_ATOMS = 200
"""Atoms of the largest cell: time grows with the square of their number, memory with that, too."""

LARGE_FORCE = 0.1
"""eV/Å: where a force on an atom exceeds it, the geometry is not the potential's, and Φ is uncertain."""

USUAL_PRESSURE = (-5.0, 15.0)
"""GPa: below it a cell is stretched, above it compressed. Of 250 crystals of `petousis2017` (PBE) all have less than 1,
of 200 of `petretto2018` (PBEsol, whose cells are smaller) all less than 15, the measured cells of MgO and rutile 5 and
7. In many a cell of a wrong size symmetry lets no force tell."""

LARGEST = 1e9
"""eV/Å²: no crystal's force constants are near it, and beyond it readouts run out of float32."""

SOFT = 0.1
"""eV/Å²: below it an eigenvalue of Φ is within the errors of today's potentials, and the mode may be unstable."""

EDGES_PER_BATCH = 6_000  # in float64; more does not make it faster on a CPU


@dataclass(frozen=True)
class ForceConstants:
    """Force constants at Γ of one crystal with N atoms.

    Attributes:
        matrix: (3N, 3N) eV/Å², row 3κ+α for atom κ and direction α; symmetric, with the acoustic sum rule.
        eigenvalues: (3N,) eV/Å², ascending, without masses; the three of the rigid translations are zero.
        eigenvectors: (3N, 3N), in columns.
        largest_force: eV/Å, the largest force on an atom at the given geometry.
        pressure: GPa, at the given geometry, above zero where the cell would expand; NaN where it is not known.
    """

    matrix: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    largest_force: float
    pressure: float = float("nan")

    @property
    def softest(self) -> float | None:
        """The lowest eigenvalue but for the rigid translations, eV/Å²; None for one atom."""
        n = len(self.eigenvalues) // 3
        if n == 1:
            return None
        # Translations are exact eigenvectors, but among degenerate zeros eigh may mix them: push them up instead.
        translation = np.tile(np.eye(3), (n, 1)) / n**0.5
        lifted = self.matrix + (1 + self.eigenvalues[-1]) * translation @ translation.T
        return float(np.linalg.eigvalsh(lifted)[0])

    @classmethod
    def of(cls, matrix: np.ndarray, largest_force: float = 0.0, pressure: float = float("nan")) -> ForceConstants:
        """Symmetrise a (3N, 3N) matrix, impose the acoustic sum rule, and decompose it."""
        projected = without_translations(0.5 * (matrix + matrix.T))
        projected = 0.5 * (projected + projected.T)  # exactly, after rounding
        values, vectors = np.linalg.eigh(projected)
        return cls(projected, values, vectors, largest_force, pressure)


@dataclass(frozen=True)
class _Plan:
    """One crystal's displacements.

    Attributes:
        graph: its graph, with all edges that a displacement may bring within the cutoff.
        group: its space group.
        made: the displacements.
    """

    graph: CrystalGraph
    group: SpaceGroup
    made: list[Displacement]

    @classmethod
    def of(cls, crystal: Crystal, graph: CrystalGraph) -> _Plan:
        group = SpaceGroup.of(crystal)
        return cls(graph, group, displacements(group))

    def replicas(self) -> Iterator[CrystalGraph]:
        """The crystal after each displacement, and after the opposite one where no operation gives its forces."""
        for one in self.made:
            for sign in (1, -1) if one.opposite is None else (1,):
                positions = self.graph.positions.copy()
                positions[one.atom] += sign * STEP * one.direction
                yield dataclasses.replace(self.graph, positions=positions)

    def matrix(self, forces: Iterator[np.ndarray]) -> tuple[np.ndarray, float]:
        """Φ and the largest force, from the forces (N, 3) of all replicas in their order."""
        columns, largest = [], 0.0
        for one in self.made:
            there = next(forces)
            if one.opposite is None:
                back = next(forces)
            else:
                back = np.empty_like(there)
                back[self.group.moves[one.opposite]] = there @ self.group.rotations[one.opposite].T
            columns.append((back - there) / (2 * STEP))
            largest = max(largest, float(np.linalg.norm(there + back, axis=1).max() / 2))
        return self.group.average(assemble(self.group, self.made, np.stack(columns))), largest


def force_constants(potential: Encoder, crystals: Sequence[Crystal]) -> list[ForceConstants]:
    """Force constants of crystals, some hundred at most at a time, by a potential in float64 on its device.

    Args:
        potential: an encoder that provides an energy, in eval mode, with parameters of float64.
        crystals: of at most `MAX_ATOMS` atoms each, of elements that the potential knows.

    Raises:
        ZooError: a crystal is too large, or the energy has no finite derivative, or one above `LARGEST`; its formula is
            named.
    """
    for crystal in crystals:
        refuse_size(len(crystal.numbers))
    graphs = crystal_graphs(crystals, potential.cutoff + 2 * STEP)
    plans = [_Plan.of(crystal, graph) for crystal, graph in zip(crystals, graphs, strict=True)]
    found = iter(_forces(potential, plans))
    pressures = _pressures(potential, [plan.graph for plan in plans])
    return [_decomposed(plan, found, float(value)) for plan, value in zip(plans, pressures, strict=True)]


def force_constants_each(potential: Encoder, crystals: Sequence[Crystal]) -> list[ForceConstants | ZooError]:
    """`force_constants` of each crystal, or the error that prevented it: one that has none does not fail the others."""
    try:
        return [*force_constants(potential, crystals)]
    except ZooError as error:
        if len(crystals) == 1:
            return [error]
        return [found for crystal in crystals for found in force_constants_each(potential, [crystal])]


def refuse_size(atoms: int) -> None:
    """Check that a cell is not too large.

    Raises:
        ZooError: it is.
    """
    if atoms > MAX_ATOMS:
        raise ZooError(
            f"{atoms:,} atoms in the cell: force constants are computed up to {MAX_ATOMS}, for their cost grows with "
            "the square of that; take the primitive cell (structure.get_primitive_structure() of pymatgen)"
        )


def _pressures(potential: Encoder, graphs: Sequence[CrystalGraph]) -> np.ndarray:
    """(n,) GPa, of crystals at their geometry."""
    found = np.empty(len(graphs))
    for chosen in size_sorted([len(graph.src) for graph in graphs], EDGES_PER_BATCH):
        batch = collate([graphs[i] for i in chosen], dtype=torch.float64).to(device_of(potential))
        stress = forces_and_stress(potential, batch).stress.cpu().numpy()
        found[chosen] = -np.trace(stress, axis1=1, axis2=2) / 3 / GPa
    return found


def _decomposed(plan: _Plan, forces: Iterator[np.ndarray], pressure: float) -> ForceConstants:
    with np.errstate(over="ignore", invalid="ignore"):  # it is told below
        matrix, largest = plan.matrix(forces)
    if not np.abs(matrix).max() < LARGEST:
        raise ZooError(
            f"the potential gives force constants above {LARGEST:g} eV/Å² in {_formula(plan.graph.numbers)}: are two "
            "of its atoms at one place?"
        )
    return ForceConstants.of(matrix, largest, pressure)


def _forces(potential: Encoder, plans: Sequence[_Plan]) -> list[np.ndarray]:
    """(N, 3) forces of each replica of each plan, in order, computed in batches of like size."""
    replicas = [replica for plan in plans for replica in plan.replicas()]
    device = device_of(potential)
    out: list[np.ndarray] = [np.zeros(0)] * len(replicas)
    for chosen in size_sorted([len(graph.src) for graph in replicas], EDGES_PER_BATCH):
        batch = collate([replicas[i] for i in chosen], dtype=torch.float64).to(device)
        forces = forces_of(potential.even_energy, batch).cpu().numpy()
        ends = np.cumsum([len(replicas[i].numbers) for i in chosen])
        for i, part in zip(chosen, np.split(forces, ends[:-1]), strict=True):
            if not np.isfinite(part).all():
                raise ZooError(
                    f"the potential gives no finite forces in {_formula(replicas[i].numbers)}: are two of its atoms at "
                    "one place?"
                )
            out[i] = part
    return out


def _formula(numbers: np.ndarray) -> str:
    """The number of atoms of each element: `O6 Si3`."""
    kinds, counts = np.unique(numbers, return_counts=True)
    return " ".join(f"{symbol}{count}" for symbol, count in zip(symbols(kinds), counts, strict=True))


def iterate(potential: Encoder, crystals: Iterable[Crystal], at_once: int) -> Iterator[ForceConstants]:
    """`force_constants` of any number of crystals, of which about `at_once` atoms are in a piece.

    On a CPU as many pieces are computed at the same time as there are cores, each by one thread: torch's own threads
    gain little on matrices of this size. What comes out does not depend on their number.
    """
    workers = cores() if device_of(potential).type == "cpu" else 1
    for found in in_order(partial(force_constants, potential), _pieces(crystals, at_once), workers):
        yield from found


def _pieces(crystals: Iterable[Crystal], at_once: int) -> Iterator[list[Crystal]]:
    piece: list[Crystal] = []
    for crystal in crystals:
        piece.append(crystal)
        if sum(len(one.numbers) for one in piece) >= at_once:
            yield piece
            piece = []
    if piece:
        yield piece
