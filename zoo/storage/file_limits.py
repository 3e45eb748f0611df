"""Limits on files from outside: what unpacks to more than memory holds, or keeps a parser busy for hours, is refused.

All doors (the command line, datasets, screenings, HTTP, the page) read through here. docs/limits.md lists the limits.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from zoo.errors import ZooError

MAX_FILE_MB = 64.0
"""Megabytes of a packed file when it is unpacked, and of a file of one crystal; $ZOO_MAX_FILE_MB in its place."""

MAX_CRYSTAL_LINES = 100_000
"""Lines of one crystal in a CIF, a VASP file or an extxyz; $ZOO_MAX_CRYSTAL_LINES in its place."""

MAX_CIF_ATOMS = 20_000
"""Atoms in the cell of a CIF file, which pymatgen reads in quadratic time; $ZOO_MAX_CIF_ATOMS in its place."""

PACKED: Mapping[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".z": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".lzma": lzma.open,
}
"""Ending of a packed file -> what opens it."""

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""Errors that reading a file may raise which is packed, damaged, or not there."""


class FileTooLarge(ZooError):
    """A file holds more than is read; the message does not name it."""


def max_file_bytes() -> int:
    """Return the limit in bytes on a packed file when unpacked, and on a file of one crystal.

    Raises:
        ZooError: $ZOO_MAX_FILE_MB is no number above 0.
    """
    return int(_from_environment("ZOO_MAX_FILE_MB", MAX_FILE_MB) * 1e6)


def max_crystal_lines() -> int:
    """Return the limit on the lines of one crystal.

    Raises:
        ZooError: $ZOO_MAX_CRYSTAL_LINES is no number above 0.
    """
    return int(_from_environment("ZOO_MAX_CRYSTAL_LINES", MAX_CRYSTAL_LINES))


def max_cif_atoms() -> int:
    """Return the limit on the atoms in the cell of a CIF file.

    Raises:
        ZooError: $ZOO_MAX_CIF_ATOMS is no number above 0.
    """
    return int(_from_environment("ZOO_MAX_CIF_ATOMS", MAX_CIF_ATOMS))


def _from_environment(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e12:  # NaN, too
        raise ZooError(f"{name} is a number above 0, such as {default:g}, not '{text[:40]}'")
    return value


def refuse_too_many_lines(lines: int, counted: str = "") -> None:
    """Check the number of lines of one crystal before they are parsed.

    Args:
        lines: their number.
        counted: what was counted, for the message; default: `lines` as a number.

    Raises:
        ZooError: there are too many.
    """
    most = max_crystal_lines()
    if lines > most:
        told = counted or f"{lines:,} lines"
        raise ZooError(f"{told}, at most {most:,} are read of one crystal; ZOO_MAX_CRYSTAL_LINES raises that")


@contextmanager
def open_bytes(path: Path, max_bytes: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked where its ending says that it is packed.

    Args:
        path: of the file.
        max_bytes: most bytes that are read; None: of a packed file `max_file_bytes`, of another any number.

    Raises:
        ZooError: while it is read, as soon as there are more bytes.
        OSError, EOFError, zlib.error, lzma.LZMAError: the file cannot be read (`UNREADABLE`).
    """
    unpack = PACKED.get(path.suffix.lower())
    with path.open("rb") as plain:
        if unpack is None and max_bytes is None:
            yield plain
            return
        stream: Any = plain if unpack is None else unpack(plain, "rb")
        with io.BufferedReader(_Limited(stream, max_bytes, unpack is not None)) as limited:
            yield limited


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """Read a file of one crystal as a whole, unpacked; at most `max_bytes`, default: `max_file_bytes`.

    Raises:
        ZooError: there are more bytes.
        OSError, EOFError, zlib.error, lzma.LZMAError: the file cannot be read (`UNREADABLE`).
    """
    if path.suffix.lower() not in PACKED and path.stat().st_size > (max_bytes or max_file_bytes()):
        raise _too_large(max_bytes, packed=False)
    with open_bytes(path, max_bytes or max_file_bytes()) as file:
        return file.read()


def _too_large(max_bytes: int | None, packed: bool) -> FileTooLarge:
    most = max_file_bytes() if max_bytes is None else max_bytes
    raises = "; ZOO_MAX_FILE_MB raises that" if most == max_file_bytes() else ""
    return FileTooLarge(f"holds more than {most / 1e6:g} MB{' unpacked' if packed else ''}, which is the limit{raises}")


class _Limited(io.RawIOBase):
    """A stream of bytes that ends in an error as soon as it has given more than the limit."""

    def __init__(self, stream: IO[bytes], max_bytes: int | None, packed: bool) -> None:
        self._stream, self._max_bytes, self._packed = stream, max_bytes, packed
        self._left = max_file_bytes() if max_bytes is None else max_bytes

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return the number of bytes, 0 at the end."""
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._max_bytes, self._packed)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the stream below, too."""
        self._stream.close()
        super().close()
