"""Checksums of files, by which damage (of a disk, a copy, a crash) is noticed.

`checksums.json` of a folder has an entry for each file that the zoo wrote into it: the states (size and hashes of the
blocks) in which the file is accepted. It does not protect from tampering: who can change a file can change its entry.
Hashes are XXH3 of 64 bits, which are faster than any disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock

from zoo.errors import ZooError

NAME = "checksums.json"
LOCK = ".checksums.lock"
BLOCK = 4 << 20
"""Bytes of a block of a large file, which is checked by itself when it is first read."""


class Damaged(ZooError):
    """A file is not what the zoo has written."""


def digest(data: bytes | memoryview) -> str:
    """Return the XXH3 hash of some bytes, 16 hex digits."""
    return xxhash.xxh3_64_hexdigest(data)


def state_of(path: Path) -> dict[str, Any]:
    """Return the size and the hashes of the blocks of a file; an empty file has one block, of nothing."""
    with path.open("rb") as file:
        blocks = [digest(file.read(BLOCK))]
        while data := file.read(BLOCK):
            blocks.append(digest(data))
        return {"size": file.tell(), "blocks": blocks}


def read_entries(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the versions of each file of a folder that are accepted; empty where the folder has no checksums.

    Raises:
        Damaged: checksums.json itself cannot be read.
    """
    path = folder / NAME
    try:
        entries = json.loads(path.read_bytes())
        for name, versions in entries.items():
            if not all(map(_is_state, versions)) or not versions or "\0" in name or not os.fsencode(name):
                raise ValueError(name)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise Damaged(f"{path} is damaged ({why}): delete it to go on without checksums") from None
    return dict(entries)


def _is_state(version: dict[str, Any]) -> bool:
    """Whether an entry is what `state_of` gives, as far as its types tell."""
    size, blocks = version["size"], version["blocks"]
    return type(size) is int and isinstance(blocks, list) and all(isinstance(block, str) for block in blocks)


def seal(folder: Path, names: Iterable[str] | None = None) -> None:
    """Note what files of a folder hold in its checksums.json; default: all files that are there."""
    chosen = sorted(names) if names is not None else sorted(p.name for p in folder.iterdir() if _is_content(p))
    _note(folder, {name: [state_of(folder / name)] for name in chosen})


def put_in_place(partial: Path, path: Path) -> None:
    """Let a file that is whole take the place of `path`, in one step, and note what it holds.

    A kill leaves the earlier file or the new one: the checksums accept both.
    """
    versions = [state_of(partial)]
    if path.is_file():
        earlier = state_of(path)
        if earlier not in versions and earlier in read_entries(path.parent).get(path.name, [earlier]):
            versions.append(earlier)
    _note(path.parent, {path.name: versions})
    partial.replace(path)


def _note(folder: Path, versions: dict[str, list[dict[str, Any]]]) -> None:
    with FileLock(folder / LOCK):
        entries = read_entries(folder)
        if entries | versions == entries:
            return
        partial = folder / f"{NAME}.partial"
        lines = [f"{json.dumps(name)}: {json.dumps(states)}" for name, states in sorted((entries | versions).items())]
        with partial.open("w", encoding="utf-8") as file:
            file.write("{\n" + ",\n".join(lines) + "\n}\n")  # a line a file: one is easily deleted by hand
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / NAME)


def _is_content(path: Path) -> bool:
    return path.is_file() and not path.name.startswith((NAME, ".")) and path.suffix != ".partial"


def verify(path: Path) -> None:
    """Check that a file holds what was noted of it, if anything was.

    Raises:
        Damaged: it does not, or is missing.
    """
    versions = read_entries(path.parent).get(path.name)
    if versions is None:
        return
    found = damage_of(path, versions)
    if found is not None:
        raise Damaged(
            f"{path} {found}: bring it back or, if it was changed on purpose, delete its entry in "
            f"{path.with_name(NAME)}"
        )


def verify_all(folder: Path) -> None:
    """Check all files of a folder that have checksums.

    Raises:
        Damaged: one does not hold what was noted of it, or is missing.
    """
    for name in read_entries(folder):
        verify(folder / name)


def damage_of(path: Path, versions: list[dict[str, Any]], at_most: int | None = None) -> str | None:
    """Say in a few words what is wrong with a file; None where it is one of these versions.

    Args:
        path: of the file.
        versions: that are accepted.
        at_most: bytes; the content of larger files is not read.
    """
    try:
        size = path.stat().st_size
        if all(size != version["size"] for version in versions):
            return f"is damaged ({size:,} bytes in place of {versions[0]['size']:,})"
        if (at_most is None or size <= at_most) and state_of(path) not in versions:
            return "is damaged (it does not hold what was written)"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def damage(folder: Path, at_most: int | None = None) -> str | None:
    """Say in a few words what is wrong with a folder that was sealed as a whole; None where nothing is.

    Args:
        folder: to look at.
        at_most: bytes; the content of larger files is not read.
    """
    try:
        entries = read_entries(folder)
    except Damaged:
        return f"{NAME} is damaged"
    if not entries:
        return f"{NAME} is missing"
    found = ((name, damage_of(folder / name, versions, at_most)) for name, versions in entries.items())
    return next((f"{name} {words}" for name, words in found if words is not None), None)


class CheckedArray:
    """A mapped array of rows; each block of its file is checked when the first of its rows is read.

    Attributes:
        array: the array, of any number of rows; not checked.
    """

    def __init__(self, array: np.ndarray, path: Path, size: int, blocks: list[str]) -> None:
        """`array` is mapped from the end of the file `path` of `size` bytes, whose blocks have these hashes."""
        self.array = array
        self._path, self._blocks = path, blocks
        self._start = size - array.nbytes
        self._row = array.nbytes // max(len(array), 1)
        self._seen = np.zeros(len(blocks), dtype=bool)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        """Return rows as a view of the file.

        Raises:
            Damaged: a block that they lie in is not as it was written.
        """
        chosen = range(len(self))[rows]
        first, last = (chosen, chosen) if isinstance(chosen, int) else (chosen[0], chosen[-1]) if chosen else (0, -1)
        if last >= first:
            self._check((self._start + first * self._row) // BLOCK, (self._start + (last + 1) * self._row - 1) // BLOCK)
        return self.array[rows]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Return the whole, checked."""
        self._check(0, len(self._blocks) - 1)
        return np.asarray(self.array, dtype=dtype)

    def _check(self, first: int, last: int) -> None:
        if self._seen[first : last + 1].all():
            return
        try:
            with self._path.open("rb") as file:
                for number in first + np.flatnonzero(~self._seen[first : last + 1]):
                    file.seek(int(number) * BLOCK)
                    if digest(file.read(BLOCK)) != self._blocks[number]:
                        raise Damaged(f"{self._path} is damaged: delete {self._path.parent}, it is made anew")
                    self._seen[number] = True
        except FileNotFoundError:  # the map outlives it, but its other blocks cannot be checked any more
            raise Damaged(f"{self._path} was deleted while it was needed: start again, it is made anew") from None
