"""Force constants at Γ of crystals, by displacements, from the energy of any potential.

Φ = ∂²E/∂r∂r per cell with all periodic images moving together, in eV/Å², at the geometry that is given. In float64: by
central differences of forces for displacements of 0.01 Å. Exact second derivatives take ten times as long with
SevenNet (`python benchmarks/force_constants.py`).

An energy that was trained without parity differs for a crystal x and its inverted image -x. The force constants are
those of the mean of the two energies, Φ₊ = (Φ(x) + Φ(-x))/2, which is exact under O(3): where the space group has an
improper operation g the image is the crystal itself, turned, so that Φ(x) of the proper operations, averaged over the
full group, is Φ₊; elsewhere both are computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zoo.contract.plugin import Encoder
from zoo.contract.potential import forces_of
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import CrystalGraph, collate, crystal_graphs, size_sorted
from zoo.phonons.displacements import Displacement, SpaceGroup, assemble, displacements

STEP = 0.01
"""Å, the length of a displacement."""

MAX_ATOMS = 200
"""Atoms of the largest cell: time grows with the square of their number, memory with that, too."""

LARGE_FORCE = 0.1
"""eV/Å: where a force on an atom exceeds it, the geometry is not the potential's, and Φ is uncertain."""

EDGES_PER_BATCH = 6_000  # in float64; more does not make it faster on a CPU


@dataclass(frozen=True)
class ForceConstants:
    """Force constants at Γ of one crystal with N atoms.

    Attributes:
        matrix: (3N, 3N) eV/Å², row 3κ+α for atom κ and direction α; symmetric, with the acoustic sum rule.
        eigenvalues: (3N,) eV/Å², ascending, without masses; the three of the rigid translations are zero.
        eigenvectors: (3N, 3N), in columns.
        largest_force: eV/Å, the largest force on an atom at the given geometry.
    """

    matrix: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    largest_force: float

    @classmethod
    def of(cls, matrix: np.ndarray, largest_force: float = 0.0) -> ForceConstants:
        """Symmetrise a (3N, 3N) matrix, impose the acoustic sum rule, and decompose it."""
        projected = without_translations(matrix)
        values, vectors = np.linalg.eigh(projected)
        return cls(projected, values, vectors, largest_force)


def without_translations(matrix: np.ndarray) -> np.ndarray:
    """P (Φ + Φᵀ)/2 P, P the projector orthogonal to the three rigid translations: the acoustic sum rule."""
    n = len(matrix) // 3
    blocks = (0.5 * (matrix + matrix.T)).reshape(n, 3, n, 3)
    blocks = blocks - blocks.mean(axis=0, keepdims=True)
    blocks = blocks - blocks.mean(axis=2, keepdims=True)
    out = blocks.reshape(3 * n, 3 * n)
    return 0.5 * (out + out.T)


@dataclass(frozen=True)
class _Plan:
    """One crystal's displacements.

    Attributes:
        graph: its graph, with all edges that a displacement may bring within the cutoff.
        full: all operations of its space group.
        used: those that the displacements were chosen by.
        made: the displacements.
        images: 1, or 2 where the inverted image is computed, too.
    """

    graph: CrystalGraph
    full: SpaceGroup
    used: SpaceGroup
    made: list[Displacement]
    images: int

    @classmethod
    def of(cls, crystal: Crystal, graph: CrystalGraph, chiral: bool) -> _Plan:
        full = SpaceGroup.of(crystal)
        used = full.proper() if chiral else full
        images = 2 if chiral and not full.improper.any() else 1
        return cls(graph, full, used, displacements(used), images)

    def replicas(self) -> Iterator[tuple[int, np.ndarray]]:
        """The atom and the vector (3,) Å of each displacement; the opposite one only where no operation gives it."""
        for one in self.made:
            yield one.atom, STEP * one.direction
            if one.opposite is None:
                yield one.atom, -STEP * one.direction

    def matrix(self, forces: Iterator[np.ndarray]) -> tuple[np.ndarray, float]:
        """Φ and the largest force, from the forces (N, 3) of all replicas of one image after the other."""
        images, largest = [], 0.0
        for _ in range(self.images):
            columns = []
            for one in self.made:
                there = next(forces)
                if one.opposite is None:
                    back = next(forces)
                else:
                    back = np.empty_like(there)
                    back[self.used.moves[one.opposite]] = there @ self.used.rotations[one.opposite].T
                columns.append((back - there) / (2 * STEP))
                largest = max(largest, float(np.linalg.norm(there + back, axis=1).max() / 2))
            images.append(assemble(self.used, self.made, np.stack(columns)))
        return self.full.average(np.mean(images, axis=0)), largest


def force_constants(potential: Encoder, crystals: Sequence[Crystal]) -> list[ForceConstants]:
    """Force constants of crystals, some hundred at most at a time, by a potential in float64 on its device.

    Args:
        potential: an encoder that provides an energy, in eval mode, with parameters of float64.
        crystals: of at most `MAX_ATOMS` atoms each, of elements that the potential knows.

    Raises:
        ZooError: a crystal is too large, or the energy has no finite derivative.
    """
    for crystal in crystals:
        refuse_size(len(crystal.numbers))
    graphs = crystal_graphs(crystals, potential.cutoff + 2 * STEP)
    plans = [
        _Plan.of(crystal, graph, potential.energy_is_chiral) for crystal, graph in zip(crystals, graphs, strict=True)
    ]
    found = iter(_forces(potential, plans))
    return [ForceConstants.of(*plan.matrix(found)) for plan in plans]


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


def _forces(potential: Encoder, plans: Sequence[_Plan]) -> list[np.ndarray]:
    """(N, 3) forces of each replica of each plan, in order, computed in batches of like size."""
    replicas = [
        (plan.graph, sign, *move) for plan in plans for sign in (1, -1)[: plan.images] for move in plan.replicas()
    ]
    device = next(iter(potential.parameters())).device
    out: list[np.ndarray] = [np.zeros(0)] * len(replicas)
    for chosen in size_sorted([len(graph.src) for graph, *_ in replicas], EDGES_PER_BATCH):
        moved = [_moved(*replicas[i]) for i in chosen]
        forces = forces_of(potential, collate(moved, dtype=torch.float64).to(device)).cpu().numpy()
        if not np.isfinite(forces).all():
            raise ZooError("the potential gives no finite forces: look for atoms in the same place")
        ends = np.cumsum([len(graph.numbers) for graph in moved])
        for i, part in zip(chosen, np.split(forces, ends[:-1]), strict=True):
            out[i] = part
    return out


def _moved(graph: CrystalGraph, sign: int, atom: int, vector: np.ndarray) -> CrystalGraph:
    """A crystal, or with sign -1 its inverted image, with one atom displaced."""
    positions = sign * graph.positions
    positions[atom] += vector
    return dataclasses.replace(graph, positions=positions, cell=sign * graph.cell)


def iterate(potential: Encoder, crystals: Iterable[Crystal], at_once: int) -> Iterator[ForceConstants]:
    """`force_constants` of any number of crystals, of which about `at_once` atoms are in memory."""
    waiting: list[Crystal] = []
    for crystal in crystals:
        waiting.append(crystal)
        if sum(len(one.numbers) for one in waiting) >= at_once:
            yield from force_constants(potential, waiting)
            waiting = []
    if waiting:
        yield from force_constants(potential, waiting)
