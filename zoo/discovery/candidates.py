"""Candidates one after another, in an order that does not change, so that a screening can go on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from zoo.config import plugins
from zoo.contract.plugin import BadRecord, Dataset
from zoo.data.crystal_files import SEVERAL, reader_of
from zoo.data.formats import Entry
from zoo.data.structures import holds_one_structure, structure_from_cif, structure_from_dict, structure_from_file
from zoo.discovery.candidate_source import Found, Source, given_structure, printable
from zoo.discovery.screen_config import CandidateSource
from zoo.errors import ZooError, did_you_mean

ROWS_AT_ONCE = 256  # of a Parquet file
STRUCTURE_COLUMNS = ("structure", "cif")
RECIPES = ("screen.yaml", "discover.yaml")
"""Folders of screenings and discoveries hold one of these, and `PROVENANCE`."""
PROVENANCE = "run.json"


def source_of(given: CandidateSource, folder: Path | None = None) -> Source:
    """Open the source that a recipe's `candidates` name.

    Args:
        given: the recipe's.
        folder: of the screening, where a source may keep what it must find again when that goes on.

    Raises:
        ZooError: there is no such file, or nothing reads it, or the dataset's settings are wrong, or the Materials
            Project cannot be asked.
    """
    if given.materials_project is not None:
        from zoo.discovery.materials_project import MaterialsProjectSource

        return MaterialsProjectSource(given.materials_project, folder)
    if given.dataset is not None:
        settings = plugins.hypers("dataset", given.dataset.name, given.dataset.settings)
        return DatasetSource(plugins.load("dataset", given.dataset.name)(settings))
    path = Path(str(given.path))
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # so long a name, for one
        raise ZooError(f"candidates.path: {path}: cannot be looked at ({error.strerror})") from None
    if is_folder:
        return FolderSource(path)
    if not is_file:
        raise ZooError(f"candidates.path: {path}: no such file or folder")
    if path.suffix.lower() == ".parquet":
        return ParquetSource(path)
    read = reader_of(path)
    if read is None:
        known = ", ".join([*SEVERAL, ".parquet"])
        raise ZooError(f"candidates.path: {path}: neither a folder of CIF or VASP files, nor {known}")
    return EntrySource(path, read)


class FolderSource(Source):
    """The CIF and VASP files of a folder and of those in it, by name.

    Keys are paths from the folder on, without `.cif`, `.vasp` and `.poscar`: `deep/mp-1` of `deep/mp-1.cif`, so that
    two files of one crystal have one key. What a screening or a discovery wrote below the folder is no candidate.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if next(self._names(), None) is None:
            raise ZooError(f"candidates.path: {folder}: there is no CIF or VASP file in it, nor in the folders below")

    def _names(self, below: str = "") -> Iterator[str]:
        with os.scandir(self._folder / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        names = {entry.name for entry in entries}
        if below and PROVENANCE in names and not names.isdisjoint(RECIPES):
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._names(f"{below}{entry.name}/")
            elif holds_one_structure(entry.name):
                yield f"{below}{entry.name}"

    def total(self) -> int:
        """The number of files."""
        return sum(1 for _ in self._names())

    def found(self, start: int = 0) -> Iterator[Found]:
        """Read the candidates of a dataset, see `Source.found`."""
        for name in islice(self._names(), start, None):
            yield Found(_without_ending(name), partial(structure_from_file, self._folder / name))


def _without_ending(name: str) -> str:
    ending = Path(name).suffix
    return name.removesuffix(ending) if holds_one_structure(ending) else name  # POSCAR.mp-1 has none


class EntrySource(Source):
    """A JSON (which is in memory as a whole), extxyz or CSV; plain fields become properties."""

    def __init__(self, path: Path, read: Callable[[Path], Iterator[Entry]]) -> None:
        self._path, self._read = path, read

    def found(self, start: int = 0) -> Iterator[Found]:
        """Read the structure files of a folder, see `Source.found`."""
        for entry in islice(self._read(self._path), start, None):
            yield Found(entry.key, partial(given_structure, entry.structure), _plain(entry.fields, {"key", "cif"}))


class DatasetSource(Source):
    """The records of a dataset plugin."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def found(self, start: int = 0) -> Iterator[Found]:
        """Read the entries of a file, see `Source.found`."""
        for record in islice(self._dataset.records(), start, None):
            if isinstance(record, BadRecord):
                yield Found(record.key, partial(given_structure, ZooError(record.reason)))
            else:
                yield Found(record.key, partial(given_structure, record.structure), _plain(record.properties))


class ParquetSource(Source):
    """A Parquet file with a column `key`, one of `structure` (pymatgen's dict as JSON) and `cif`, and of properties."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._path = path
        with _readable(path):
            self._file = parquet.ParquetFile(path)
        names = self._file.schema_arrow.names
        if "key" not in names:
            raise ZooError(f"candidates.path: {path}: has no column 'key'.{did_you_mean('key', names)}")
        self._column = next((name for name in STRUCTURE_COLUMNS if name in names), "")
        if not self._column:
            raise ZooError(f"candidates.path: {path}: has neither a column 'structure' nor 'cif'")
        plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
        self._properties = [
            one.name
            for one in self._file.schema_arrow
            if one.name not in ("key", *STRUCTURE_COLUMNS) and any(is_kind(one.type) for is_kind in plain)
        ]

    def total(self) -> int:
        """The number of rows."""
        return int(self._file.metadata.num_rows)

    def found(self, start: int = 0) -> Iterator[Found]:
        """Read the rows of a Parquet file, see `Source.found`."""
        before = 0
        columns = ["key", self._column, *self._properties]
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if before + rows > start:
                yield from islice(self._of_group(group, columns, before), max(start - before, 0), None)
            before += rows

    def _of_group(self, group: int, columns: list[str], number: int) -> Iterator[Found]:
        batches = self._file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns)
        while True:
            with _readable(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            for row in batch.to_pylist():
                key = f"{number:06d}" if row["key"] is None else str(row["key"])
                yield Found(key, partial(self._structure, row[self._column]), _plain(row, {"key", self._column}))
                number += 1

    def _structure(self, text: Any) -> Structure:
        if not isinstance(text, str):
            raise ZooError(f"the column '{self._column}' must hold text, here it holds {type(text).__name__}")
        if self._column == "cif":
            return structure_from_cif(text)
        try:
            return structure_from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ZooError(f"'structure' is no valid JSON ({error})") from None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ZooError(f"candidates.path: {path}: cannot be read ({' '.join(str(error).split())})") from None


def _plain(fields: Mapping[str, Any], without: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    """Numbers and texts."""
    return {
        printable(name): printable(v) if isinstance(v, str) else v
        for name, v in fields.items()
        if isinstance(v, str | int | float) and name not in without
    }
