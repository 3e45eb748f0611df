"""Content-addressed folders on disk: the name of an entry is the hash of all that its content follows from."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from zoo.errors import ZooError, clear_disk_errors

logger = logging.getLogger(__name__)

MAPPED_AT_MOST = 64 << 20  # bytes of mapped files that a process keeps in memory


def cache_root() -> Path:
    """Where the zoo keeps what it can make or fetch again: $ZOO_CACHE, else the user's cache folder."""
    chosen = os.environ.get("ZOO_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("crystal-tensor-zoo")


def content_key(*parts: Any) -> str:
    """SHA-256 (hex) of bytes, str, bool, int, float, None, numpy arrays, and sequences and mappings of these.

    Each part goes in with its type and length, so that different parts never give the same bytes:
    ("ab", "c") and ("a", "bc") differ, as do 1 and 1.0. Mappings count without their order.

    Raises:
        TypeError: a part of another type.
    """
    digest = hashlib.sha256()
    for chunk in _frames(parts):
        digest.update(chunk)
    return digest.hexdigest()


def _frames(part: Any) -> Iterator[bytes | memoryview]:
    if isinstance(part, np.generic):
        part = part.item()
    if isinstance(part, np.ndarray):
        if part.dtype.kind not in "biuf":
            raise TypeError(f"cannot hash an array of {part.dtype}")
        array = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
        # Hashed where it lies: a mapped file is not read into memory as a whole.
        yield f"array {array.dtype.str} {part.shape} {array.nbytes}\n".encode()
        yield array.data
        return
    elif isinstance(part, Mapping):
        yield f"map {len(part)}\n".encode()
        for key in sorted(part):
            yield from _frames(key)
            yield from _frames(part[key])
        return
    elif isinstance(part, bytes):
        kind, payload = "bytes", part
    elif isinstance(part, str):
        kind, payload = "str", part.encode()
    elif isinstance(part, Sequence):
        yield f"list {len(part)}\n".encode()
        for item in part:
            yield from _frames(item)
        return
    elif part is None or isinstance(part, bool | int):
        kind, payload = type(part).__name__, str(part).encode()
    elif isinstance(part, float):
        kind, payload = "float", struct.pack("<d", part)
    else:
        raise TypeError(f"cannot hash a {type(part).__name__}")
    yield f"{kind} {len(payload)}\n".encode()
    yield payload


@contextmanager
def building(entry: Path, resume: bool = False) -> Iterator[Path | None]:
    """A folder to fill, which becomes `entry` when the block ends well; None where `entry` is whole already.

    One process fills it, others that want the same entry wait and then find it whole. A kill leaves no entry, at
    most the folder `*.partial` and what was in it.

    Args:
        entry: the folder that shall be.
        resume: the block goes on with what a killed or failed one left in the folder, rather than with an empty one.

    Raises:
        ZooError: the disk is full, or the folder cannot be written.
    """
    if entry.is_dir():
        yield None
        return
    with clear_disk_errors(entry.parent, fix="set ZOO_CACHE to another folder"):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _lock(Path(f"{entry}.lock")):
            if entry.is_dir():
                yield None
                return
            partial = entry.with_name(f"{entry.name}.partial")
            if not resume:
                shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(exist_ok=True)
            try:
                yield partial
                partial.replace(entry)
            except BaseException:
                if not resume:
                    shutil.rmtree(partial, ignore_errors=True)
                raise


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; the user is told where another process has to end first."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.warning("waiting for another process that makes %s", path.with_suffix(""))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class ArrayWriter:
    """An .npy file that is appended to row by row, so that memory stays flat.

    Written, not mapped: on a full disk a mapping would kill the process where a write raises. A file that a killed
    process left is taken up after its last whole row; `np.load` reads it once it is closed.

    Attributes:
        rows: the number of whole rows.
    """

    def __init__(self, path: Path, dtype: str | np.dtype, row: tuple[int, ...] = ()) -> None:
        self._dtype = np.dtype(dtype)
        self._row = row
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._write_header(0)
        self._start = self._file.tell()
        row_bytes = self._dtype.itemsize * int(np.prod(row, dtype=np.int64))
        end = self._file.seek(0, os.SEEK_END)
        self.rows = (end - self._start) // row_bytes if row_bytes else 0
        self.truncate(self.rows)

    def _write_header(self, rows: int) -> None:
        """Numpy pads the header so that its length does not change while the first axis grows."""
        self._file.seek(0)
        shape = (rows, *self._row)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def truncate(self, rows: int) -> None:
        """Keep the first `rows` rows alone and go on after them."""
        row_bytes = self._dtype.itemsize * int(np.prod(self._row, dtype=np.int64))
        self._file.seek(self._start + rows * row_bytes)
        self._file.truncate()
        self.rows = rows

    def append(self, values: np.ndarray) -> None:
        """Add (n, *row) values, on disk when this returns as far as a kill of the process is concerned."""
        if values.shape[1:] != self._row:
            raise ValueError(f"rows of shape {self._row} wanted, got {values.shape[1:]}")
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())
        self._file.flush()
        self.rows += len(values)

    def close(self) -> None:
        """Write the number of rows into the header, and everything to the disk."""
        self._write_header(self.rows)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def open_array(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """An .npy file as a plain array that is mapped, not read; read-only or, for torch, copied where it is written.

    Who goes through a large one calls `give_back` now and then.
    """
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False).view(np.ndarray)
    except (ValueError, FileNotFoundError) as error:
        raise ZooError(f"{path} is damaged or missing: delete {path.parent} and it is made anew") from error
    if mode == "r":
        _mapped.add(array)
    return array


class _Mapped:
    """The files that `open_array` has mapped, as long as they are used."""

    def __init__(self) -> None:
        self._maps: WeakSet[mmap.mmap] = WeakSet()
        self._others = 0  # bytes of other files, libraries above all, that are in this process's memory

    def add(self, array: np.ndarray) -> None:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        self._maps.add(base)

    def give_back(self, at_most: int) -> None:
        maps = list(self._maps)
        if not hasattr(mmap, "MADV_DONTNEED") or sum(map(len, maps)) <= at_most:
            return
        if self._held() - self._others > at_most:
            for each in maps:
                each.madvise(mmap.MADV_DONTNEED)
            self._others = self._held()

    @staticmethod
    def _held() -> int:
        """Bytes of files in this process's memory; 0 where the system does not tell."""
        try:
            return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE
        except OSError:
            return 0


_mapped = _Mapped()


def give_back(at_most: int = MAPPED_AT_MOST) -> None:
    """Let go of the pages of mapped files, where this process holds more than `at_most` bytes of them.

    The system takes them back itself as soon as it needs the memory; until then they would count as this process's, up
    to all that is in the files. What is used again comes from the system's cache, at little cost.
    """
    _mapped.give_back(at_most)
