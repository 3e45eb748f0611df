"""The crystals on which another package's features are kept: low symmetry, chiral, cubic. Needs numpy and ASE alone."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal


def crystals() -> dict[str, Atoms]:
    """By name."""
    places = [[0.02, 0.05, 0.01], [0.45, 0.55, 0.38], [0.5, 0.1, 0.72], [0.13, 0.6, 0.6], [0.7, 0.8, 0.05]]
    cell = [4.3, 5.4, 6.1, 81, 97, 104]
    low = Atoms("CaTiO2S", scaled_positions=places, cell=cell, pbc=True)
    quartz = crystal(
        ["Si", "O"],
        [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.4533]],
        spacegroup=152,
        cellpar=[4.913, 4.913, 5.405, 90, 90, 120],
    )
    salt = crystal(["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]], spacegroup=225, cellpar=[5.64] * 3 + [90] * 3)
    return {"low": low, "quartz": quartz, "salt": salt}


def edges(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """i, j (E,) and the offset of j's image (E, 3) Å: r_j + offset - r_i is within the cutoff."""
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    return i, j, shift @ atoms.cell.array
