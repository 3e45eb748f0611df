"""Reading of two files of open labels, DFPT's Born charges and force constants: phonondb2018 and petretto2018.

Each is a list of crystals. phonondb2018 (Togo's phonon database, PBEsol, VASP; CC BY 4.0) has `lattice`, `species`,
`frac`, `born`, `electronic`, `unstable`, `space_group`, and beside it force constants at Γ as one flat array with
offsets. petretto2018 (Petretto et al., Sci. Data 5, 180065 (2018), PBEsol, ABINIT) has `structure` and `born_charges`.
Charges are (atoms, field, displacement), e; force constants eV/Å², row 3κ+α.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from zoo.config import plugins

LARGEST_CHARGE = 15.0
"""e; beyond it, and where an eigenvalue of ε∞ exceeds 30, a crystal is nearly a metal and its charges mean little."""


@dataclass(frozen=True)
class Labelled:
    """A crystal with its Born charges.

    Attributes:
        key: the id of the Materials Project, or a number of the file.
        structure: the cell that was calculated.
        born: (N, 3, 3), e.
        force_constants: (3N, 3N), eV/Å²; None where the file has none.
    """

    key: str
    structure: Structure
    born: np.ndarray
    force_constants: np.ndarray | None = None


def phonondb(folder: Path) -> Iterator[Labelled]:
    """Crystals of phonondb2018 that are stable, with an eigenvalue of at most 100 eV/Å², and no near-metals."""
    flat = np.load(folder / "phonondb2018_force_constants.npz")
    values, offsets = flat["values"], flat["offsets"]
    for number, row in enumerate(_read(folder / "phonondb2018.json.gz")):
        size = 3 * len(row["species"])
        matrix = values[offsets[number] : offsets[number + 1]].reshape(size, size).astype(np.float64)
        born = np.array(row["born"])
        if row["unstable"] or _near_metal(born, row["electronic"]) or np.linalg.eigvalsh(matrix)[-1] > 100:
            continue
        structure = Structure(row["lattice"], row["species"], row["frac"])
        yield Labelled(row["mpid"], structure, born, matrix)


def petretto(folder: Path) -> Iterator[Labelled]:
    """Crystals of petretto2018, without near-metals."""
    for number, row in enumerate(_read(folder / "petretto2018.json.gz")):
        born = np.array(row["born_charges"])
        if not _near_metal(born, row["electronic"]):
            yield Labelled(row["mpid"] or f"row-{number}", Structure.from_dict(row["structure"]), born)


def without_twins(crystals: Sequence[Labelled]) -> list[Labelled]:
    """Leave out those that have formula and space group of a crystal of petousis2017, on which models are trained."""
    dataset = plugins.load("dataset", "petousis2017")(plugins.hypers("dataset", "petousis2017", {}))
    known = {_kind(record.structure) for record in dataset.records()}
    return [one for one in crystals if _kind(one.structure) not in known]


def _kind(structure: Structure) -> tuple[str, int]:
    return structure.composition.reduced_formula, SpacegroupAnalyzer(structure, symprec=0.01).get_space_group_number()


def _near_metal(born: np.ndarray, electronic: list) -> bool:
    return bool(np.abs(born).max() > LARGEST_CHARGE or np.linalg.eigvalsh(np.array(electronic)).max() > 30)


def _read(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)
