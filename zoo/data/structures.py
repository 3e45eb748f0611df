"""Crystal structures from files and from pymatgen's JSON; each error is one line."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Composition, Element, Lattice, Structure

from zoo.data.cif import read_cif
from zoo.errors import ZooError
from zoo.storage.file_limits import max_cif_atoms, read_bytes, refuse_too_many_lines

LONGEST = 10_000.0  # Å, of a lattice vector
FARTHEST = 1e6  # lattice vectors, of an atom from the origin; beyond, float64 has less than 1e-10 of a cell left


def structure_from_dict(content: Any, max_atoms: int | None = None) -> Structure:
    """Build a Structure from the dict of `Structure.as_dict`; site properties and charges are left aside.

    The dict is read here because pymatgen's own reader imports whatever modules the site properties name.

    Raises:
        ZooError: no such dict, a partly occupied site, no chemical element, more than `max_atoms` atoms, or not
            periodic in three directions.
    """
    try:
        lattice, sites = content["lattice"], content["sites"]
        if max_atoms is not None and len(sites) > max_atoms:
            raise ZooError(f"{len(sites):,} atoms in the cell, at most {max_atoms:,} are answered here")
        matrix = np.array(lattice["matrix"], dtype=np.float64)
        species = [_element(site["species"], site.get("label", "?")) for site in sites]
        coordinates = np.array([site["abc"] for site in sites], dtype=np.float64)
        periodic = all(lattice.get("pbc", (True,)))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ZooError(f"'structure' is no dict of a pymatgen Structure ({reason})") from None
    if not periodic:
        raise ZooError("the structure is not periodic in all three directions")
    return checked_structure(matrix, species, coordinates)


def _element(species: Any, label: Any) -> str:
    if len(species) != 1 or species[0].get("occu", 1) != 1:
        raise ZooError(_partly_occupied(str(label)[:40]))
    symbol = species[0]["element"]
    if not isinstance(symbol, str):
        raise TypeError("an element is named by its symbol")
    return symbol


def _partly_occupied(label: str) -> str:
    return f"site {label} is partly occupied; order the structure first"


def checked_structure(matrix: np.ndarray, species: list[str], frac_coords: np.ndarray) -> Structure:
    """Build a Structure from lattice vectors (rows, (3, 3) Å), N element symbols and (N, 3) fractional coordinates.

    Raises:
        ZooError: no atoms, a symbol of no element, numbers that are NaN or out of all range, or lattice vectors that
            span no volume.
    """
    if matrix.shape != (3, 3) or frac_coords.shape != (len(species), 3) or not species:
        raise ZooError("the structure needs a 3×3 lattice and, for each of its atoms, three coordinates")
    check_geometry(matrix, frac_coords)
    return Structure(Lattice(matrix), [_composition(symbol) for symbol in species], frac_coords)


def check_geometry(matrix: np.ndarray, frac_coords: np.ndarray) -> None:
    """Check that lattice vectors, (3, 3) Å, and fractional coordinates, (N, 3), are those of a crystal.

    Raises:
        ZooError: they are NaN or out of all range, or the lattice vectors span no volume.
    """
    if not (np.isfinite(matrix).all() and np.isfinite(frac_coords).all()):
        raise ZooError("the structure holds NaN or infinite numbers")
    if np.abs(matrix).max() > LONGEST:
        raise ZooError(f"a lattice vector is longer than {LONGEST:,.0f} Å; lengths are in Å")
    if np.abs(frac_coords).max() > FARTHEST:
        raise ZooError(f"an atom is more than {FARTHEST:,.0f} lattice vectors away; fractional coordinates are wanted")
    lengths = np.linalg.norm(matrix, axis=1)
    if abs(np.linalg.det(matrix)) <= 1e-6 * lengths.prod():
        raise ZooError("the lattice vectors span no volume")


@lru_cache(maxsize=256)
def _composition(symbol: str) -> Composition:
    """Return the composition of a site, cached: building one for each site was half of the cost of a structure."""
    if not Element.is_valid_symbol(symbol):
        raise ZooError(f"'{symbol[:40]}' is no chemical element")
    return Composition({Element(symbol): 1})


def structure_from_file(path: Path, max_bytes: int | None = None) -> Structure:
    """Read the one crystal in a CIF or a VASP file (`POSCAR*`, `CONTCAR*`, `*.vasp`, `*.poscar`).

    A VASP file holds lattice vectors, which fix the Cartesian frame. A CIF holds lengths and angles alone: its frame
    is pymatgen's, c along z and a in the xz plane. A `POSCAR*` or `CONTCAR*` may be packed (.gz, .bz2, .xz).

    Args:
        path: of the file.
        max_bytes: most bytes of the file, unpacked; default: `zoo.storage.file_limits.max_file_bytes`.

    Raises:
        ZooError: no such file, another format, broken, several crystals in it, partly occupied sites, or more bytes or
            lines than are read.
    """
    name = path.name.lower()
    if not name:
        raise ZooError("the name of a file is empty")
    try:
        is_folder = path.is_dir()
    except OSError as error:  # so long a name, or a folder on the way that is closed to us
        why = "no file has so long a name" if error.errno == errno.ENAMETOOLONG else error.strerror
        raise ZooError(f"{_short(path)}: {why}") from None
    if is_folder:
        raise ZooError(f"{path}: is a folder; name the files in it, such as {path / '*.cif'}")
    if not path.is_file():
        raise ZooError(f"{path}: no such file")
    if path.name.lower().endswith(".cif"):
        return _parsed(str(path), lambda: _read_cif(read_bytes(path, max_bytes).decode("utf-8", "replace")))
    if holds_one_structure(path.name):
        return _parsed(str(path), lambda: _read_poscar(read_bytes(path, max_bytes).decode("utf-8")))
    raise ZooError(f"{path}: neither a CIF (.cif) nor a VASP file (POSCAR, .vasp)")


def _short(path: Path) -> str:
    return f"{path.name[:40]}…" if len(path.name) > 40 else str(path)[-200:]


def _read_cif(text: str, max_atoms: int | None = None) -> Structure:
    """Read a CIF of at most `max_atoms` atoms; None: of as many as a file may hold (with the remedy).

    Raises:
        ZooError: as `read_cif`.
        Exception: as `read_cif`.
    """
    if max_atoms is not None:
        return read_cif(text, max_atoms)
    return read_cif(text, max_cif_atoms(), "; ZOO_MAX_CIF_ATOMS raises that, and a VASP file may hold more")


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


def holds_one_structure(name: str) -> bool:
    """Return whether `structure_from_file` reads files of that name."""
    name = name.lower()
    return name.startswith(("poscar", "contcar")) or name.endswith((".cif", ".vasp", ".poscar"))


def structure_from_cif(text: str, max_atoms: int | None = None) -> Structure:
    """Read the one crystal in the text of a CIF, in the frame that `structure_from_file` gives it.

    Raises:
        ZooError: broken, several crystals in it, partly occupied sites, or more than `max_atoms` atoms (default:
            `zoo.storage.file_limits.max_cif_atoms`).
    """
    return _parsed("the CIF", lambda: _read_cif(text, max_atoms))


def _parsed(source: str, parse: Callable[[], Structure]) -> Structure:
    """Return the one ordered crystal that `parse` reads; messages call it `source`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rounded coordinates and the like; what matters raises
            structure = parse()
    except ZooError as error:
        raise ZooError(f"{source}: {error}") from None
    except Exception as error:  # the parsers raise whatever their inner code does
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ZooError(f"{source}: cannot be read as a crystal structure ({reason})") from None
    if not structure.is_ordered:
        disordered = next(site for site in structure if not site.is_ordered)
        raise ZooError(f"{source}: {_partly_occupied(disordered.species_string)}")
    try:
        species = [site.specie.symbol for site in structure]
    except AttributeError:
        raise ZooError(f"{source}: a site holds no chemical element") from None
    try:
        return checked_structure(structure.lattice.matrix, species, structure.frac_coords)
    except ZooError as error:
        raise ZooError(f"{source}: {error}") from None
