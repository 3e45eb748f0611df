"""Crystals near a known one: atoms displaced, cell strained, elements exchanged or replaced by those of their group.

A potential that is to be learned from another one's labels must see forces and stresses that are not zero. Each
structure has random numbers of its own, from the crystal's key and its own number: it depends neither on the other
crystals, nor on how many structures are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Element

from zoo.graphs.crystal import Crystal
from zoo.graphs.elements import symbols
from zoo.graphs.graph import CrystalGraph

KINDS = ("rattled", "strained", "rattled and strained", "swapped")
"""Kinds of perturbations, which take turns; the first structure of each crystal is the crystal itself."""

RATTLE = (0.01, 0.3)
"""Å, range of the standard deviation of the displacements along each axis, its logarithm drawn evenly."""

STRAIN = 0.05
"""Largest magnitude of the principal strains; that of each structure is drawn evenly below it."""

LEAST_ATOMS = 8
"""A cell of fewer atoms is repeated before atoms are moved: its images would all move with it."""

CLOSEST = 0.6
"""Smallest distance of two atoms, in units of the sum of their covalent radii; the C≡C bond is at 0.79."""

UNKNOWN_RADIUS = 0.2  # ASE's, where nothing is known


@dataclass(frozen=True)
class Perturbed:
    """A structure made of a crystal.

    Attributes:
        crystal: of the structure.
        kind: `itself`, or one of `KINDS`.
        rattle: Å, standard deviation of the displacements along each axis.
        strain: largest magnitude of the principal strains.
        swap: the elements that changed places (`Na1 Cl5`, of the atoms of these numbers), or the one that was replaced
            and its successor (`Na -> K`); else empty.
    """

    crystal: Crystal
    kind: str
    rattle: float = 0.0
    strain: float = 0.0
    swap: str = ""


def perturbed(
    crystal: Crystal, key: str, count: int, seed: int = 0, elements: frozenset[int] | None = None
) -> Iterator[Perturbed]:
    """Yield the crystal itself and `count - 1` structures near it.

    Args:
        crystal: in equilibrium or not.
        key: name of the crystal, of which the random numbers are made.
        count: number of structures; of more, the first ones are the same.
        seed: another seed gives other structures.
        elements: atomic numbers that may take the place of others; None: all whose radius is known.
    """
    yield Perturbed(crystal, "itself")
    for number in range(1, count):
        text = f"{seed} {number} {key}".encode("utf-8", "backslashreplace")
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()))
        yield _one(crystal, KINDS[(number - 1) % len(KINDS)], random, elements)


def too_close(graph: CrystalGraph) -> bool:
    """Whether two atoms of a structure are closer than `CLOSEST`, as far as the edges of its graph tell."""
    vectors = graph.positions[graph.src] - graph.positions[graph.dst] + graph.shift @ graph.cell
    radii = covalent_radii[graph.numbers]
    return bool((np.linalg.norm(vectors, axis=1) < CLOSEST * (radii[graph.src] + radii[graph.dst])).any())


def _one(crystal: Crystal, kind: str, random: np.random.Generator, elements: frozenset[int] | None) -> Perturbed:
    if kind != "strained":
        crystal = repeated(crystal, LEAST_ATOMS)
    swap = ""
    if kind == "swapped":
        crystal, swap = _swapped(crystal, random, elements)
        if not swap:
            kind = "rattled"  # one element, without others of its group
    rattle = strain = 0.0
    if kind != "strained":
        rattle = float(np.exp(random.uniform(*np.log(RATTLE))))
        crystal = _rattled(crystal, rattle, random)
    if "strained" in kind:
        strain = float(random.uniform(0, STRAIN))
        crystal = _strained(crystal, strain, random)
    return Perturbed(crystal, kind, rattle, strain, swap)


def repeated(crystal: Crystal, atoms: int) -> Crystal:
    """Double a cell along its shortest vector until it holds at least so many atoms."""
    positions, numbers, cell = crystal.positions, crystal.numbers, crystal.cell
    while len(numbers) < atoms:
        axis = int(np.argmin(np.linalg.norm(cell, axis=1).round(6)))  # of equal ones the first, whatever the rounding
        positions = np.concatenate([positions, positions + cell[axis]])
        numbers = np.concatenate([numbers, numbers])
        cell = cell * np.where(np.arange(3) == axis, 2, 1)[:, None]
    return Crystal(positions, numbers, cell)


def _rattled(crystal: Crystal, size: float, random: np.random.Generator) -> Crystal:
    moves = random.normal(scale=size, size=crystal.positions.shape)
    return Crystal(crystal.positions + moves, crystal.numbers, crystal.cell)


def _strained(crystal: Crystal, size: float, random: np.random.Generator) -> Crystal:
    strain = random.normal(size=(3, 3))
    strain = strain + strain.T
    stretch = np.eye(3) + strain * (size / np.abs(np.linalg.eigvalsh(strain)).max())
    return Crystal(crystal.positions @ stretch, crystal.numbers, crystal.cell @ stretch)


def _swapped(crystal: Crystal, random: np.random.Generator, elements: frozenset[int] | None) -> tuple[Crystal, str]:
    """Exchange two atoms, or replace an element, by chance; by what is possible where the other is not."""
    kinds = np.unique(crystal.numbers)
    choices = {int(old): [new for new in _of_group(int(old)) if elements is None or new in elements] for old in kinds}
    choices = {old: like for old, like in choices.items() if like}
    exchange = random.random() < 0.5
    if len(kinds) > 1 and (exchange or not choices):
        return _exchanged(crystal, random)
    if not choices:
        return crystal, ""
    old = int(random.choice(list(choices)))
    return _replaced(crystal, old, int(random.choice(choices[old])))


def _exchanged(crystal: Crystal, random: np.random.Generator) -> tuple[Crystal, str]:
    first = int(random.integers(len(crystal.numbers)))
    second = int(random.choice(np.flatnonzero(crystal.numbers != crystal.numbers[first])))
    numbers = crystal.numbers.copy()
    numbers[[first, second]] = numbers[[second, first]]
    a, b = symbols(crystal.numbers[[first, second]])
    return Crystal(crystal.positions, numbers, crystal.cell), f"{a}{first} {b}{second}"


def _replaced(crystal: Crystal, old: int, new: int) -> tuple[Crystal, str]:
    """All atoms of an element become another, and lengths grow as the sum of the covalent radii does."""
    numbers = np.where(crystal.numbers == old, new, crystal.numbers)
    growth = covalent_radii[numbers].sum() / covalent_radii[crystal.numbers].sum()
    a, b = symbols(np.array([old, new]))
    return Crystal(crystal.positions * growth, numbers, crystal.cell * growth), f"{a} -> {b}"


@cache
def _of_group(number: int) -> tuple[int, ...]:
    """The other elements of an element's group whose radius is known; hydrogen is like none."""
    group = Element.from_Z(number).group
    known = (z for z in range(2, len(covalent_radii)) if z != number and covalent_radii[z] > UNKNOWN_RADIUS)
    return tuple(z for z in known if number > 1 and z <= 118 and Element.from_Z(z).group == group)
