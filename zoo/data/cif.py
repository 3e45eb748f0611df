"""The crystal in a CIF. pymatgen reads it, after what would be misread or would take hours has been refused.

Partly occupied sites are refused in `zoo.data.structures`, as in every other format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from pymatgen.core import Element, Structure
from pymatgen.core.operations import SymmOp
from pymatgen.io.cif import CifBlock, CifParser, str2float

from zoo.errors import ZooError
from zoo.storage.file_limits import refuse_too_many_lines

MOST_OPERATIONS = 192  # of a space group in its conventional cell
LONGEST_LINE = 2048  # characters, the limit of CIF 1.1; the end of a quote is looked for in quadratic time
IMAGES = 8_000  # sites × operations, or 8 an atom of the limit; pymatgen compares each with all that it has found
SAME_SITE = 1e-4  # fraction of a lattice vector, pymatgen's tolerance

_OPERATIONS = re.compile(r"_(symmetry_equiv_pos_as_xyz|space_group_symop)")
_GROUP_NAME = re.compile(
    r"_(symmetry|space_group)_(space_group_)?(name_h|name_hall|it_number|int_tables)", re.IGNORECASE
)
_MAGNETIC = ("_space_group_magn", "_space_group_symop_magn")
_ATOMS = re.compile(r"^\s*_atom_site[_.](fract|cartn)_x\b", re.IGNORECASE | re.MULTILINE)
_LONG_NAME = 80  # characters; what is longer names no group, and is not kept
_WATER = ("Hw", "Ow")  # labels of the atoms of water, which pymatgen knows
_SYMBOL = re.compile(r"([A-Za-z][a-z]?)(?![a-z])")
_OPERATION = re.compile(r"(?:[-+*/.\dxyz\s]+,){2}[-+*/.\dxyz\s]+", re.IGNORECASE)
_CELL = (*(f"_cell_length_{axis}" for axis in "abc"), *(f"_cell_angle_{name}" for name in ("alpha", "beta", "gamma")))
_SITES = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")


class _Parser(CifParser):
    """pymatgen's CIF parser, which remembers the operations of named space groups: making them takes up to seconds."""

    feature_flags: dict[str, bool]
    warnings: list[str]

    def get_symops(self, data: CifBlock) -> list[SymmOp]:
        """Return the symmetry operations of a block; those of a space group given by name are remembered."""
        if any(data.data.get(key) for key in data.data if _OPERATIONS.match(key)):
            return list(super().get_symops(data))
        named = tuple(sorted((key, value) for key, value in data.data.items() if _GROUP_NAME.match(key)))
        if not all(isinstance(value, str) and len(value) <= _LONG_NAME for _, value in named):
            return list(super().get_symops(data))
        operations, warnings = _named_group(named)
        self.warnings += warnings
        return list(operations)


@lru_cache(maxsize=512)
def _named_group(named: tuple[tuple[str, str], ...]) -> tuple[tuple[SymmOp, ...], tuple[str, ...]]:
    """Return the operations of a space group from the entries of a CIF that name it, and pymatgen's warnings."""
    parser = CifParser.from_str("data_group")
    operations = parser.get_symops(CifBlock(dict(named), [], "group"))
    return tuple(operations), tuple(parser.warnings)  # type: ignore[attr-defined]


