"""What looks for neighbours: all find the same pairs, each in its own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from zoo.errors import ZooError, did_you_mean

DEFAULT = "pymatgen"


@dataclass(frozen=True)
class Atoms:
    """Those of B crystals, counted through.

    Attributes:
        positions: (N, 3) float64 Å, within the cells.
        cells: (B, 3, 3) float64 Å, lattice vectors as rows.
        first: (B + 1,) int64: crystal b has the atoms [first[b], first[b + 1]).
    """

    positions: np.ndarray
    cells: np.ndarray
    first: np.ndarray

    def one_by_one(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions and cell of each crystal."""
        for (start, end), cell in zip(pairwise(self.first.tolist()), self.cells, strict=True):
            yield self.positions[start:end], cell


@dataclass(frozen=True)
class Pairs:
    """Pairs of atoms.

    Attributes:
        src, dst: (E,) int64.
        shift: (E, 3) whole numbers, int or float: the pair is dst and src moved by `shift @ cell`.
        distance: (E,) float64 Å.
    """

    src: np.ndarray
    dst: np.ndarray
    shift: np.ndarray
    distance: np.ndarray


Backend = Callable[[Atoms, float], Pairs]
"""All pairs closer than a reach (Å), each once; more than these, and each atom with itself, may be among them."""

_PERIODIC = np.ones(3, dtype=np.int64)


def pymatgen(atoms: Atoms, reach: float) -> Pairs:
    """Its C kernel, a cell list: fast for whatever shape of the cell; one thread."""
    return _joined(atoms, [find_points_in_spheres(x, x, reach, _PERIODIC, cell) for x, cell in atoms.one_by_one()])


def vesin(atoms: Atoms, reach: float) -> Pairs:
    """Cell lists, in threads: for cells of a thousand atoms and more that are not skewed."""
    from vesin import NeighborList

    finder = NeighborList(cutoff=reach, full_list=True)
    crystals = atoms.one_by_one()
    return _joined(atoms, [finder.compute(points=x, box=c, periodic=True, quantities="ijSd") for x, c in crystals])


def _joined(atoms: Atoms, found: Sequence[Sequence[np.ndarray]]) -> Pairs:
    """From dst, src, shift and distance of each crystal by itself."""
    dst, src, shift, distance = (np.concatenate(part) for part in zip(*found, strict=True))
    offset = np.repeat(atoms.first[:-1], [len(part[0]) for part in found])
    return Pairs(src.astype(np.int64, copy=False) + offset, dst.astype(np.int64, copy=False) + offset, shift, distance)


_BACKENDS: dict[str, Backend] = {"pymatgen": pymatgen, "vesin": vesin}
NAMES = tuple(_BACKENDS)


def refuse_unknown(name: str) -> None:
    """See that there is a backend of this name.

    Raises:
        ZooError: there is none; the nearest is named.
    """
    if name not in _BACKENDS:
        raise ZooError(f"there is no neighbour list '{name}'.{did_you_mean(name, NAMES)}")


def choose(name: str) -> Backend:
    """A backend by name.

    Raises:
        ZooError: there is none of this name, or it is not installed.
    """
    refuse_unknown(name)
    return _BACKENDS[name]
