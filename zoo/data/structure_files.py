"""Crystals in files of structures alone: CIF, VASP, ASE's trajectories and databases, inputs of other programs."""

from __future__ import annotations

import errno
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pymatgen.core import Structure

from zoo.data.ase_files import Positions, atoms_in, database, trajectory
from zoo.data.cif import crystal_blocks
from zoo.data.file_kinds import HEAD, ONE, OUTPUTS, kind_by_content, kind_by_name
from zoo.data.structures import (
    crystal_in,
    ordered,
    structure_from_atoms,
    structure_from_cif,
    structure_from_dict,
    structure_from_positions,
    words_of,
)
from zoo.errors import ZooError
from zoo.storage.file_limits import UNREADABLE, open_bytes, read_bytes, refuse_too_many_lines

Numbered = tuple[str | None, Structure | ZooError]
"""A key of its own, or None, and the crystal, or why it cannot be read."""

Given = TypeVar("Given")
MANY = ("json", "extxyz", "csv")
"""Formats of crystals with further fields, which `zoo.data.formats` reads."""


def structure_from_file(path: Path, max_bytes: int | None = None) -> Structure:
    """Read the one crystal in a file: a CIF, a VASP file, or any other that `structures_in` reads, or a JSON.

    A VASP file holds lattice vectors, which fix the Cartesian frame, as most formats do. A CIF holds lengths and
    angles alone: its frame is pymatgen's, c along z and a in the xz plane. Files may be packed (.gz, .bz2, .xz).

    Args:
        path: of the file.
        max_bytes: most bytes of the file, unpacked; default: `zoo.storage.file_limits.max_file_bytes`.

    Raises:
        ZooError: no such file, another format, broken, several crystals in it, partly occupied sites, or more bytes or
            lines than are read.
    """
    refuse_no_file(path)
    try:
        kind = kind_of_file(path)
        if kind == "json":
            content = crystal_in(json.loads(read_bytes(path, max_bytes)))
            if content is None:
                raise ZooError("is no JSON of one crystal, as pymatgen's Structure.to writes it")
            return structure_from_dict(content)
        if kind in MANY:
            raise ZooError(f"is a file of many crystals ({kind}); one is wanted")
        found = list(structures_in(path, kind, max_bytes))
        if len(found) != 1:
            raise ZooError(f"holds {len(found)} crystals, one is wanted")
    except ZooError as error:
        raise ZooError(f"{path}: {error}") from None
    except (ValueError, RecursionError, *UNREADABLE) as error:
        raise ZooError(f"{path}: cannot be read as a crystal structure ({words_of(error)})") from None
    ((_, structure),) = found
    if isinstance(structure, ZooError):
        raise ZooError(f"{path}: {structure}")
    return structure


def refuse_no_file(path: Path) -> None:
    """Check that a path is that of a file.

    Raises:
        ZooError: there is none of the name, or it is a folder.
    """
    if not path.name:
        raise ZooError("the name of a file is empty")
    try:
        is_folder = path.is_dir()
    except OSError as error:  # so long a name, or a folder on the way that is closed to us
        why = "no file has so long a name" if error.errno == errno.ENAMETOOLONG else error.strerror
        raise ZooError(f"{short(path)}: {why}") from None
    if is_folder:
        raise ZooError(f"{path}: is a folder; name the files in it, such as {path / '*.cif'}")
    if not path.is_file():
        raise ZooError(f"{path}: no such file")


def short(path: Path) -> str:
    """Return a path for a message: as it is, but for one that is too long for a line."""
    text = str(path)
    return text if len(text) <= 200 else f"{path.name[:40]}…" if len(path.name) > 40 else text[-200:]


def kind_of_file(path: Path) -> str:
    """Return the format of a file, by its name or, where that tells none, by how it begins.

    Raises:
        ZooError: it is of no format that is read here; or a pickle.
        OSError, EOFError, zlib.error, lzma.LZMAError: the file cannot be read (`UNREADABLE`).
    """
    found = kind_by_name(path.name)
    if found is not None:
        return found
    with open_bytes(path) as file:
        head = file.read(HEAD)
    found = kind_by_content(head)
    if found is None:
        if not head:
            raise ZooError("is empty")
        raise ZooError("neither a CIF nor a VASP file, JSON, extxyz or another format of crystals that is known here")
    return found


def structures_in(path: Path, kind: str, max_bytes: int | None = None) -> Iterator[Numbered]:
    """Yield the crystals of a file, in their order.

    Args:
        path: of the file.
        kind: its format, one of `zoo.data.file_kinds.KINDS` but for those of `MANY`.
        max_bytes: see `zoo.storage.file_limits.read_bytes`.

    Raises:
        ZooError: the file as a whole cannot be read; the message does not name it.
    """
    try:
        if kind == "cif":
            blocks = crystal_blocks(read_bytes(path, max_bytes).decode("utf-8", "replace"))
            yield from ((None, _or_error(_of_cif, block)) for block in blocks)
        elif kind == "poscar":
            text = read_bytes(path, max_bytes).decode("utf-8")
            yield None, _or_error(lambda one: ordered(lambda: _read_poscar(one)), text)
        elif kind == "traj":
            yield from ((None, _of_positions(one)) for one in trajectory(path, max_bytes))
        elif kind == "db":
            yield from ((key, _of_positions(one)) for key, one in database(path, max_bytes))
        else:
            assert kind in ONE or kind in OUTPUTS, kind
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = atoms_in(path, kind, kind in ONE, max_bytes)
            yield from ((None, _or_error(structure_from_atoms, atoms)) for atoms in found)
    except ZooError:
        raise
    except Exception as error:  # the parsers raise whatever their inner code does
        raise ZooError(f"cannot be read as a crystal structure ({words_of(error)})") from None


def _or_error(read: Callable[[Given], Structure], given: Given) -> Structure | ZooError:
    try:
        return read(given)
    except ZooError as error:
        return error


def _of_cif(text: str) -> Structure:
    try:
        return structure_from_cif(text)
    except ZooError as error:
        raise ZooError(str(error).removeprefix("the CIF: ")) from None


def _of_positions(atoms: Positions | ZooError) -> Structure | ZooError:
    return atoms if isinstance(atoms, ZooError) else _or_error(structure_from_positions, atoms)


def _read_poscar(text: str) -> Structure:
    """Read a VASP file, after what would fill the memory has been refused.

    Raises:
        ZooError: more lines than are read, or fewer lines than atoms.
        Exception: whatever pymatgen raises on a broken file.
    """
    from pymatgen.io.vasp import Poscar  # half a second to import

    lines = text.splitlines()
    refuse_too_many_lines(len(lines))
    # pymatgen makes a list of as many symbols as the counts say before it looks for the atoms.
    first = next((i for i, line in enumerate(lines[5:16], 5) if line.split()[:1] and line.split()[0].isdecimal()), 5)
    counts = " ".join(lines[first : max(2 * first - 5, first + 1)]).split()
    longest = max(map(len, counts), default=0)
    atoms = sum(int(count) for count in counts if count.isdecimal()) if longest < 19 else float("inf")
    if atoms > len(lines):
        raise ZooError(f"its counts of atoms add up to {atoms:,}, it has {len(lines):,} lines")
    return Poscar.from_str(text.replace("\r\n", "\n").replace("\r", "\n")).structure
