"""Backends of the neighbour list: all find the same pairs, each at its own speed (docs/neighbours.md)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from zoo.errors import ZooError, did_you_mean
from zoo.graphs.atoms import Atoms, Pairs
from zoo.graphs.images import images

DEFAULT = "auto"

Backend = Callable[[Atoms, float], Pairs]
"""All pairs closer than a reach (Å), each once; some beyond it may be among them."""

_PERIODIC = np.ones(3, dtype=np.int64)


def pymatgen(atoms: Atoms, reach: float) -> Pairs:
    """Find pairs by pymatgen's C kernel, a cell list that is fast for every shape of the cell, on one thread."""
    found = [find_points_in_spheres(x, x, reach, _PERIODIC, cell) for x, cell in atoms.one_by_one()]
    dst, src, shift, distance = (np.concatenate(part) for part in zip(*found, strict=True))
    offset = np.repeat(atoms.first[:-1], [len(part[0]) for part in found])
    return Pairs.in_order(src + offset, dst + offset, shift, distance * distance)


def auto(atoms: Atoms, reach: float) -> Pairs:
    """The fastest on one thread: `images` for several small crystals, `pymatgen` for one, a large or a skewed one."""
    n = atoms.counts
    if len(n) < 4 or (n * n).sum() > 32 * n.sum():
        return pymatgen(atoms, reach)
    cells_around = (2 * reach * np.linalg.norm(atoms.inverse, axis=1) + 3).prod(axis=1)
    return (images if cells_around.max() <= 4000 else pymatgen)(atoms, reach)


def _torch_cluster() -> Backend:
    from zoo.graphs import cluster  # it imports torch: a recipe is read without

    return cluster.load()


# Name -> what gives the backend, or says what has to be installed.
_BACKENDS: dict[str, Callable[[], Backend]] = {
    "auto": lambda: auto,
    "images": lambda: images,
    "pymatgen": lambda: pymatgen,
    "torch-cluster": _torch_cluster,
}
NAMES = tuple(_BACKENDS)


def refuse_unknown(name: str) -> None:
    """Check that there is a backend of this name.

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
    return _BACKENDS[name]()
