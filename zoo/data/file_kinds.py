"""The format of a file of crystals, told by its name or by how it begins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePath

from zoo.errors import ZooError, did_you_mean
from zoo.storage.file_limits import PACKED

OWN = ("cif", "poscar", "json", "extxyz", "csv", "traj", "db")
"""Formats with a reader of the zoo's own; traj and db are ASE's."""

ONE = (
    "xsf", "espresso-in", "gen", "castep-cell", "aims", "res", "struct", "crystal", "cube", "v-sim", "xsd",
    "siesta-xv", "struct_out", "elk", "proteindatabank", "magres", "cfg", "dlp4", "rmc6f", "abinit-in",
)  # fmt: skip
"""Formats of crystals by ASE's names for them, read by ASE."""

OUTPUTS = (
    "espresso-out", "vasp-out", "vasp-xdatcar", "vasp-xml", "aims-output", "castep-castep", "castep-geom",
    "castep-md", "abinit-out",
)  # fmt: skip
"""Outputs of programs, by ASE's names: a crystal for each step. In a folder they are passed over."""

KINDS = (*OWN, *ONE, *OUTPUTS)
"""All formats. ASE's others are left out: their readers open further files, run programs, ask a server, or unpickle, or
take the type of an atom for its element (LAMMPS)."""

ENDINGS: Mapping[str, str] = {
    ".cif": "cif",
    ".mcif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".json": "json",
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".csv": "csv",
    ".traj": "traj",
    ".db": "db",
    ".xsf": "xsf",
    ".axsf": "xsf",
    ".pwi": "espresso-in",
    ".gen": "gen",
    ".cell": "castep-cell",
    ".res": "res",
    ".shelx": "res",
    ".struct": "struct",
    ".f34": "crystal",
    ".cube": "cube",
    ".ascii": "v-sim",
    ".xsd": "xsd",
    ".xv": "siesta-xv",
    ".struct_out": "struct_out",
    ".pdb": "proteindatabank",
    ".magres": "magres",
    ".cfg": "cfg",
    ".rmc6f": "rmc6f",
    ".pwo": "espresso-out",
    ".castep": "castep-castep",
    ".geom": "castep-geom",
    ".md": "castep-md",
}
"""Ending of a name -> format."""

NAMES: Mapping[str, str] = {
    "poscar*": "poscar",
    "contcar*": "poscar",
    "geometry.in*": "aims",
    "geometry.out": "elk",
    "*outcar*": "vasp-out",
    "*xdatcar*": "vasp-xdatcar",
    "*vasprun*.xml": "vasp-xml",
    "config": "dlp4",
}
"""Pattern of a whole name in small letters -> format."""

HEAD = 50_000  # bytes, in which ASE looks for signatures, too
_PICKLES = (".pkl", ".pickle", ".p")
_PICKLED = re.compile(rb"\x80[\x02-\x05]")
_FLOATS = re.compile(rb"\s*(?:[-+]?\d*\.?\d+(?:[eEdD][-+]?\d+)?[ \t]+){2}[-+]?\d*\.?\d+(?:[eEdD][-+]?\d+)?\b")


def unpacked_name(name: str) -> str:
    """Return a name in small letters without the ending of a packed file (.gz, .bz2, ...)."""
    name = name.lower()
    return PurePath(name).stem if PurePath(name).suffix in PACKED else name


def kind_by_name(name: str) -> str | None:
    """Return the format that the name of a file tells; None where it tells none.

    Raises:
        ZooError: it is that of a pickle, which is never read.
    """
    name = unpacked_name(PurePath(name).name)
    suffix = PurePath(name).suffix
    if suffix in _PICKLES:
        raise _pickle()
    if name.startswith("."):
        suffix = name if name in ENDINGS else suffix
    found = ENDINGS.get(suffix)
    if found is not None:
        return found
    return next((kind for pattern, kind in NAMES.items() if fnmatchcase(name, pattern)), None)


def kind_by_content(head: bytes) -> str | None:
    """Return the format that the first bytes of a file tell (`HEAD` of them); None where they tell none.

    Raises:
        ZooError: it is a pickle, which is never read.
    """
    if _PICKLED.match(head):
        raise _pickle()
    if head.startswith(b"SQLite format 3\0"):
        return "db"
    if head.startswith((b"- of UlmASE-Trajectory", b"AFFormatASE-Trajectory")):
        return "traj"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"["):
        return "json"
    if re.search(rb"^\s*_cell_length_a\b", head, re.MULTILINE):
        return "cif"
    lines = head.splitlines()
    if lines and lines[0].strip().isdigit() and len(lines) > 1 and b"lattice=" in lines[1].lower():
        return "extxyz"
    if len(lines) > 6 and all(_FLOATS.match(line) for line in lines[2:5]) and _is_scale(lines[1]):
        return "poscar"
    if re.search(rb"^%block\s+(lattice_cart|lattice_abc|positions_)", head, re.MULTILINE | re.IGNORECASE):
        return "castep-cell"
    if re.search(rb"^\s*lattice_vector\s", head, re.MULTILINE):
        return "aims"
    if re.match(rb"\s*\d+\s+[SF]\s*\n", head):
        return "gen"
    if re.search(rb"^\s*(CRYSTAL|ANIMSTEPS\s+\d+)\s*$", head, re.MULTILINE) and b"PRIMVEC" in head:
        return "xsf"
    return _by_signature(head)


def _is_scale(line: bytes) -> bool:
    try:
        return all(float(word) for word in line.split()[:3])
    except ValueError:
        return False


def _by_signature(head: bytes) -> str | None:
    from ase.io.formats import UnknownFileTypeError, match_magic

    # ASE's signature of a calculation by Quantum ESPRESSO asks for a line before &system.
    if re.search(rb"^\s*&system\b", head, re.MULTILINE | re.IGNORECASE):
        return "espresso-in"
    try:
        found = match_magic(head).name
    except UnknownFileTypeError:
        return None
    return found if found in KINDS else None


def kind_named(name: str) -> str:
    """Return the format that a user names, by its name here or by an ending (`pwi`, `xyz`, `vasp`).

    Raises:
        ZooError: there is no such format.
    """
    given = name.lower().strip()
    given = ENDINGS.get(f".{given.removeprefix('.')}", given)
    if given not in KINDS:
        known = sorted({*KINDS, *(ending[1:] for ending in ENDINGS)})
        raise ZooError(f"no format '{name[:40]}' of crystals.{did_you_mean(given[:40], known)}")
    return given


def _pickle() -> ZooError:
    return ZooError("is a pickle, which could run any program when it is read: save it as JSON, CIF or extxyz")
