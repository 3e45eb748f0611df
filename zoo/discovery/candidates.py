"""Candidates one after another, in an order that does not change, so that a screening can go on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from zoo.config import plugins
from zoo.contract.plugin import BadRecord, Dataset
from zoo.data.cif import crystal_blocks
from zoo.data.crystal_files import entries_in, files_in, stem_of
from zoo.data.file_kinds import kind_by_name
from zoo.data.json_records import NoCrystalsError
from zoo.data.structure_files import kind_of_file, structure_from_file
from zoo.data.structures import structure_from_cif, structure_from_dict
from zoo.discovery.candidate_source import Found, Source, given_structure, printable
from zoo.discovery.screen_config import CandidateSource
from zoo.errors import ZooError, did_you_mean
from zoo.storage.file_limits import UNREADABLE, read_bytes

ROWS_AT_ONCE = 256  # of a Parquet file
STRUCTURE_COLUMNS = ("structure", "cif")


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
    try:
        kind_of_file(path)
    except (ZooError, *UNREADABLE) as error:
        raise ZooError(f"candidates.path: {path}: {error}") from None
    return EntrySource(path)


class FolderSource(Source):
    """The files of crystals of a folder and of those in it, by name.

    Keys are paths from the folder on, without the ending that tells the format: `deep/mp-1` of `deep/mp-1.cif`, so
    that two files of one crystal have one key. Those of a file of many are its path, `#` and the crystal's name or
    number: `deep/many.traj#2`. What a screening or a discovery wrote below the folder is no candidate.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        inside = files_in(folder)
        for name, why in inside.closed.items():
            raise ZooError(f"candidates.path: {folder / name}: cannot be looked into ({why})")
        if not inside.files:
            raise ZooError(f"candidates.path: {folder}: there is no file of crystals in it, nor in the folders below")
        self._files = inside.files

    def total(self) -> int | None:
        """The number of files, where all are CIF and VASP files, most of which hold one crystal."""
        return len(self._files) if all(kind_by_name(name) in ("poscar", "cif") for name in self._files) else None

    def found(self, start: int = 0) -> Iterator[Found]:
        """Read the files of a folder, see `Source.found`."""
        return islice(self._found(), start, None)

    def _found(self) -> Iterator[Found]:
        for name in self._files:
            path, key = self._folder / name, str(Path(name).with_name(stem_of(name)))
            kind = kind_by_name(name)
            if kind == "poscar":
                yield Found(key, partial(structure_from_file, path))
            elif kind == "cif":
                yield from _of_cif(path, name, key)
            else:
                yield from _of_entries(path, name, key)


def _of_cif(path: Path, name: str, key: str) -> Iterator[Found]:
    """The crystals of a CIF, parsed when they are asked for: their number is known from the text."""
    try:
        blocks = crystal_blocks(read_bytes(path).decode("utf-8", "replace"))
    except (ZooError, OSError, EOFError):
        blocks = []
    if len(blocks) < 2:
        yield Found(key, partial(structure_from_file, path))
        return
    for number, block in enumerate(blocks, 1):
        yield Found(f"{name}#{number}", partial(structure_from_cif, block))


def _of_entries(path: Path, name: str, key: str) -> Iterator[Found]:
    try:
        entries = list(entries_in(path))
    except NoCrystalsError:
        return
    except ZooError as error:
        yield Found(key, partial(given_structure, error))
        return
    for number, entry in enumerate(entries, 1):
        alone = len(entries) == 1 and not entry.named
        own = key if alone else f"{name}#{entry.key if entry.named else number}"
        yield Found(own, partial(given_structure, entry.structure), _plain(entry.fields, {"key", "cif"}))


class EntrySource(Source):
    """A file of many crystals (a JSON is in memory as a whole); plain fields become properties."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def found(self, start: int = 0) -> Iterator[Found]:
        """Read the entries of a file, see `Source.found`."""
        for entry in islice(entries_in(self._path), start, None):
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
