"""Contents of the cache by kind, and their deletion; whatever the zoo did not write there is left alone."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from zoo.errors import ZooError, did_you_mean
from zoo.storage.cache import cache_root

SINGLE = "force_constants/crystals"
"""The kind whose entries are files of one crystal each."""
COMPUTED = (
    "crystals",
    "graphs",
    "embeddings",
    "force_constants",
    SINGLE,
    "frame",
    "tensors",
    "twins",
    "labelled",
    "temporary",
)
"""Kinds that are computed anew where they are missing."""
KEPT = ("datasets", "weights")
"""Kinds that cost a download or a conversion: they are deleted only where they are named."""
KINDS = (*COMPUTED, *KEPT)

STILL = 3600.0
"""Seconds without a change after which files that have no lock count as left behind by a process that was killed."""

_KEY = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = {"run": re.compile(r"run-[a-z0-9_]{8}"), "once": re.compile(r"once-[a-z0-9_]{8}")}
_AROUND = re.compile(r"(\.\d+)?\.(partial|lock|part|deleted)$")  # what lies beside an entry belongs to it


@dataclass(frozen=True)
class CacheEntry:
    """A unit of the cache, deleted as a whole.

    Attributes:
        path: the folder or file, whether it exists or only what surrounds it.
        around: what a process that makes it has beside it, lock and partial result.
        size: bytes of all files.
        used: when a file of it was last changed or, where the file system notes that, read; seconds since the epoch.
        locked_by_time: it has no lock; that it is being written shows in its files' times alone.
    """

    path: Path
    around: tuple[Path, ...]
    size: int
    used: float
    locked_by_time: bool


@dataclass(frozen=True)
class CacheContent:
    """A listing of the cache.

    Attributes:
        root: its folder.
        entries: those of each kind, in the order of `KINDS`; a kind without any is not there.
        foreign: files and folders in it that the zoo did not write.
        links: symbolic links in the place of an entry or a kind that lead out of the cache.
    """

    root: Path
    entries: dict[str, list[CacheEntry]]
    foreign: list[Path]
    links: list[Path]


def look_through(datasets: Collection[str], encoders: Collection[str]) -> CacheContent:
    """Look through the cache.

    Args:
        datasets: names of the datasets that keep a file in it: no other folder of `datasets` is the cache's.
        encoders: names of those that have weights there.

    Raises:
        ZooError: the cache is no folder, or a part of it cannot be read.
    """
    root = cache_root()
    content = CacheContent(root, {}, [], [])
    if not root.exists():
        return content
    if not root.is_dir():
        raise ZooError(f"{root} is no folder: set ZOO_CACHE to another one")
    try:
        for child in sorted(root.iterdir()):
            if _is_temporary(child, "run"):
                _add(content, "temporary", [child])
            elif child.name not in KINDS:
                content.foreign.append(child)
            elif not _leads_out(child, root):
                _look_into(content, child, {"datasets": datasets, "weights": encoders}.get(child.name, ()))
            else:
                content.links.append(child)
    except OSError as error:
        raise ZooError(f"cannot look through the cache {root} ({error.strerror or error})") from None
    ordered = {kind: list(filter(_is_something, content.entries.get(kind, ()))) for kind in KINDS}
    return CacheContent(root, {kind: of for kind, of in ordered.items() if of}, content.foreign, content.links)


def _is_something(entry: CacheEntry) -> bool:
    """Whether there is more of an entry than a lock that nobody holds."""
    return entry.size > 0 or entry.path.exists() or is_being_written(entry)


def _look_into(content: CacheContent, folder: Path, names: Collection[str]) -> None:
    kind = folder.name
    groups: dict[str, list[Path]] = {}
    if not folder.is_dir():
        content.foreign.append(folder)
        return
    for child in sorted(folder.iterdir()):
        name = _AROUND.sub("", child.name)
        if _leads_out(child, content.root):
            content.links.append(child)
        elif folder.name == "force_constants" and child.name == "crystals":
            for file in sorted(path for path in child.rglob("*") if path.is_symlink() or not path.is_dir()):
                if _leads_out(file, content.root):
                    content.links.append(file)
                elif _KEY.fullmatch(_AROUND.sub("", file.name).removesuffix(".npz")):
                    _add(content, SINGLE, [file])
                else:
                    content.foreign.append(file)
        elif kind == "crystals" and _is_temporary(child, "once"):
            _add(content, "temporary", [child])
        elif (name in names) if kind in KEPT else _KEY.fullmatch(name):
            groups.setdefault(name, []).append(child)
        else:
            content.foreign.append(child)
    for name, paths in groups.items():
        _add(content, kind, paths, folder / name)


def _add(content: CacheContent, kind: str, paths: list[Path], entry: Path | None = None) -> None:
    """Add an entry, given what there is of it: `entry` itself, and what is beside it."""
    path = paths[0] if entry is None else entry
    size, used = 0, 0.0
    for file in (file for each in paths for file in _files(each)):
        try:
            state = file.lstat()
        except FileNotFoundError:  # another process has just taken it away
            continue
        size += state.st_size
        if file.suffix != ".lock":  # which looking through the cache touches
            used = max(used, state.st_mtime, state.st_atime)
    around = tuple(each for each in paths if each != path)
    content.entries.setdefault(kind, []).append(CacheEntry(path, around, size, used, kind in ("temporary", SINGLE)))


def _is_temporary(path: Path, prefix: str) -> bool:
    """Whether a folder is one that a process fills and forgets; a run's own folder of such a name has more in it."""
    if not _TEMPORARY[prefix].fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    suffixes = (".npy",) if prefix == "run" else (".npy", ".json", ".jsonl")
    return all(file.suffix in suffixes and not file.is_dir() for file in path.iterdir())


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a folder, or the file itself; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield Path(folder, name)


