"""Force constants at Γ of springs between atoms, for a cell of any size, and Born charges to go with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from unittest import mock

import numpy as np
from pymatgen.core import Lattice, Structure

from zoo.config import plugins


@contextmanager
def pair_potential() -> Iterator[None]:
    """The potential of `zoo.testing` by the name pair-potential: its force constants of 30 crystals take a second."""
    known, point = plugins.registered, EntryPoint("pair-potential", "zoo.testing:PairPotential", "zoo.encoders")

    def registered(kind: str) -> dict[str, list[EntryPoint]]:
        return known(kind) | ({point.name: [point]} if kind == "encoder" else {})

    with mock.patch.object(plugins, "registered", registered):
        yield


def force_constants(structure: Structure, cutoff: float = 4.0) -> np.ndarray:
    """(3N, 3N), eV/Å²: each bond is stiff along itself, less so across, both falling with its length."""
    atoms = len(structure)
    blocks = np.zeros((atoms, 3, atoms, 3))
    for i, j, image, distance in zip(*structure.get_neighbor_list(cutoff), strict=True):
        bond = structure.lattice.get_cartesian_coords(structure.frac_coords[j] + image - structure.frac_coords[i])
        along = np.outer(bond, bond) / distance**2
        spring = 20 * np.exp(-distance) * (along + 0.1 * (np.eye(3) - along))
        blocks[i, :, i, :] += spring
        blocks[i, :, j, :] -= spring
    return blocks.reshape(3 * atoms, 3 * atoms)


def rock_salt(spring: float) -> np.ndarray:
    """Φ of two atoms whose sublattices are held together isotropically, (6, 6)."""
    return np.kron(np.array([[1.0, -1.0], [-1.0, 1.0]]), spring * np.eye(3))


def salt() -> Structure:
    return Structure(2.82 * (np.ones((3, 3)) - np.eye(3)), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def rutile() -> Structure:
    return Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )


def quartz() -> Structure:
    return Structure.from_spacegroup(
        "P3_121", Lattice.hexagonal(4.91, 5.41), ["Si", "O"], [[0.47, 0, 1 / 3], [0.414, 0.267, 0.214]]
    )


def charges(structure: Structure, seed: int = 0) -> np.ndarray:
    """(N, 3, 3), neutral, not symmetric, alike for none of the atoms."""
    born = np.random.default_rng(seed).normal(size=(len(structure), 3, 3)) + 2 * np.eye(3)
    return born - born.mean(axis=0)
