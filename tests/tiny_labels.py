"""Tiny files in the layouts of phonondb2018 and petretto2018: caesium chloride with one spring."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from zoo.phonons.units import COULOMB

CESIUM_CHLORIDE = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])

Row = dict[str, Any]


def phonondb_row(mpid: str, spring: float = 1.5, scale: float = 1.0, **changed: Any) -> Row:
    """A crystal whose two atoms are joined by a spring, eV/Å², with charges of ±1.3 e; `changed` replaces fields."""
    lattice = scale * CESIUM_CHLORIDE.lattice.matrix
    born = np.stack([1.3 * np.eye(3), -1.3 * np.eye(3)])
    ionic = 4 * np.pi * COULOMB / abs(np.linalg.det(lattice)) * 1.3**2 / spring * np.eye(3)
    row = {
        "mpid": mpid,
        "lattice": lattice,
        "species": ["Cs", "Cl"],
        "frac": CESIUM_CHLORIDE.frac_coords,
        "electronic": 2.5 * np.eye(3),
        "ionic": ionic,
        "born": born,
        "unstable": False,
        "smallest_optic_eigenvalue": 0.05,
        "space_group": 221,
        "spring": spring,
    }
    return _plain(row | changed)


def write_phonondb(folder: Path, rows: Sequence[Row]) -> None:
    """Write both files."""
    matrices = [row["spring"] * np.kron([[1, -1], [-1, 1]], np.eye(3)) for row in rows]
    np.savez_compressed(
        folder / "phonondb2018_force_constants.npz",
        values=np.concatenate([matrix.ravel() for matrix in matrices]).astype(np.float32),
        offsets=36 * np.arange(len(rows) + 1),
        mpid=np.array([row["mpid"] for row in rows]),
    )
    fields = [{name: value for name, value in row.items() if name != "spring"} for row in rows]
    (folder / "phonondb2018.json.gz").write_bytes(gzip.compress(json.dumps(fields).encode()))


def petretto_row(mpid: str | None, total: float | None = None, **changed: Any) -> Row:
    """The same crystal; `changed` replaces fields."""
    row = {
        "structure": CESIUM_CHLORIDE.as_dict(),
        "electronic": 2.4 * np.eye(3),
        "born_charges": np.stack([1.2 * np.eye(3), -1.2 * np.eye(3)]),
        "mpid": mpid,
        "eps_total_mean": total,
    }
    return _plain(row | changed)


def write_petretto(folder: Path, rows: Sequence[Row]) -> None:
    (folder / "petretto2018.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))


def _plain(row: Row) -> Row:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
