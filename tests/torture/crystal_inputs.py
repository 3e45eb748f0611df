"""Files of crystals that are fuzzed: what pymatgen and ASE write, read through the door of `zoo predict`."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from torture.mutations import changed_binary as damaged
from torture.mutations import changed_text, pick

Change = Callable[[np.random.Generator], tuple[bytes, str]]


@cache
def some_crystals() -> list[Any]:
    """A few small ones, two of them made by hand."""
    from screened import crystal

    from zoo.data.petousis2017 import Petousis2017

    records = list(Petousis2017(Petousis2017.Hypers()).records())[::150]
    return [crystal(1), crystal(2), *(record.structure for record in records if len(record.structure) < 20)]


def sound(structure: Any) -> None:
    """Check that a structure that was read is one."""
    assert len(structure) > 0, "no atoms"
    finite = np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()
    assert finite, "a structure that is not finite"


@cache
def jsons() -> list[str]:
    """What pymatgen and ASE write: one crystal, a list, by key, a database."""
    from ase.io.jsonio import encode
    from pymatgen.io.ase import AseAtomsAdaptor

    dicts = [one.as_dict() for one in some_crystals()[:3]]
    frames = [json.loads(encode(AseAtomsAdaptor.get_atoms(one))) for one in some_crystals()[:2]]
    database = {str(i): frame for i, frame in enumerate(frames, 1)} | {"ids": [1, 2], "nextid": 3}
    contents: list[Any] = [dicts[0], dicts, dict(zip("abc", dicts, strict=True)), frames[0], database]
    return [json.dumps(one) for one in [*contents, [{"structure": dicts[1], "material_id": "mp-1"}]]]


@cache
def _written(kind: str, ending: str) -> bytes:
    """A file as ASE writes it of two crystals, or of one where the format holds no more."""
    import tempfile

    import ase.db
    import ase.io
    from pymatgen.io.ase import AseAtomsAdaptor

    frames = [AseAtomsAdaptor.get_atoms(one) for one in some_crystals()[:2]]
    for frame in frames:
        frame.info.clear()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made.{ending}"
        if kind == "db":
            with ase.db.connect(path) as database:
                for frame in frames:
                    database.write(frame)
        else:
            more = {"pseudopotentials": dict.fromkeys(frames[0].symbols, "x")} if kind == "espresso-in" else {}
            ase.io.write(path, frames if kind == "traj" else frames[0], format=kind, **more)
        return path.read_bytes()


def text_of(kind: str, ending: str) -> list[str]:
    return [_written(kind, ending).decode()]


def changed_binary(kind: str) -> Change:
    """Changes bytes of a file, cuts it, or writes another number over eight of them."""

    def change(random: np.random.Generator) -> tuple[bytes, str]:
        data = bytearray(_written(kind, kind))
        how = pick(random, ["a byte", "bytes", "a number", "a cut"])
        at = int(random.integers(len(data)))
        if how == "a cut":
            return bytes(data[:at]), f"cut at {at}"
        if how == "a number":
            number = pick(random, [0, 1, -1, 2**31, 2**40, 2**62, len(data)])
            data[at : at + 8] = int(number).to_bytes(8, "little", signed=True)
            return bytes(data), f"{number} at {at}"
        for place in random.integers(len(data), size=1 if how == "a byte" else 20):
            data[int(place)] = int(random.integers(256))
        return bytes(data), f"{how} at {at}"

    return change


def crystal_file(name: str) -> Callable[[bytes, Path], None]:
    """Read all crystals of a file by the door of `zoo predict`: each is sound, or a line that names the file."""

    def read(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        _read_all(str(folder / name), name)

    return read


def standard_input(data: bytes, folder: Path) -> None:
    """Read all crystals that are piped into `zoo predict -`, in the same way."""
    with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))):
        _read_all("-", "stdin")


def _read_all(given: str, shown: str) -> None:
    from zoo.data.crystal_files import crystals_in
    from zoo.errors import ZooError

    errors = []
    for crystal in crystals_in([given]):
        if isinstance(crystal.structure, ZooError):
            errors.append(crystal.structure)
            assert "\n" not in str(crystal.structure) and shown in str(crystal.structure), crystal.structure
        else:
            sound(crystal.structure)
    if errors:
        raise errors[0]


PACKERS = (gzip.compress, bz2.compress, lzma.compress)


def changed_packed(texts: Callable[[], list[str]], packers: Sequence[Callable[[bytes], bytes]]) -> Change:
    """Draws a text that is changed and then packed, or packed and then damaged."""

    def change(random: np.random.Generator) -> tuple[bytes, str]:
        text, pack = pick(random, texts()), pick(random, packers)
        if random.random() < 0.5:
            text, how = changed_text(text, pick(random, texts()), random)
            return pack(text.encode("utf-8", "surrogatepass")), f"{how}, then packed"
        packed = pack(text.encode())
        data, how = damaged(packed, packed, random)
        return data, f"packed, then {how}"

    return change


TEXTS = {"xsf": "xsf", "espresso-in": "pwi", "gen": "gen", "castep-cell": "cell", "res": "res", "struct": "struct"}
"""ASE's formats that are fuzzed -> ending."""
