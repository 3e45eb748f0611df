"""Calls of the oracle `vasp`, and symmetric tensors that it may answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from zoo.api import Candidate
from zoo.oracles.vasp import Vasp, VaspHypers

ELECTRONIC = np.array([[2.9, 0.1, 0.0], [0.1, 3.1, 0.2], [0.0, 0.2, 3.3]])
IONIC = np.array([[7.0, 0.0, 0.5], [0.0, 8.0, 0.0], [0.5, 0.0, 9.0]])


def ask(structure: Structure, folder: Path, **hypers: object) -> dict[str, np.ndarray] | None:
    """Ask the oracle `vasp` for a crystal's tensors, (3, 3) by name; None where the calculation is awaited."""
    found = Vasp(VaspHypers(**hypers)).tensors(Candidate("c-1", structure), folder)  # type: ignore[arg-type]
    return None if found is None else dict(found)


def in_order(structure: Structure) -> Structure:
    """Return the crystal with its sites in the order of the POSCAR that the oracle writes: by element."""
    return structure.get_sorted_structure()
