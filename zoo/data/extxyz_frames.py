"""Frames of extended XYZ with energy, forces and stress by the names of ASE, which `ase.io.read` gives back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict
from ase.stress import full_3x3_to_voigt_6_stress

from zoo.graphs.crystal import Crystal


def labelled_frame(
    crystal: Crystal,
    info: Mapping[str, Any],
    energy: float,
    forces: np.ndarray,
    stress: np.ndarray,
    atomic_energies: np.ndarray | None = None,
) -> Atoms:
    """Return a crystal of N atoms as ASE's Atoms, with the results of a calculation.

    Args:
        crystal: periodic in three directions.
        info: what else is known; texts are read back as they are given here.
        energy: eV, of the cell.
        forces: (N, 3) eV/Å.
        stress: (3, 3) eV/Å³, in the sign of ASE: positive where the energy falls when the crystal shrinks.
        atomic_energies: (N,) eV, ASE's `energies`; None where there are none.
    """
    kept = {name: kept_text(value) if isinstance(value, str) else value for name, value in info.items()}
    atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True, info=kept)
    results: dict[str, Any] = {"energy": energy, "forces": forces, "stress": full_3x3_to_voigt_6_stress(stress)}
    if atomic_energies is not None:
        results["energies"] = atomic_energies
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def extxyz(frames: Iterable[Atoms]) -> str:
    """Return frames as text."""
    out = io.StringIO()
    for atoms in frames:
        ase.io.write(out, atoms, format="extxyz")
    return out.getvalue()


def kept_text(text: str) -> str:
    """Write a text such that ASE reads it back as this text: it would take `0012` for a number, and `T` for True."""
    try:
        read = key_val_str_to_dict(key_val_dict_to_str({"text": text})).get("text")
    except ValueError:
        read = None
    if isinstance(read, str) and read == text and text.isprintable():
        return text
    # ASE reads `_JSON` values as JSON, after it has taken away one of two backslashes.
    return "_JSON " + json.dumps(text).replace("\\", "\\\\")
