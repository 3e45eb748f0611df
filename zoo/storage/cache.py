"""Content-addressed cache on disk: the name of an entry is the hash of everything that determines its content."""

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
from zoo.storage import checksums
from zoo.storage.checksums import CheckedArray
from zoo.storage.user_path import user_path

logger = logging.getLogger(__name__)

MappedArray = np.ndarray | CheckedArray
"""Rows of a file of the cache: an index or a slice of rows gives an array."""

MAPPED_AT_MOST = 64 << 20  # bytes of mapped files that a process keeps in memory
CHECKED_AT_ONCE = 256 << 20  # bytes of a file that is checked when its entry is looked up; larger ones as they are read


def cache_root() -> Path:
    """Return the folder of the cache: $ZOO_CACHE, else the user's cache folder.

    Raises:
        ZooError: $ZOO_CACHE names the home folder of nobody.
    """
    chosen = os.environ.get("ZOO_CACHE")
    return user_path(chosen, "ZOO_CACHE") if chosen else platformdirs.user_cache_path("crystal-tensor-zoo")


def content_key(*parts: Any) -> str:
    """Return the SHA-256 (hex) of bytes, str, bool, int, float, None, arrays, and sequences and mappings of these.

    Each part is hashed with its type and length, so that different parts never give the same bytes:
    ("ab", "c") and ("a", "bc") differ, as do 1 and 1.0. The order of mappings does not count.

    Raises:
        TypeError: a part of another type.
    """
    digest = hashlib.sha256()
    for chunk in _tagged_bytes(parts):
        digest.update(chunk)
    return digest.hexdigest()


def _tagged_bytes(part: Any) -> Iterator[bytes | memoryview]:
    """Yield what is hashed of a part: its type and length, then its bytes."""
    if isinstance(part, np.generic):
        part = part.item()
    if isinstance(part, CheckedArray):
        part = np.asarray(part)
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
            yield from _tagged_bytes(key)
            yield from _tagged_bytes(part[key])
        return
    elif isinstance(part, bytes):
        kind, payload = "bytes", part
    elif isinstance(part, str):
        kind, payload = "str", part.encode()
    elif isinstance(part, Sequence):
        yield f"list {len(part)}\n".encode()
        for item in part:
            yield from _tagged_bytes(item)
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
    """Yield a folder to fill, which becomes `entry` when the block succeeds; None where `entry` exists already.

    The files of a finished entry carry checksums (`zoo.storage.checksums`). One that is damaged, or that an earlier zoo
    made without them, is made anew, with one line; of files above `CHECKED_AT_ONCE` only the size is checked here, and
    the content as it is read (`open_array`). One process fills it; others that need the same entry wait until it
    is complete. A kill leaves no entry, at most the folder `*.partial` with its content.

    Args:
        entry: path of the finished folder.
        resume: keep what a killed or failed process left in the folder, rather than start with an empty one.

    Raises:
        ZooError: the disk is full, or the folder cannot be written, or was deleted meanwhile.
    """
    if entry.is_dir() and checksums.damage(entry, CHECKED_AT_ONCE) is None:
        yield None
        return
    with clear_disk_errors(entry.parent, fix="set ZOO_CACHE to another folder"):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with told_if_deleted(entry.parent), _lock(Path(f"{entry}.lock")):
            if entry.is_dir():
                found = checksums.damage(entry, CHECKED_AT_ONCE)
                if found is None:
                    yield None
                    return
                logger.warning("the cache entry %s is made anew: %s", entry, found)
                shutil.rmtree(entry)
            partial = entry.with_name(f"{entry.name}.partial")
            if not resume:
                shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(exist_ok=True)
            try:
                with told_if_deleted(partial):
                    yield partial
                    checksums.seal(partial)
                    partial.replace(entry)
            except BaseException:
                if not resume:
                    shutil.rmtree(partial, ignore_errors=True)
                raise


@contextmanager
def told_if_deleted(folder: Path) -> Iterator[None]:
    """Turn a missing file into one line where all of `folder` is gone: someone has emptied the cache meanwhile.

    Raises:
        ZooError: the folder was deleted in the block.
    """
    try:
        yield
    except FileNotFoundError:
        if folder.is_dir():
            raise
        raise ZooError(f"{folder} was deleted while it was needed: start again, the cache is made anew") from None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; a warning is logged while another process holds it."""
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
    """Writer of an .npy file that is appended to row by row, so that memory stays flat.

    The file is written, not mapped: on a full disk a mapping would kill the process where a write raises. A file that
    a killed process left is continued after its last whole row; `np.load` reads it once it is closed.

    Attributes:
        rows: number of whole rows.
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
        """Write the header, which numpy pads so that its length does not change while the first axis grows."""
        self._file.seek(0)
        shape = (rows, *self._row)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def truncate(self, rows: int) -> None:
        """Drop all rows after the first `rows`."""
        row_bytes = self._dtype.itemsize * int(np.prod(self._row, dtype=np.int64))
        self._file.seek(self._start + rows * row_bytes)
        self._file.truncate()
        self.rows = rows

    def append(self, values: np.ndarray) -> None:
        """Append (n, *row) values; a kill of the process after this returns does not lose them."""
        if values.shape[1:] != self._row:
            raise ValueError(f"rows of shape {self._row} wanted, got {values.shape[1:]}")
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())
        self._file.flush()
        self.rows += len(values)

    def close(self) -> None:
        """Write the number of rows into the header, and flush everything to the disk."""
        self._write_header(self.rows)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def open_array(path: Path, mode: Literal["r", "c"] = "r") -> MappedArray:
    """Open an .npy file of a cache entry as a memory-mapped array; read-only or, for torch, copy-on-write.

    Small files were checked when their entry was looked up; large ones are checked block by block as they are read.
    Code that reads all of a large array calls `give_back` from time to time.

    Raises:
        ZooError: the file is damaged.
    """
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False).view(np.ndarray)
        size = path.stat().st_size
    except (ValueError, EOFError, OSError) as error:
        raise checksums.Damaged(f"{path} is damaged or missing: delete {path.parent}, it is made anew") from error
    if mode == "r":
        _mapped.add(array)
    versions = checksums.read_entries(path.parent).get(path.name)
    if versions is None or size <= CHECKED_AT_ONCE:
        return array
    checked = CheckedArray(array, path, size, versions[0]["blocks"])
    return checked if mode == "r" else np.asarray(checked)


class _Mapped:
    """Registry of the files that `open_array` has mapped, as long as they are used."""

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
        """Return the bytes of files in this process's memory; 0 where the system does not report them."""
        try:
            return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE
        except OSError:
            return 0


_mapped = _Mapped()


def give_back(at_most: int = MAPPED_AT_MOST) -> None:
    """Release the pages of mapped files if this process holds more than `at_most` bytes of them.

    The system reclaims them itself when it needs memory, but until then they count as memory of this process. Pages
    that are used again come from the system's cache, at little cost.
    """
    _mapped.give_back(at_most)
