"""Readers of files of crystals and tensors: extxyz, CSV with a structure file a row."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import numpy as np
from pymatgen.core import Structure

from zoo.contract.plugin import BadRecord, Record
from zoo.contract.target import TensorTarget
from zoo.data.structure_files import structure_from_file
from zoo.data.structures import structure_from_atoms
from zoo.data.tensors import read_target
from zoo.errors import ZooError, did_you_mean
from zoo.storage.csv_cells import cell_read, row_read
from zoo.storage.file_limits import UNREADABLE, FileTooLarge, open_bytes, refuse_too_many_lines
from zoo.storage.user_path import is_file
from zoo.storage.weights import sha256_of

if TYPE_CHECKING:  # half a second to import, for one of the formats
    from ase import Atoms


@dataclass(frozen=True)
class Entry:
    """A crystal of a file before its tensors are checked.

    Attributes:
        key: name of the crystal or, without one, its number in the file from 0 on, padded so that text order is number
            order.
        fields: all other fields of the crystal in the file.
        structure: the crystal, or why it cannot be read.
        named: the key is a name.
    """

    key: str
    fields: Mapping[str, Any]
    structure: Structure | ZooError
    named: bool = True

    @classmethod
    def of(cls, name: Any, number: int, fields: Mapping[str, Any], structure: Structure | ZooError) -> Entry:
        """A crystal by its name or, where that is None, by its number."""
        return cls(f"{number:06d}" if name is None else str(name), fields, structure, name is not None)


def records_of(
    entries: Iterator[Entry], targets: Mapping[str, TensorTarget], source: str, functional: str = "unknown"
) -> Iterator[Record | BadRecord]:
    """Yield records with the targets that each entry holds; plain values among the other fields become properties.

    A text in the field `functional` is the record's level of theory, in place of `functional`.
    """
    for entry in entries:
        try:
            if isinstance(entry.structure, ZooError):
                raise entry.structure
            present = [target for name, target in targets.items() if entry.fields.get(name) is not None]
            if not present:
                raise ZooError(f"has no {' or '.join(repr(name) for name in targets)}")
            n_atoms = len(entry.structure)
            tensors = {target.name: read_target(entry.fields[target.name], target, n_atoms) for target in present}
        except ZooError as error:
            yield BadRecord(entry.key, str(error))
            continue
        plain = {k: v for k, v in entry.fields.items() if k not in targets and isinstance(v, str | int | float)}
        given = entry.fields.get("functional")
        level = given if isinstance(given, str) and given.strip() else functional
        yield Record(entry.key, entry.structure, tensors, {"source": source, **plain}, level)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file, which is unpacked where its name ends in .gz (`zoo.storage.file_limits` says how far).

    Raises:
        ZooError: no such file, it cannot be read, or it is packed and holds too much.
    """
    try:
        with open_bytes(path) as file:
            try:
                yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            except FileTooLarge as error:
                raise ZooError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise ZooError(f"{path}: no such file") from None
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: cannot be read ({error})") from None


def name_in(fields: Any, key_field: str) -> Any:
    """Return what the key field of a record holds; None where there is none, or it is empty."""
    given = fields.get(key_field) if isinstance(fields, Mapping) else None
    return None if isinstance(given, str) and not given else given


def extxyz_entries(path: Path, key_field: str = "key") -> Iterator[Entry]:
    """Read an extxyz file with ASE, a crystal per frame; its fields are the comment line's
    and the columns of the atoms.

    The frames are parted first, so that a broken one does not take those after it along.

    Raises:
        ZooError: a frame does not begin with its number of atoms, so that what follows cannot be parted.
    """
    with open_text(path) as lines:
        for number in itertools.count():
            head = next((line for line in lines if line.strip()), None)
            if head is None:
                return
            if not head.strip().isdecimal():
                raise ZooError(
                    f"{path}: frame {number + 1} must begin with its number of atoms, it begins '{head.strip()[:60]}'"
                )
            digits = head.strip().lstrip("0") or "0"
            atoms = int(digits) if len(digits) < 19 else sys.maxsize - 1  # what is more can be no count of lines
            try:
                refuse_too_many_lines(atoms, f"{digits[:12]}{'...' if len(digits) > 12 else ''} atoms")
            except ZooError as error:
                deque(itertools.islice(lines, atoms + 1), maxlen=0)  # passed over, so that the next frame is found
                yield Entry.of(None, number, {}, error)
                continue
            frame = head + "".join(itertools.islice(lines, atoms + 1))
            yield _extxyz_entry(frame, key_field, number)


_COLUMNS = re.compile(r'Properties="?([^\s"]*)')


def _check_columns(frame: str) -> None:
    """Check that `Properties` names no more columns than the first atom has: ASE makes a field for each.

    Raises:
        ZooError: it does.
    """
    _, comment, atom, *_ = [*re.split(r"\r\n|\r|\n", frame, maxsplit=3), "", ""]
    named = _COLUMNS.search(comment)
    counts = named[1].split(":")[2::3] if named is not None else []
    there = len(atom.split())
    wide = next((count for count in counts if count.isdecimal() and (len(count) > 9 or int(count) > there)), None)
    if there and wide is not None:
        raise ZooError(f"'Properties' names {wide[:20]} columns, an atom has {there}")