def read_cif(text: str, max_atoms: int | None = None, remedy: str = "") -> Structure:
    """Read the one crystal in a CIF, with its occupancies, in pymatgen's frame: c along z, a in the xz plane.

    Args:
        text: the text of the CIF.
        max_atoms: largest number of atoms in the whole cell; a larger cell is refused before it is built. None: no
            limit.
        remedy: how to raise that limit, where one can; ends the message.

    Raises:
        ZooError: several crystals or none, more than `max_atoms` atoms, symmetry that is named but not understood, a
            site of no element or with implied hydrogen atoms, or a line that CIF does not allow.
        ValueError: an entry is missing or holds no number, or a row of a loop is not whole.
        Exception: whatever else pymatgen raises on a broken file.
    """
    tidy = _tidy(text)
    try:
        parser = _Parser.from_str(tidy)
    except (ValueError, ZeroDivisionError):  # the latter where a loop has less than one row
        _check_loops(tidy)
        raise
    blocks = [CifBlock(data, [], name) for name, data in parser.as_dict().items()]
    # Moments alone do not matter here: without a magnetic group the crystal is read as that of a plain CIF.
    magnetic = any(key.startswith(_MAGNETIC) for block in blocks for key in block.data)
    parser.feature_flags["magcif"] = magnetic
    if not blocks:
        raise ValueError("no line begins with data_, as the block of a crystal does")
    for block in blocks:
        _check_symbols(block.data)
        _check_occupancies(block.data)
        _check_operations(block.data, magnetic)
    try:
        for block in blocks:
            atoms = 0 if max_atoms is None else _count(parser, block, magnetic, max_atoms)
            if max_atoms is not None and atoms > max_atoms:
                raise ZooError(f"{atoms:,} atoms in the cell, at most {max_atoms:,} are answered here{remedy}")
        crystals = parser.parse_structures(primitive=False)
    except ValueError:
        for block in blocks:
            _check_entries(block.data)
        raise
    if len(crystals) != 1:
        raise ZooError(f"holds {len(crystals)} crystals, one is wanted")
    warnings = " ".join(parser.warnings)
    if "implicit hydrogens" in warnings:
        raise ZooError("it leaves hydrogen atoms out (implicit hydrogens); add them with their positions")
    if "Defaulting to P1" in warnings and any(_names_a_group(block.data) for block in blocks):
        raise ZooError("its space group is not known, and it lists no symmetry operations; add those")
    return crystals[0]


def crystal_blocks(text: str) -> list[str]:
    """Part a CIF into the texts of its crystals: the blocks that list atoms, each from its `data_` line on.

    Blocks without atoms (a publication's words, say) are left out. Where none lists atoms, the text comes back whole.
    """
    starts, inside, offset = [], False, 0
    for line in text.splitlines(keepends=True):
        if line.startswith(";"):
            inside = not inside
        elif not inside and line.lstrip()[:5].lower() == "data_":
            starts.append(offset)
        offset += len(line)
    blocks = [text[start:end] for start, end in pairwise([*starts, len(text)])]
    crystals = [block for block in blocks if _ATOMS.search(block)]
    return crystals if crystals and len(blocks) > 1 else [text]


def _tidy(text: str) -> str:
    """Remove empty lines: on thousands of them pymatgen's search for `data_` takes quadratic time.

    Raises:
        ZooError: too many lines, a line that is too long, or two blocks of one name, of which pymatgen would keep the
            last.
    """
    lines = [line.rstrip() for line in text.removeprefix("\ufeff").splitlines()]
    lines = [line for line in lines if line]
    refuse_too_many_lines(_outside_of_texts(lines))
    longest = max((len(line) for line in lines if "'" in line or '"' in line), default=0)
    if longest > LONGEST_LINE:
        raise ZooError(f"a line of {longest:,} characters; a CIF has at most {LONGEST_LINE:,} in one")
    names = Counter(line.split()[0] for line in lines if line.lstrip().startswith("data_"))
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise ZooError(f"two blocks are called {twice}; keep one")
    return "\n".join(lines)


def _outside_of_texts(lines: list[str]) -> int:
    """Count the lines that are not of a text between semicolons, which may be a whole file of reflections."""
    edges = [number for number, line in enumerate(lines) if line.startswith(";")]
    inside = sum(end - start + 1 for start, end in zip(edges[::2], edges[1::2], strict=False))
    return len(lines) - inside


def _check_symbols(block: Mapping[str, Any]) -> None:
    """Check that each site names a chemical element: pymatgen reads `Pq` as phosphorus and leaves `?` out.

    Raises:
        ZooError: a site names no element.
    """
    for symbol in dict.fromkeys(block.get("_atom_site_type_symbol") or block.get("_atom_site_label") or ()):
        if symbol.startswith(_WATER) or " + " in symbol:  # the latter: shares of a mixed site, refused as such later
            continue
        found = _SYMBOL.match(symbol)
        if found is None or not Element.is_valid_symbol(found[1].title()):
            raise ZooError(f"site '{symbol}' names no chemical element")


def _check_loops(text: str) -> None:
    """Name the loop that pymatgen cannot read: each is tried by itself.

    Raises:
        ValueError: a row of a loop has a value too few or too many.
    """
    for loop in re.split(r"(?mi)^\s*loop_", text)[1:]:
        try:
            CifBlock.from_str(f"data_loop\nloop_\n{loop}")
        except (ValueError, ZeroDivisionError):
            name = loop.split()[0][:_LONG_NAME]
            raise ValueError(f"the loop of {name}: a row has a value too few or too many") from None