def _leads_out(path: Path, root: Path) -> bool:
    return path.is_symlink() and not path.resolve().is_relative_to(root.resolve())


def chosen(content: CacheContent, kinds: Collection[str], older_than: float | None) -> list[CacheEntry]:
    """Choose entries to delete.

    Args:
        content: of the cache.
        kinds: by name; none: all that are computed. `force_constants` takes those of single crystals along.
        older_than: days since an entry was last used, at least.

    Raises:
        ZooError: there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ZooError(f"the cache has no kind '{kind}'.{did_you_mean(kind, KINDS)}")
    wanted = set(kinds or COMPUTED)
    if "force_constants" in wanted:
        wanted.add(SINGLE)
    latest = float("inf") if older_than is None else time.time() - 86400 * older_than
    return [
        entry for kind in content.entries if kind in wanted for entry in content.entries[kind] if entry.used <= latest
    ]


def delete(entries: Iterable[CacheEntry]) -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Delete entries, each under its lock.

    Returns:
        Those that are gone, and those that another process is writing, which are left alone.

    Raises:
        ZooError: one cannot be deleted.
    """
    gone: list[CacheEntry] = []
    busy: list[CacheEntry] = []
    for entry in entries:
        try:
            with _held(entry) as free:
                if free:
                    _remove(entry)
                (gone if free else busy).append(entry)
        except OSError as error:
            raise ZooError(
                f"cannot delete {entry.path} ({error.strerror or error}); what came before it is gone"
            ) from None
    return gone, busy


def is_being_written(entry: CacheEntry) -> bool:
    """Whether another process is making an entry, or adding to it."""
    if not entry.locked_by_time and not any(lock.exists() for lock in _locks(entry)):
        return False
    try:
        with _held(entry) as free:
            return not free
    except OSError:  # a cache that we may not write in
        return False


@contextmanager
def _held(entry: CacheEntry) -> Iterator[bool]:
    """Hold the locks of an entry; False where another process does."""
    if entry.locked_by_time:
        # A single file is whole once it has its name; one with another name, and a folder, is on its way.
        unfinished = entry.path.is_dir() or entry.path.suffix == ".partial"
        yield not unfinished or time.time() - entry.used > STILL
        return
    with ExitStack() as stack:
        try:
            for lock in _locks(entry):
                held = FileLock(lock)
                held.acquire(blocking=False)
                stack.callback(held.release)
        except Timeout:
            yield False
            return
        yield True


def _locks(entry: CacheEntry) -> list[Path]:
    """Return the lock that makes an entry, whether it exists or not, and those in its folder."""
    own = entry.path.with_name(f"{entry.path.name}.lock")
    inside = [path for path in _files(entry.path) if path.suffix == ".lock"] if entry.path.is_dir() else []
    return [own, *inside]


def _remove(entry: CacheEntry) -> None:
    """Delete an entry and what is beside it, its lock last."""
    partial = [path for path in entry.around if path.suffix != ".lock"]
    for path in partial:
        _erase(path)
    if entry.path.is_symlink() or entry.path.is_file():
        entry.path.unlink(missing_ok=True)
    elif entry.path.is_dir():
        # It is gone in one step: a kill must not leave a part that someone takes for the whole.
        doomed = entry.path.with_name(f"{entry.path.name}.deleted")
        _erase(doomed)
        entry.path.rename(doomed)
        _erase(doomed)
    # Who waits for the lock finds it unlinked, and makes a new one.
    entry.path.with_name(f"{entry.path.name}.lock").unlink(missing_ok=True)


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
