"""Crystal structures from pymatgen's and ASE's objects and JSON and from CIF text; each error is one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Composition, Element, Lattice, Structure

from zoo.data.ase_files import Positions, positions_in_dict
from zoo.data.cif import crystal_blocks, read_cif
from zoo.errors import ZooError
from zoo.storage.file_limits import max_cif_atoms

if TYPE_CHECKING:  # a third of a second to import
    from ase import Atoms

LONGEST = 10_000.0  # Å, of a lattice vector
MOLECULE = "is a molecule, without a cell: only crystals are answered"
FARTHEST = 1e6  # lattice vectors, of an atom from the origin; beyond, float64 has less than 1e-10 of a cell left


def crystal_in(content: Any) -> Any:
    """Return the part of an object of JSON that describes one crystal; None where the object does not.

    That is the object itself (`Structure.as_dict`, or ASE's of Atoms), or what it holds as `structure`, such as
    pymatgen's entries and the documents of the Materials Project do.
    """
    if not isinstance(content, Mapping):
        return None
    inner = content.get("structure")
    if _describes_atoms(inner):
        return inner
    return content if _describes_atoms(content) else None


def _describes_atoms(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    return isinstance(content.get("sites"), list) or ("numbers" in content and "positions" in content)


def structure_from_dict(content: Any, max_atoms: int | None = None) -> Structure:
    """Build a Structure from the dict of `Structure.as_dict`, or ASE's of Atoms, in its Cartesian frame.

    Site properties, charges, constraints and results are left aside. pymatgen's own reader imports whatever modules
    the site properties name, and ASE's makes arrays of any size.

    Raises:
        ZooError: no such dict, a partly occupied site, no chemical element, more than `max_atoms` atoms, or not
            periodic in three directions.
    """
    try:
        if isinstance(content, Mapping) and "sites" not in content and "numbers" in content:
            atoms = positions_in_dict(content)
            _refuse_many(len(atoms.numbers), max_atoms)
            return structure_from_positions(atoms)
        if isinstance(content, Mapping) and isinstance(content.get("sites"), list) and "lattice" not in content:
            raise ZooError(MOLECULE)
        lattice, sites = content["lattice"], content["sites"]
        _refuse_many(len(sites), max_atoms)
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


def _refuse_many(atoms: int, max_atoms: int | None) -> None:
    if max_atoms is not None and atoms > max_atoms:
        raise ZooError(f"{atoms:,} atoms in the cell, at most {max_atoms:,} are answered here")


def structure_from_atoms(atoms: Atoms) -> Structure:
    """Build a Structure from Atoms of ASE, in their Cartesian frame.

    Raises:
        ZooError: a molecule, not periodic in three directions, a partly occupied site, or as `checked_structure`.
    """
    for label, shares in _occupancies(atoms):
        if len(shares) != 1 or next(iter(shares.values())) != 1:
            raise ZooError(_partly_occupied(f"{label} ({', '.join(map(str, shares))})"))
    pbc = tuple(bool(one) for one in atoms.pbc)
    return structure_from_positions(Positions(atoms.numbers, atoms.positions, atoms.cell.array, pbc))


def _occupancies(atoms: Atoms) -> list[tuple[str, Mapping[str, float]]]:
    """Return the occupancies of a CIF that ASE has read: kind of a site -> element -> share."""
    found = atoms.info.get("occupancy")
    if not isinstance(found, Mapping):
        return []
    return [(str(label)[:20], shares) for label, shares in found.items() if isinstance(shares, Mapping)]


def structure_from_positions(atoms: Positions) -> Structure:
    """Build a Structure from elements, Cartesian positions and a cell.

    Raises:
        ZooError: a molecule, not periodic in three directions, or as `checked_structure`.
    """
    if not atoms.cell.any():
        raise ZooError(MOLECULE)
    if not all(atoms.pbc):
        raise ZooError("is not periodic in all three directions (pbc)")
    symbols = [_symbol(int(number)) for number in atoms.numbers]
    # Before the cell is known to span a volume nothing is divided by it.
    checked_structure(atoms.cell, symbols, np.zeros((len(symbols), 3)))
    coordinates = np.asarray(atoms.positions, dtype=np.float64)
    if coordinates.shape != (len(symbols), 3) or not np.isfinite(coordinates).all():
        raise ZooError("the structure holds NaN or infinite numbers, or not three coordinates for each of its atoms")
    return checked_structure(atoms.cell, symbols, np.linalg.solve(atoms.cell.T, coordinates.T).T)


@lru_cache(maxsize=256)
def _symbol(number: int) -> str:
    try:
        return str(Element.from_Z(number).symbol)
    except ValueError:
        raise ZooError(f"'{number}' is no atomic number") from None


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


def structure_from_cif(text: str, max_atoms: int | None = None) -> Structure:
    """Read the one crystal in the text of a CIF: c along z, a in the xz plane.

    Raises:
        ZooError: broken, several crystals in it, partly occupied sites, or more than `max_atoms` atoms (default:
            `zoo.storage.file_limits.max_cif_atoms`, with a word on how to raise that).
    """
    most, remedy = max_atoms, ""
    if max_atoms is None:
        most, remedy = max_cif_atoms(), "; ZOO_MAX_CIF_ATOMS raises that, and a VASP file may hold more"
    try:
        blocks = crystal_blocks(text)
        if len(blocks) > 1:
            raise ZooError(f"holds {len(blocks)} crystals, one is wanted")
        return ordered(lambda: read_cif(blocks[0], most, remedy))
    except ZooError as error:
        raise ZooError(f"the CIF: {error}") from None


def ordered(parse: Callable[[], Structure]) -> Structure:
    """Return the crystal that `parse` reads, with elements alone on its sites.

    Raises:
        ZooError: it cannot be read, a site is partly occupied or of no element, or as `checked_structure`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rounded coordinates and the like; what matters raises
            structure = parse()
    except ZooError:
        raise
    except Exception as error:  # the parsers raise whatever their inner code does
        raise ZooError(f"cannot be read as a crystal structure ({words_of(error)})") from None
    if not structure.is_ordered:
        disordered = next(site for site in structure if not site.is_ordered)
        raise ZooError(_partly_occupied(disordered.species_string))
    try:
        species = [site.specie.symbol for site in structure]
    except AttributeError:
        raise ZooError("a site holds no chemical element") from None
    return checked_structure(structure.lattice.matrix, species, structure.frac_coords)


def words_of(error: Exception) -> str:
    """Return what an error of a parser says, in one line that is not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__