def _check_entries(block: Mapping[str, Any]) -> None:
    """Name the entry for want of which pymatgen finds no crystal in a block.

    Raises:
        ValueError: an entry of the cell or of the atoms is missing or no number, or one of the cell is not above zero.
    """
    for tag in (*_CELL, *_SITES, "_atom_site_label"):
        values = block.get(tag)
        if not values:
            raise ValueError(f"{tag} is missing")
        for value in [values] if isinstance(values, str) else values:
            if tag == "_atom_site_label" or (_is_number(value) and (tag in _SITES or str2float(value) > 0)):
                continue
            kind = "number" if tag in _SITES else "number above zero"
            raise ValueError(f"{tag} is '{value[:_LONG_NAME]}', which is no {kind}")


def _is_number(value: str) -> bool:
    try:
        str2float(value)
    except ValueError:
        return False
    return True


def _check_occupancies(block: Mapping[str, Any]) -> None:
    """Check that each occupancy is a number or not given: pymatgen takes what it cannot read for 1.

    Raises:
        ZooError: an occupancy is something else.
    """
    for value in block.get("_atom_site_occupancy") or ():
        if value not in ("?", ".") and not _is_number(value):
            raise ZooError(f"_atom_site_occupancy is '{value[:_LONG_NAME]}', which is no number")


def _check_operations(block: Mapping[str, Any], magnetic: bool) -> None:
    """Refuse more operations than a group has, and magnetic groups by name: pymatgen would evaluate an expression.

    Raises:
        ZooError: the block has too many operations, one that is none (pymatgen leaves out what it does not know in
            it), or a magnetic group without its operations.
    """
    for key, value in block.items():
        if _OPERATIONS.match(key) and "xyz" in key and "magn" not in key:
            for operation in [value] if isinstance(value, str) else value:
                if not _OPERATION.fullmatch(operation):
                    raise ZooError(f"'{operation[:_LONG_NAME]}' is no symmetry operation such as -x, y+1/2, z")
        if isinstance(value, list) and _OPERATIONS.match(key) and len(value) > MOST_OPERATIONS:
            raise ZooError(f"{len(value):,} symmetry operations; a space group has at most {MOST_OPERATIONS}")
    if magnetic and not block.get("_space_group_symop_magn_operation.xyz"):
        raise ZooError("a magnetic space group without its operations; write the crystal as a plain CIF")


def _names_a_group(block: Mapping[str, Any]) -> bool:
    """Return whether a block names a space group other than P1."""
    named = [str(value) for key, value in block.items() if _GROUP_NAME.match(key)]
    return any(re.sub(r"[\s_()]", "", value) not in ("", "?", ".", "P1", "1") for value in named)


def _count(parser: _Parser, block: CifBlock, magnetic: bool, max_atoms: int) -> int:
    """Count the atoms of the whole cell as pymatgen will find them: the distinct images of each site.

    Raises:
        ZooError: there are more images than pymatgen could look through.
    """
    columns = [block.data.get(f"_atom_site_fract_{axis}", ()) for axis in "xyz"]
    sites = len(columns[0])
    if not sites or sites > max_atoms or any(isinstance(column, str) for column in columns):
        return sites
    operations = parser.get_magsymops(block) if magnetic else parser.get_symops(block)
    images = sites * len(operations)
    if images > max(IMAGES, 8 * max_atoms):
        raise ZooError(f"{images:,} images of its {sites:,} sites under symmetry; give the whole cell without symmetry")
    fractions = np.array([[str2float(value) for value in column] for column in columns]).T
    rotations = np.array([operation.rotation_matrix for operation in operations])
    moves = np.array([operation.translation_vector for operation in operations])
    return sum(_distinct(rotations @ at + moves) for at in fractions)


def _distinct(images: np.ndarray) -> int:
    """Count the (n, 3) fractional coordinates that differ by more than pymatgen's tolerance."""
    apart = images[:, None] - images[None]
    same = (np.abs(apart - np.round(apart)) < SAME_SITE).all(-1)
    return int((~np.tril(same, -1).any(1)).sum())