def _extxyz_entry(frame: str, key_field: str, number: int) -> Entry:
    import ase.io

    try:
        _check_columns(frame)
        atoms = cast("Atoms", ase.io.read(io.StringIO(frame), format="extxyz", index=0))
    except Exception as error:  # ASE raises whatever its inner code does
        reason = " ".join(str(error).split()) or type(error).__name__
        return Entry.of(None, number, {}, ZooError(f"is no valid extxyz frame ({reason})"))
    return entry_of(atoms, number, key_field)


def entry_of(atoms: Atoms, number: int, key_field: str = "key") -> Entry:
    """Return ASE's atoms, the `number`-th of a file, with all that stands beside them, as an entry."""
    # ASE moves names that it knows as results of a calculator (dielectric_tensor among them) there.
    found = {**atoms.arrays, **atoms.info, **(atoms.calc.results if atoms.calc is not None else {})}
    fields = {name: value.item() if isinstance(value, np.generic) else value for name, value in found.items()}
    try:
        if atoms.cell.any() and not atoms.pbc.all():
            raise ZooError("is not periodic in all three directions (Lattice= and pbc= of the comment line)")
        return Entry.of(name_in(fields, key_field), number, fields, structure_from_atoms(atoms))
    except ZooError as error:
        return Entry.of(name_in(fields, key_field), number, fields, error)


def csv_entries(
    path: Path, targets: Mapping[str, TensorTarget], key_field: str = "key", structure_column: str = "cif"
) -> Iterator[Entry]:
    """Read a CSV with a crystal per row, its structure in the file that `structure_column` names.

    The path of that file is relative to the folder of the CSV.

    A tensor is JSON in the column of the target's name or, for rank 2, in columns target_xx, target_xy, ...; where the
    index symmetry says so, one of xy and yx is enough. Without a key column the structure's path is the key.

    Raises:
        ZooError: the CSV has no such column, or only some of a tensor's.
    """
    for number, row in enumerate(_rows(path, structure_column, tuple(targets.values()))):
        fields: dict[str, Any] = {name: _value(text) for name, text in row.items()}
        for target in targets.values():
            if target.name not in fields:
                fields[target.name] = _from_components(fields, target)
        name = row.get(key_field) or row.get(structure_column) or None
        try:
            if structure_column not in row:
                raise ZooError(f"row {number + 2} has no '{structure_column}'")
            yield Entry.of(name, number, fields, structure_from_file(path.parent / row[structure_column]))
        except ZooError as error:
            yield Entry.of(name, number, fields, error)


def csv_fingerprint(path: Path, structure_column: str = "cif") -> str:
    """Hash of a CSV and of the structure files that it names.

    Raises:
        ZooError: as `csv_entries`.
    """
    digest = hashlib.sha256(sha256_of(path).encode())
    for row in _rows(path, structure_column):
        file = path.parent / row.get(structure_column, "")
        digest.update(sha256_of(file).encode() if is_file(file) else b"none")
    return digest.hexdigest()


def _rows(path: Path, structure_column: str, targets: Sequence[TensorTarget] = ()) -> Iterator[dict[str, str]]:
    """The cells of each row that hold something, by column; first the columns that there must be are looked for.

    An apostrophe that `zoo.storage.csv_cells` has put before a text is taken away.
    """
    with open_text(path) as file:
        rows = csv.DictReader(file)
        try:
            columns = [cell_read(name) for name in rows.fieldnames or () if name]
        except csv.Error as error:
            raise ZooError(f"{path}: its first line cannot be read ({error})") from None
        if not columns:
            raise ZooError(f"{path}: is empty")
        if structure_column not in columns:
            hint = "dataset.structure names another one" if len(columns) > 1 else "are the columns parted by commas?"
            nearest = did_you_mean(structure_column, columns)
            raise ZooError(f"{path}: has no column '{structure_column}'; {hint}.{nearest}")
        for target in targets:
            missing = _missing_component(columns, target)
            if missing is not None:
                raise ZooError(f"{path}: has no column '{missing}', though others of the tensor '{target.name}'")
        try:
            for row in map(row_read, rows):
                yield {name: text for name, text in row.items() if isinstance(name, str) and text not in (None, "")}
        except csv.Error as error:
            raise ZooError(f"{path}: row {rows.line_num} cannot be read ({error})") from None


def _value(text: str) -> Any:
    """A cell of a CSV: number or list where it reads as JSON, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _missing_component(columns: Sequence[str], target: TensorTarget) -> str | None:
    """The first of the columns target_xx, ... that is not there though others are."""
    if target.rank != 2 or target.name in columns:
        return None
    names = {f"{target.name}_{i}{j}": f"{target.name}_{j}{i}" for i in "xyz" for j in "xyz"}
    there = {name for name in names if name in columns}
    if target.formula == "ij=ji":
        there |= {names[name] for name in there}
    return next((name for name in names if name not in there), None) if there else None


def _from_components(fields: Mapping[str, Any], target: TensorTarget) -> list[list[Any]] | None:
    """3×3 from columns target_xx, ...; None where there is none of them, NaN for one that is missing."""
    if target.rank != 2:
        return None

    def component(i: str, j: str) -> Any:
        value = fields.get(f"{target.name}_{i}{j}")
        mirrored = fields.get(f"{target.name}_{j}{i}") if target.formula == "ij=ji" else None
        return mirrored if value is None else value

    matrix = [[component(i, j) for j in "xyz"] for i in "xyz"]
    return matrix if any(value is not None for row in matrix for value in row) else None
