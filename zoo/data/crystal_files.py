"""Crystals in what a user names: files of one crystal or of many, folders of them, standard input."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pymatgen.core import Structure

from zoo.data.file_kinds import ENDINGS, OUTPUTS, kind_by_name, unpacked_name
from zoo.data.formats import Entry, csv_entries, extxyz_entries
from zoo.data.json_records import NoCrystalsError, json_entries
from zoo.data.structure_files import kind_of_file, refuse_no_file, short, structures_in
from zoo.errors import ZooError
from zoo.storage.file_limits import UNREADABLE, max_file_bytes
from zoo.storage.user_path import is_file, user_path

STDIN = "-"
"""Name by which a user asks for what comes from standard input."""

RECIPES = ("screen.yaml", "discover.yaml")
PROVENANCE = "run.json"
"""Folders that a screening or a discovery wrote hold this and one of `RECIPES`."""

MANY: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "json": json_entries,
    "extxyz": extxyz_entries,
    "csv": lambda path: csv_entries(path, {}),
}


@dataclass(frozen=True)
class NamedCrystal:
    """A crystal of a file, with a name for messages.

    Attributes:
        file: the path that the user gave, or that was found in the folder that the user gave; `stdin`.
        key: its name in a file of many, or its number from 1 on; else the name of the file without its ending.
        structure: the crystal, or why it cannot be read, in a line that names it.
        alone: the file holds no other.
    """

    file: str
    key: str
    structure: Structure | ZooError
    alone: bool = True

    @property
    def name(self) -> str:
        """Name in messages: the file and, in a file of many crystals, the key: `many.cif#2`."""
        return self.file if self.alone else f"{self.file}#{self.key}"

    @property
    def file_name(self) -> str:
        """Name for a file about it, without an ending."""
        name = self.key if self.alone else f"{stem_of(self.file)}_{self.key}"
        return re.sub(r"[/\\]", "_", name)

    @property
    def formula(self) -> str:
        """Reduced formula; empty where the crystal cannot be read."""
        return "" if isinstance(self.structure, ZooError) else self.structure.composition.reduced_formula


def stem_of(file: str) -> str:
    """Return a file's name without its folder and the ending that tells its format: `quartz` of `a/quartz.cif.gz`."""
    name = Path(file).name
    plain = name[: len(unpacked_name(name))]
    ending = Path(plain).suffix
    return plain.removesuffix(ending) if ending.lower() in ENDINGS else plain


def crystals_in(
    files: Iterable[str], kind: str | None = None, tell: Callable[[str], object] = lambda line: None
) -> Iterator[NamedCrystal]:
    """Yield the crystals of all files; a file or a crystal that cannot be read yields the reason instead.

    Args:
        files: paths of files and folders, `-` for standard input, and FILE#KEY for one crystal of a file. Of a
            folder, all files of crystals in it and below are read, by name, but for outputs of programs, which hold
            every step of a calculation, tables, which name other files, JSON about other things, and what screenings
            and discoveries wrote.
        kind: the format of the files (`zoo.data.file_kinds.kind_named`); None: as each one tells.
        tell: called with a line about each folder.
    """
    for file in files:
        if not file:
            yield NamedCrystal(file, file, ZooError("the name of a file is empty"))
            continue
        if file == STDIN:
            yield from _from_stdin(kind)
            continue
        try:
            path = user_path(file)
        except ZooError as error:
            yield NamedCrystal(file, stem_of(file), _told(error, file))
            continue
        yield from _in_folder(file, path, kind, tell) if is_folder(path) else _in_file(file, kind)


def _in_folder(folder: str, path: Path, kind: str | None, tell: Callable[[str], object]) -> Iterator[NamedCrystal]:
    inside = files_in(path)
    tell(f"{folder}: {inside}")
    is_empty = True
    for name, why in inside.closed.items():
        is_empty, closed = False, str(Path(folder) / name)
        yield NamedCrystal(closed, stem_of(closed), ZooError(f"{closed}: {why}"))
    for name in inside.files:
        for crystal in _in_file(str(Path(folder) / name), kind):
            if isinstance(crystal.structure, NoCrystalsError):
                tell(f"{crystal.structure}; passed over")
            else:
                is_empty = False
                yield crystal
    if is_empty:
        yield NamedCrystal(folder, stem_of(folder), ZooError(f"{folder}: no file of crystals is in it, nor below"))


def one_crystal(file: str) -> Structure:
    """Read the one crystal that a path names: that of a file, or FILE#KEY.

    Raises:
        ZooError: it cannot be read, or there are several.
    """
    if file and is_folder(user_path(file)):
        raise ZooError(f"{file}: is a folder: take what is in it by zoo.structures('{file}')")
    (first, *more) = _first_two(_in_file(file, None))
    if isinstance(first.structure, ZooError):
        raise first.structure
    if more:
        raise ZooError(
            f"{file}: holds several crystals; name one, as {first.name}, or take all: zoo.structures('{file}')"
        )
    return first.structure


def entries_in(path: Path, kind: str | None = None) -> Iterator[Entry]:
    """Yield the crystals of a file with what else it says of each.

    Raises:
        ZooError: no such file, of no format that is read here, or it cannot be read as a whole.
    """
    refuse_no_file(path)
    try:
        kind = kind or kind_of_file(path)
        if kind in MANY:
            yield from MANY[kind](path)
            return
        for number, (name, structure) in enumerate(structures_in(path, kind)):
            yield Entry.of(name, number, {}, structure)
    except (ZooError, *UNREADABLE) as error:
        raise _told(error, str(path)) from None


