"""Crystals in the files that a user names: one in each CIF or VASP file, many in JSON, extxyz and CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pymatgen.core import Structure

from zoo.data.formats import Entry, csv_entries, extxyz_entries, json_entries
from zoo.data.structures import structure_from_file
from zoo.errors import ZooError

SEVERAL: dict[str, Callable[[Path], Iterator[Entry]]] = {
    ".json": json_entries,
    ".extxyz": extxyz_entries,
    ".xyz": extxyz_entries,
    ".csv": lambda path: csv_entries(path, {}),
}


@dataclass(frozen=True)
class NamedCrystal:
    """A crystal of a file, with a name for messages.

    Attributes:
        file: the path that the user gave.
        key: name of the crystal in a file of many; else the name of the file without its ending.
        structure: the crystal, or why it cannot be read, in a line that names it.
    """

    file: str
    key: str
    structure: Structure | ZooError

    @property
    def name(self) -> str:
        """Name in messages: the file and, in a file of many crystals, the key."""
        return self.file if self.key == Path(self.file).stem else f"{self.file}: {self.key}"

    @property
    def formula(self) -> str:
        """Reduced formula; empty where the crystal cannot be read."""
        return "" if isinstance(self.structure, ZooError) else self.structure.composition.reduced_formula


def crystals_in(files: Iterable[str]) -> Iterator[NamedCrystal]:
    """Yield the crystals of all files; a file that cannot be read yields the reason instead.

    JSON (pymatgen's dicts), extxyz and CSV as the dataset `file` reads them, without its tensors; also gzipped.
    """
    for file in files:
        path = Path(file)
        read = reader_of(path)
        if read is None:
            yield NamedCrystal(file, path.stem, _structure_or_error(path))
            continue
        is_empty = True
        try:
            for entry in read(path):
                is_empty = False
                structure = entry.structure
                if isinstance(structure, ZooError):
                    structure = ZooError(f"{file}: {entry.key}: {structure}")
                yield NamedCrystal(file, entry.key, structure)
            if is_empty:
                raise ZooError(f"{file}: holds no crystals")
        except ZooError as error:
            yield NamedCrystal(file, path.stem, error)


def count_if_single(files: Sequence[str]) -> int | None:
    """Return the number of crystals if every file holds one; None if that is not known without reading."""
    return len(files) if all(reader_of(Path(file)) is None for file in files) else None


def reader_of(path: Path) -> Callable[[Path], Iterator[Entry]] | None:
    """Return the reader of a file of many crystals; None for a CIF or VASP file and for unknown formats."""
    name = path.name.lower().removesuffix(".gz")
    return next((read for ending, read in SEVERAL.items() if name.endswith(ending)), None)


def _structure_or_error(path: Path) -> Structure | ZooError:
    try:
        return structure_from_file(path)
    except ZooError as error:
        known = path.is_file() and str(error).endswith("(POSCAR, .vasp)")
        return ZooError(f"{error}, nor {', '.join(SEVERAL)}") if known else error
