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
    """One crystal of a file.

    Attributes:
        file: as the user named it.
        key: of the crystal in a file of many; else the name of the file without its ending.
        structure: the crystal, or why it cannot be read, in a line that names it.
    """

    file: str
    key: str
    structure: Structure | ZooError

    @property
    def name(self) -> str:
        """For errors: the file and, of many, which of them."""
        return self.file if self.key == Path(self.file).stem else f"{self.file}: {self.key}"

    @property
    def formula(self) -> str:
        """Reduced; empty where there is no crystal."""
        return "" if isinstance(self.structure, ZooError) else self.structure.composition.reduced_formula


def crystals_in(files: Iterable[str]) -> Iterator[NamedCrystal]:
    """All crystals of all files, one after another; of a file that cannot be read, the reason in its place.

    JSON (pymatgen's dicts), extxyz and CSV as the dataset `file` reads them, without its tensors; also gzipped.
    """
    for file in files:
        path = Path(file)
        read = reader_of(path)
        if read is None:
            yield NamedCrystal(file, path.stem, _tried(path))
            continue
        found = False
        try:
            for entry in read(path):
                found = True
                structure = entry.structure
                if isinstance(structure, ZooError):
                    structure = ZooError(f"{file}: {entry.key}: {structure}")
                yield NamedCrystal(file, entry.key, structure)
            if not found:
                raise ZooError(f"{file}: holds no crystals")
        except ZooError as error:
            yield NamedCrystal(file, path.stem, error)


def count_if_single(files: Sequence[str]) -> int | None:
    """How many crystals there are, where that is plain without reading: one a file."""
    return len(files) if all(reader_of(Path(file)) is None for file in files) else None


def reader_of(path: Path) -> Callable[[Path], Iterator[Entry]] | None:
    """What reads a file of many crystals; None for a CIF or VASP file, and for what neither reads."""
    name = path.name.lower().removesuffix(".gz")
    return next((read for ending, read in SEVERAL.items() if name.endswith(ending)), None)


def _tried(path: Path) -> Structure | ZooError:
    try:
        return structure_from_file(path)
    except ZooError as error:
        known = path.is_file() and str(error).endswith("(POSCAR, .vasp)")
        return ZooError(f"{error}, nor {', '.join(SEVERAL)}") if known else error
