"""Reader of MPtrj, the relaxations of the Materials Project that many potentials were trained on.

Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi 10.1038/s42256-023-00716-3; `MPtrj_2022.9_full.json` on figshare
(doi 10.6084/m9.figshare.23713842), one object of 11 GB:

    {mp-id: {frame id: {"structure": pymatgen's dict, "uncorrected_total_energy": eV, "corrected_total_energy": eV,
                        "force": (N, 3) eV/Å, "stress": (3, 3) kbar in the sign of VASP, ...}, ...}, ...}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms, units

from zoo.data.extxyz_frames import labelled_frame
from zoo.data.formats import open_text
from zoo.data.structures import structure_from_dict
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.storage.file_limits import max_file_bytes

KBAR = -0.1 * units.GPa
"""eV/Å³, a kbar of VASP in the sign of ASE: VASP's stress is positive where the crystal is under pressure."""

CHUNK = 1 << 20  # characters that are read at once


def mptrj_frames(path: Path) -> Iterator[Atoms | ZooError]:
    """Yield all frames of MPtrj's file with their energy, forces and stress, one after another, as they are read.

    The energy is the uncorrected one, whose slopes the forces are; the one with the corrections of the Materials
    Project is `corrected_energy` in a frame's `info`, beside `key` (the frame id) and `crystal` (the mp-id). A frame
    that lacks a label or cannot be read yields the reason, which names it.

    Raises:
        ZooError: the file cannot be read, or does not have this form.
    """
    with open_text(path) as text:
        scanner = _Scanner(text, path)
        for mp_id in scanner.each_key():
            for name in scanner.each_key():
                content = scanner.value()
                try:
                    yield _frame(mp_id, name, content)
                except ZooError as error:
                    yield ZooError(f"{mp_id}, {name}: {error}")


def _frame(mp_id: str, name: str, content: Any) -> Atoms:
    if not isinstance(content, dict):
        raise ZooError("is no JSON object")
    crystal = Crystal.of(structure_from_dict(content.get("structure")))
    energy = _numbers(content, "uncorrected_total_energy", ())
    forces = _numbers(content, "force", (len(crystal.numbers), 3))
    stress = _numbers(content, "stress", (3, 3)) * KBAR
    info: dict[str, Any] = {"key": name, "crystal": mp_id}
    corrected = content.get("corrected_total_energy")
    if isinstance(corrected, int | float) and math.isfinite(corrected):
        info["corrected_energy"] = float(corrected)
    return labelled_frame(crystal, info, float(energy), forces, 0.5 * (stress + stress.T))


def _numbers(content: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if content.get(name) is None:
        raise ZooError(f"has no '{name}'")
    try:
        array = np.array(content[name], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ZooError(f"'{name}' does not hold numbers") from None
    if array.shape != shape:
        raise ZooError(f"'{name}' must be of shape {shape}, it is {array.shape}")
    if not np.isfinite(array).all():
        raise ZooError(f"'{name}' holds NaN or infinite numbers")
    return array


class _Scanner:
    """Reader of one large JSON object, whose inner objects are gone through key by key, and values read when asked for.

    Only the value that is being read is in memory.
    """

    def __init__(self, text: TextIO, path: Path) -> None:
        self._text, self._path = text, path
        self._buffer, self._at, self._passed = "", 0, 0
        self._decoder = json.JSONDecoder()

    def each_key(self) -> Iterator[str]:
        """Yield the keys of the object that begins here; the value of each must be read before the next is asked for.

        Raises:
            ZooError: here is no object, or it ends too early.
        """
        self._expect("{")
        if self._next() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                self._refuse("a key")
            self._expect(":")
            yield key
            if self._next() == "}":
                self._at += 1
                return
            self._expect(",")

    def value(self) -> Any:
        """Read the value that begins here: an object, a list or a text.

        Raises:
            ZooError: it is no JSON, or ends too early, or is larger than `max_file_bytes`.
        """
        self._next()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._buffer, self._at)
            except (ValueError, RecursionError):
                if len(self._buffer) - self._at > max_file_bytes() or not self._more():
                    self._refuse("a value of JSON")
            else:
                return value

    def _next(self) -> str:
        """Skip white space and return the next character, without passing it; empty at the end of the file."""
        while True:
            while self._at < len(self._buffer):
                if not self._buffer[self._at].isspace():
                    return self._buffer[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        if self._next() != character:
            self._refuse(f"'{character}'")
        self._at += 1

    def _more(self) -> bool:
        """Read on: as much again as there is, so that a long value is not looked at too often."""
        rest = self._buffer[self._at :]
        read = self._text.read(max(CHUNK, len(rest)))
        self._passed += self._at
        self._buffer, self._at = rest + read, 0
        return bool(read)

    def _refuse(self, expected: str) -> None:
        there = self._buffer[self._at : self._at + 40]
        found = f"'{there}'" if there else "the end of the file"
        raise ZooError(
            f"{self._path}: is not in the form of MPtrj, mp-id -> frame -> labels: {expected} is expected at character "
            f"{self._passed + self._at:,}, {found} is there"
        )
