"""Crystals with the force constants, Born charges and tensors that DFT gives them, from ../shared/data."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.phonons.modes import gamma_modes, masses_of
from zoo.phonons.polar_modes import PolarModes, polar_modes


@dataclass(frozen=True)
class Calculated:
    """One crystal of Togo's phonon database of 2018: PBEsol, by VASP and phonopy.

    Attributes:
        force_constants: (3N, 3N), eV/Å², to float32.
        born: (N, 3, 3), e. electronic, ionic: (3, 3); `ionic` was made of the other two, once.
        unstable: a mode at Γ is imaginary.
    """

    mpid: str
    structure: Structure
    force_constants: np.ndarray
    born: np.ndarray
    electronic: np.ndarray
    ionic: np.ndarray
    unstable: bool

    @property
    def polar(self) -> PolarModes:
        modes = gamma_modes(self.force_constants, masses_of(self.structure))
        return polar_modes(modes, self.born, self.structure.volume)


class Database:
    """All 4,717 of them, by their Materials Project ids."""

    def __init__(self, folder: Path) -> None:
        with gzip.open(folder / "phonondb2018.json.gz", "rt") as file:
            self._records = json.load(file)
        arrays = np.load(folder / "phonondb2018_force_constants.npz")
        self._values, self._offsets = arrays["values"], arrays["offsets"]
        self._place = {record["mpid"]: number for number, record in enumerate(self._records)}

    def __getitem__(self, mpid: str) -> Calculated:
        number = self._place[mpid]
        record = self._records[number]
        structure = Structure(Lattice(record["lattice"]), record["species"], record["frac"])
        flat = self._values[self._offsets[number] : self._offsets[number + 1]].astype(np.float64)
        return Calculated(
            mpid,
            structure,
            flat.reshape(3 * len(structure), 3 * len(structure)),
            np.array(record["born"]),
            np.array(record["electronic"]),
            np.array(record["ionic"]),
            record["unstable"],
        )

    def sample(self, count: int) -> Iterator[Calculated]:
        for number in np.random.default_rng(0).choice(len(self._records), count, replace=False):
            yield self[self._records[number]["mpid"]]


@pytest.fixture(scope="session")
def phonondb(shared_data: Path) -> Database:
    if not (shared_data / "phonondb2018.json.gz").is_file():
        pytest.skip("../shared/data/phonondb2018.json.gz is not there")
    return Database(shared_data)