def count_if_single(files: Iterable[str]) -> int | None:
    """Return the number of crystals if every file is of a format of one; None if that is not known without reading."""
    count = 0
    for file in files:
        try:
            if kind_by_name(file) not in ("cif", "poscar") or is_folder(user_path(file)):
                return None
        except ZooError:
            return None
        count += 1
    return count


@dataclass
class Inside:
    """Content of a folder and of those in it.

    Attributes:
        files: paths of the files of crystals from the folder on, sorted folder by folder.
        others: ending or name -> number of the other files.
        closed: path of a folder that cannot be looked into -> why.
    """

    files: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    closed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        count = f"{len(self.files):,} {'file' if len(self.files) == 1 else 'files'} of crystals"
        if not self.others:
            return count
        few = ", ".join(name[:30] for name, _ in self.others.most_common(4))
        return f"{count}; {self.others.total():,} passed over ({few}{', …' if len(self.others) > 4 else ''})"


def files_in(folder: Path) -> Inside:
    """Find the files of crystals in a folder and below it, by their names."""
    inside = Inside()
    _look(folder, "", inside)
    return inside


def _look(folder: Path, below: str, inside: Inside) -> None:
    try:
        with os.scandir(folder / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        inside.closed[below] = error.strerror or str(error)
        return
    names = {entry.name for entry in entries}
    if below and PROVENANCE in names and not names.isdisjoint(RECIPES):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                _look(folder, f"{below}{entry.name}/", inside)
        elif not entry.is_dir():
            if _is_of_crystals(entry.name):
                inside.files.append(f"{below}{entry.name}")
            else:
                inside.others[Path(entry.name).suffix.lower() or entry.name] += 1


def _is_of_crystals(name: str) -> bool:
    try:
        kind = kind_by_name(name)
    except ZooError:
        return False
    return kind is not None and kind != "csv" and kind not in OUTPUTS


def is_folder(path: Path) -> bool:
    """Whether a path is a folder that we may see; `Path.is_dir` raises where a name is too long or a folder closed."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _in_file(file: str, kind: str | None, shown: str | None = None) -> Iterator[NamedCrystal]:
    """Yield the crystals of one file, or the one that FILE#KEY names."""
    path, shown, key = user_path(file), shown or file, ""
    if "#" in path.name and not is_file(path):
        base, _, key = file.rpartition("#")
        if is_file(user_path(base)):
            path, shown = user_path(base), base
        else:
            key = ""
    try:
        found = entries_in(path, kind)
        if key:
            yield _named(shown, key, found)
            return
        first = next(found, None)
        if first is None:
            raise ZooError(f"{shown}: holds no crystals")
        second = _or_error(found)
        yield _crystal(shown, first, 1, second is None)
        if isinstance(second, ZooError):
            raise second
        if second is not None:
            yield _crystal(shown, second, 2, False)
            for number, entry in enumerate(found, 3):
                yield _crystal(shown, entry, number, False)
    except ZooError as error:
        yield NamedCrystal(shown, stem_of(shown), _told(error, str(path), shown))


def _or_error(entries: Iterator[Entry]) -> Entry | ZooError | None:
    try:
        return next(entries, None)
    except ZooError as error:
        return error


def _crystal(file: str, entry: Entry, number: int, alone: bool) -> NamedCrystal:
    alone = alone and not entry.named
    key = stem_of(file) if alone else entry.key if entry.named else str(number)
    found = NamedCrystal(file, key, entry.structure, alone)
    if isinstance(entry.structure, ZooError):
        return NamedCrystal(file, key, ZooError(f"{found.name}: {entry.structure}"), alone)
    return found


def _named(file: str, key: str, entries: Iterator[Entry]) -> NamedCrystal:
    """The crystal of a file by its key.

    Raises:
        ZooError: the file holds none of this key.
    """
    number = 0
    for number, entry in enumerate(entries, 1):
        found = _crystal(file, entry, number, False)
        if found.key == key:
            return found
    raise ZooError(f"{file}: no crystal of its {number:,} is called '{key[:40]}'")


def _first_two(crystals: Iterator[NamedCrystal]) -> list[NamedCrystal]:
    return [crystal for crystal, _ in zip(crystals, range(2), strict=False)]


def _from_stdin(kind: str | None) -> Iterator[NamedCrystal]:
    """Yield the crystals that standard input holds: at most as many bytes as of a packed file."""
    shown, most = "stdin", max_file_bytes()
    content = sys.stdin.buffer.read(most + 1)
    try:
        if len(content) > most:
            raise ZooError(f"holds more than {most / 1e6:g} MB, which is the limit; ZOO_MAX_FILE_MB raises that")
        packed = next((end for start, end in _PACKED.items() if content.startswith(start)), "")
        if kind == "csv":
            raise ZooError("a CSV names files from its own folder on: name the CSV")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"stdin{packed}"
            path.write_bytes(content)
            yield from _in_file(str(path), kind, shown)
    except ZooError as error:
        yield NamedCrystal(shown, shown, ZooError(f"{shown}: {error}"))


_PACKED = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz"}


def _told(error: Exception, path: str, shown: str | None = None) -> ZooError:
    """The error of a line that begins with the name of the file that the user knows."""
    words = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    for name in (path, short(Path(path))):
        words = words.removeprefix(f"{name}: ")
    kind = NoCrystalsError if isinstance(error, NoCrystalsError) else ZooError
    return kind(f"{short(Path(shown or path))}: {words}")
