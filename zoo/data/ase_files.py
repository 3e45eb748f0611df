"""Crystals in ASE's formats. Its trajectories and databases are read without ASE's decoder.

That decoder makes objects and arrays of whatever kind and size a file says. What a crystal is made of (elements,
positions, cell, periodicity) is read here as plain numbers, and nothing else of the file.
"""

from __future__ import annotations

import io
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ZooError
from zoo.storage.file_limits import PACKED, max_file_bytes, read_bytes, refuse_too_many_lines

if TYPE_CHECKING:
    from ase import Atoms

MAGIC = (b"- of Ulm", b"AFFormat")
TAG = b"ASE-Trajectory"


@dataclass(frozen=True)
class Positions:
    """Atoms as ASE keeps them.

    Attributes:
        numbers: (N,) atomic numbers.
        positions: (N, 3) Cartesian, Å.
        cell: (3, 3) rows are the lattice vectors, Å; zero without a cell.
        pbc: periodic along each of them.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: tuple[bool, ...]


def positions_in_dict(content: Mapping[str, Any]) -> Positions:
    """Read what ASE's JSON, or `Atoms.todict`, says of atoms.

    Raises:
        LookupError, TypeError, ValueError, OverflowError: it says something else.
    """
    cell = content.get("cell")
    if isinstance(cell, Mapping) and "array" in cell:
        cell = cell["array"]
    pbc = content.get("pbc", False)
    if isinstance(pbc, Mapping):
        pbc = _array(pbc, bool, -1)
    return Positions(
        _array(content["numbers"], np.int64, -1),
        _array(content["positions"], np.float64, -1, 3),
        np.zeros((3, 3)) if cell is None else _cell(_array(cell, np.float64, -1)),
        tuple(bool(one) for one in np.broadcast_to(np.asarray(pbc), 3)),
    )


def _cell(numbers: np.ndarray) -> np.ndarray:
    return np.diag(numbers) if numbers.size == 3 else numbers.reshape(3, 3)


def _array(given: Any, dtype: Any, *shape: int) -> np.ndarray:
    """Numbers as a list, or as ASE writes an array: {"__ndarray__": [shape, type, numbers]}."""
    if isinstance(given, Mapping):
        _, _, given = given["__ndarray__"]
    return np.array(given, dtype=dtype).reshape(shape)


def trajectory(path: Path, max_bytes: int | None = None) -> Iterator[Positions | ZooError]:
    """Yield the frames of a trajectory of ASE (.traj), one after another.

    The layout is that of `ase.io.ulm`: numbers of 8 bytes say where the frames are; each is a JSON object that says
    where its arrays are.

    Raises:
        ZooError: no such trajectory, or it is packed and too large.
        Exception: of whatever kind, where it is damaged.
    """
    packed = path.suffix.lower() in PACKED
    with io.BytesIO(read_bytes(path, max_bytes)) if packed or max_bytes else path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if file.read(8) not in MAGIC or file.read(16).rstrip() != TAG:
            raise ZooError("is no trajectory of ASE, or one of its pickled ones of before 2015, which are not read")
        _, count, table = _integers(file, 3)
        file.seek(table)
        if not 0 <= count <= size // 8:
            raise ZooError(f"is damaged: {count:,} frames do not fit into its {size:,} bytes")
        first: dict[str, Any] = {}
        for offset in _integers(file, count):
            frame = _frame(file, offset)
            # What is the same in all frames is written with the first alone.
            first = first or frame
            yield Positions(
                _of_frame(file, {**first, **frame}, "numbers", "i8", size, -1),
                _of_frame(file, frame, "positions", "f8", size, -1, 3),
                _of_frame(file, frame, "cell", "f8", size, 3, 3),
                tuple(map(bool, np.broadcast_to(frame.get("pbc", first.get("pbc", False)), 3))),
            )


def _integers(file: IO[bytes], count: int) -> list[int]:
    return [int(number) for number in np.frombuffer(file.read(8 * count), dtype="<i8", count=count)]


def _frame(file: IO[bytes], offset: int) -> dict[str, Any]:
    file.seek(offset)
    (length,) = _integers(file, 1)
    if length < 0:
        raise ValueError("a frame of negative length")
    content = json.loads(file.read(length))
    if not isinstance(content, dict) or not content.get("_little_endian", True):
        raise ValueError("a frame that is no object, or of another byte order")
    return content


def _of_frame(file: IO[bytes], frame: Mapping[str, Any], name: str, dtype: str, size: int, *shape: int) -> np.ndarray:
    """An array of a frame: in its object, or at the place that this names."""
    if name in frame:
        return _array(frame[name], dtype, *shape)
    its_shape, its_type, offset = frame[f"{name}."]["ndarray"]
    kind = np.dtype(str(its_type)).newbyteorder("<")
    count = int(np.prod([int(one) for one in its_shape], dtype=object))
    if kind.kind not in "if" or not 0 <= count * kind.itemsize <= size:
        raise ValueError(f"'{name}' is no array that fits into the file")
    file.seek(offset)
    return np.frombuffer(file.read(count * kind.itemsize), kind, count).astype(dtype).reshape(shape)


def database(path: Path, max_bytes: int | None = None) -> Iterator[tuple[str, Positions | ZooError]]:
    """Yield id and crystal of each row of a database of ASE (.db, SQLite), by id; nothing is written.

    Raises:
        ZooError: no such database, or it is packed and too large.
        Exception: of whatever kind, where it is damaged.
    """
    packed = path.suffix.lower() in PACKED
    uri = ":memory:" if packed or max_bytes else f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        if packed or max_bytes:
            connection.deserialize(read_bytes(path, max_bytes))
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_file_bytes())
        # A view, or a column that is computed, would be a program of the file's own.
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name='systems' AND type='table'").fetchall()
        computed = [row for row in connection.execute("PRAGMA table_xinfo(systems)") if row[6]]
        if not tables or computed:
            raise ZooError("is no database of ASE: it has no table 'systems' of plain columns")
        for key, *blobs, pbc in connection.execute("SELECT id, numbers, positions, cell, pbc FROM systems ORDER BY id"):
            try:
                numbers, positions, cell = (
                    np.frombuffer(blob, kind) for blob, kind in zip(blobs, ("<i4", "<f8", "<f8"), strict=True)
                )
                flags = tuple(bool(int(pbc) & bit) for bit in (1, 2, 4))
                yield str(key), Positions(numbers, positions.reshape(-1, 3), cell.reshape(3, 3), flags)
            except (ValueError, TypeError, OverflowError) as error:
                yield str(key), ZooError(f"is no crystal of ASE ({error})")


def atoms_in(path: Path, kind: str, one: bool, max_bytes: int | None = None) -> list[Atoms]:
    """Read a text file by ASE's reader of one of its formats.

    Args:
        path: of the file; it may be packed.
        kind: ASE's name of the format, one of `zoo.data.file_kinds.KINDS`.
        one: the file is of one crystal, whose lines are counted before they are parsed.
        max_bytes: see `zoo.storage.file_limits.read_bytes`.

    Raises:
        ZooError: it holds more than is read.
        Exception: whatever ASE raises on a broken file.
    """
    import ase.io
    from ase.io.formats import ioformats

    content = read_bytes(path, max_bytes)
    if one:
        refuse_too_many_lines(content.count(b"\n"))
    # The reader of CASTEP's files would else look for CASTEP, and run it, to learn its keywords.
    options: dict[str, Any] = {"calculator_args": {"keyword_tolerance": 3}} if kind == "castep-cell" else {}
    if ioformats[kind].acceptsfd:
        text = content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        found = ase.io.read(io.StringIO(text), index=":", format=kind, **options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "file"
            copy.write_bytes(content)
            found = ase.io.read(copy, index=":", format=kind, **options)
    return found if isinstance(found, list) else [found]
