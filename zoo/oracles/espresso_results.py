"""Reading of the outputs of pw.x, ph.x and dynmat.x (6.7 and 7.x); that of ph.x by ASE, with checks around it."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import numpy as np
from ase import units
from ase.io.espresso import read_espresso_ph

from zoo.errors import CalculationFailed

DONE = "JOB DONE."
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?"


def version(text: str) -> str | None:
    """Return the version of the program that wrote an output, such as `6.7MaX`; None where none did."""
    found = re.search(r"^ *Program \w+ v\.(\S+) starts", text, re.MULTILINE)
    return found[1] if found else None


def complaint(text: str) -> str | None:
    """The program's own words for why it has stopped: one line; None where it gives none."""
    found = re.search(r"Error in routine\s+(\S+).*\n\s*(\S.*)", text)
    if found:
        return f"{_one_line(found[2])} ({found[1]})"
    for words in ("convergence NOT achieved", "No convergence has been achieved", "convergence not achieved"):
        if words in text:
            return "no convergence has been achieved"
    if "The maximum number of steps has been reached" in text:
        return "the relaxation has not converged"
    return None


def ended(text: str) -> bool:
    """Whether it came to its proper end, with a result."""
    return DONE in text[-2000:] and complaint(text) is None


def band_gap(text: str) -> float:
    """pw.x: lowest unoccupied minus highest occupied level on the mesh, eV."""
    numbers = _after(text, r"highest occupied, lowest unoccupied level \(ev\):", "pw.x: the gap")
    return float(numbers[1] - numbers[0])


def largest_force(text: str) -> float:
    """pw.x: the largest of the forces on the ions, eV/Å; of a relaxation, those at its end."""
    lines = re.findall(r"^ *atom +\d+ +type +\d+ +force =(.*)$", text[text.rfind("Forces acting on atoms") :], re.M)
    if not lines:
        raise CalculationFailed("pw.x printed no forces")
    forces = np.array([_numbers(line, 3, "pw.x: the forces") for line in lines])
    return float(np.linalg.norm(forces, axis=1).max() * units.Ry / units.Bohr)


def k_points(text: str) -> int:
    """pw.x: how many are left by symmetry."""
    return int(_after(text, r"number of k points=", "pw.x: the k-points", count=1)[0])


def positions(text: str, n_atoms: int) -> np.ndarray:
    """pw.x, end of a relaxation: (N, 3) Å."""
    final = text[text.find("Begin final coordinates") : text.find("End final coordinates")]
    head = final.find("ATOMIC_POSITIONS (angstrom)")
    lines = final[head:].splitlines()[1 : n_atoms + 1]
    if head < 0 or len(lines) < n_atoms:
        raise CalculationFailed("pw.x: the relaxation printed no final positions")
    return np.array([_numbers(line.split(maxsplit=1)[-1], 3, "pw.x: the positions") for line in lines])


def electronic(text: str, file: Path) -> np.ndarray:
    """ph.x: (3, 3), relative to vacuum.

    Args:
        text: the output of a calculation at Γ.
        file: where it stands, for the messages.

    Raises:
        CalculationFailed: it holds no dielectric tensor, or one that cannot be read.
    """
    # ASE passes over what is no number, and fills the whole row with a number that is left alone in it.
    broken = re.search(r"^ *\(.*(?:\*{3}|\bnan\b|\binf(?:inity)?\b).*\)", text, re.MULTILINE | re.IGNORECASE)
    if broken:
        raise CalculationFailed(f"{file}: a number of ph.x is out of range ({_one_line(broken[0])})")
    try:
        found = read_espresso_ph(StringIO(text))
    except Exception as error:  # it expects a complete output, and raises whatever its parts do on another one
        raise CalculationFailed(f"{file}: ASE cannot read the output of ph.x ({_one_line(str(error))})") from error
    if "dieltensor" not in found.get(1, {}):
        raise CalculationFailed(f"{file}: the output of ph.x holds no dielectric tensor")
    return np.asarray(found[1]["dieltensor"])


def born_charges(text: str) -> np.ndarray:
    """The dynamical matrix's file: (N, 3, 3) in units of e, field by displacement.

    ASE does not read this file; in the output of ph.x, which it does read, the charges have five decimals only.
    """
    charges = text[text.find("Effective Charges") :]
    heads = list(re.finditer(r"atom # +(\d+)", charges))
    if not heads:
        raise CalculationFailed("ph.x wrote no Born charges")
    return np.array([_matrix(charges[head.start() :], head[0], "ph.x: the Born charges") for head in heads])


def dynmat_tensors(text: str) -> tuple[np.ndarray, np.ndarray]:
    """dynmat.x: (3, 3) electronic, and (3, 3) electronic + ionic."""
    what = "dynmat.x: the tensor"
    total = _matrix(text, "with zone-center polar mode contributions", what)
    return _matrix(text, "Electronic dielectric permittivity tensor", what), total


def frequencies(text: str) -> np.ndarray:
    """dynmat.x: (3N,) cm⁻¹, ascending; imaginary ones negative."""
    table = text[text.find("# mode") :]
    lines = re.findall(r"^ +\d+ +(\S.*)$", table[: table.find("Electronic dielectric")], re.MULTILINE)
    if not lines:
        raise CalculationFailed("dynmat.x printed no frequencies")
    return np.array([_numbers(line, 1, "dynmat.x: the frequencies", exact=False)[0] for line in lines])


def _matrix(text: str, title: str, what: str) -> np.ndarray:
    """The three lines of three numbers below a title."""
    start = text.find(title)
    if start < 0:
        raise CalculationFailed(f"{what} is not in the output")
    lines = [line for line in text[start:].splitlines()[1:6] if line.strip()][:3]
    if len(lines) < 3:
        raise CalculationFailed(f"{what} is cut off")
    return np.array([_numbers(line, 3, what) for line in lines])


def _after(text: str, title: str, what: str, count: int = 2) -> np.ndarray:
    """The numbers on the rest of the last line with a title."""
    found = re.findall(f"{title}(.*)", text)
    if not found:
        raise CalculationFailed(f"{what} is not in the output")
    return _numbers(found[-1], count, what, exact=False)


def _numbers(line: str, count: int, what: str, *, exact: bool = True) -> np.ndarray:
    if "*" in line or "nan" in line.lower():  # Fortran's way to say that a number is too long for its field
        raise CalculationFailed(f"{what}: a number is out of range ({_one_line(line)})")
    found = re.findall(_NUMBER, line)
    if len(found) < count or (exact and len(found) != count):
        raise CalculationFailed(f"{what} cannot be read ({_one_line(line)})")
    return np.array([float(number.upper().replace("D", "E")) for number in found[:count]])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
