"""Crystals with DFPT's Born charges and force constants, of the datasets phonondb2018 and petretto2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from zoo.config import plugins


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


def phonondb(folder: Path) -> list[Labelled]:
    """Crystals of phonondb2018 that are stable, with an eigenvalue of at most 100 eV/Å², and no near-metals."""
    return [one for one in _read("phonondb2018", folder) if _stiffness(one) <= 100]


def petretto(folder: Path) -> list[Labelled]:
    """Crystals of petretto2018, without near-metals."""
    return _read("petretto2018", folder)


def without_twins(crystals: Sequence[Labelled]) -> list[Labelled]:
    """Leave out those that have formula and space group of a crystal of petousis2017, on which models are trained."""
    dataset = plugins.load("dataset", "petousis2017")(plugins.hypers("dataset", "petousis2017", {}))
    known = {_kind(record.structure) for record in dataset.records()}
    return [one for one in crystals if _kind(one.structure) not in known]


def _stiffness(one: Labelled) -> float:
    """The largest eigenvalue of Φ, eV/Å²; infinite where there is none."""
    return np.inf if one.force_constants is None else float(np.linalg.eigvalsh(one.force_constants)[-1])


def _kind(structure: Structure) -> tuple[str, int]:
    return structure.composition.reduced_formula, SpacegroupAnalyzer(structure, symprec=0.01).get_space_group_number()


def _read(name: str, folder: Path) -> list[Labelled]:
    dataset = plugins.load("dataset", name)(plugins.hypers("dataset", name, {"path": str(folder)}))
    return [
        Labelled(record.properties.get("mp_id", record.key), record.structure, born, record.force_constants)
        for record in dataset.records()
        if (born := record.targets.get("born")) is not None
    ]
