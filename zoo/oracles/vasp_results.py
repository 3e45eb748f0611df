"""Dielectric tensors from VASP's vasprun.xml, read by pymatgen, and whether they can be believed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from monty.io import zopen
from monty.os.path import zpath
from pymatgen.core import Structure
from pymatgen.io.vasp.outputs import Vasprun

from zoo.errors import CalculationFailed
from zoo.oracles.vasp_inputs import bare

LATTICE_TOLERANCE = 1e-3
"""Å; of each component of the lattice vectors."""
SITE_TOLERANCE = 0.01
"""Å; how far an atom may be from its place."""
ASYMMETRY_TOLERANCE = 0.05
"""Largest asymmetry, relative to the total tensor's norm; VASP symmetrises, so that more is wrong."""


def place(folder: Path) -> Path:
    """Return the path of a folder's vasprun.xml or vasprun.xml.gz, whether it exists or not."""
    return Path(zpath(str(folder / "vasprun.xml")))


def read(structure: Structure, folder: Path) -> Mapping[str, np.ndarray] | None:
    """The tensors of a folder's vasprun.xml or vasprun.xml.gz.

    The electronic tensor is the one with local-field effects (ε∞; pymatgen's epsilon_static), not that of independent
    particles beside it.

    Args:
        structure: what was to be calculated.
        folder: of its calculation.

    Returns:
        electronic (3, 3), and ionic and total where the ions were part of it; None where there is no such file, or
        VASP has not closed it.

    Raises:
        CalculationFailed: it is of another structure, of a metal, not converged, has an unstable optical mode, or is
            not of a calculation of dielectric tensors.
    """
    path = place(folder)
    if not path.is_file():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unconverged: said below
        try:
            run = Vasprun(path, parse_potcar_file=False)
            why = _another(run.initial_structure, structure) or _unconverged(run) or _metal(run) or _unstable(run)
            found = _tensors(run)
        except (SyntaxError, EOFError) as error:  # of the XML
            if not _closed(path):
                return None
            raise CalculationFailed(f"{path.name} is no XML ({error})") from error
        except (LookupError, ValueError, AttributeError, TypeError, OSError) as error:
            if not _closed(path):
                return None
            raise CalculationFailed(f"{path.name} is not of VASP ({type(error).__name__}: {error})") from error
    why = why or _wrong(found)
    if why is not None:
        raise CalculationFailed(f"{path.name} {why}")
    return {key: 0.5 * (tensor + tensor.T) for key, tensor in found.items()}


def _tensors(run: Vasprun) -> dict[str, np.ndarray]:
    electronic, ionic = (np.array(part, dtype=np.float64) for part in (run.epsilon_static, run.epsilon_ionic))
    if electronic.shape != (3, 3):
        return {}
    if ionic.shape != (3, 3):
        return {"electronic": electronic}
    return {"electronic": electronic, "ionic": ionic, "total": electronic + ionic}


def _wrong(found: Mapping[str, np.ndarray]) -> str | None:
    if not found:
        return "holds no dielectric tensor: VASP ran without LEPSILON"
    if not all(np.isfinite(tensor).all() for tensor in found.values()):
        return "holds a dielectric tensor that is not finite"
    size = np.linalg.norm(found.get("total", found["electronic"]))  # an ionic part may be all noise
    if any(0.5 * np.linalg.norm(tensor - tensor.T) > ASYMMETRY_TOLERANCE * size for tensor in found.values()):
        return "holds a dielectric tensor that is not symmetric"
    return None


def _another(found: Structure, wanted: Structure) -> str | None:
    wanted = bare(wanted)
    if found.composition != wanted.composition:
        return f"is of another crystal: {found.composition.formula}, not {wanted.composition.formula}"
    turned = -1 if np.linalg.det(wanted.lattice.matrix) < 0 else 1  # see vasp_inputs.write
    if np.abs(found.lattice.matrix - turned * wanted.lattice.matrix).max() > LATTICE_TOLERANCE:
        return "is of another cell, or of the same in another frame: run VASP on the POSCAR as it stands"
    for symbol in wanted.composition.get_el_amt_dict():
        here, there = (each.frac_coords[[s.specie.symbol == symbol for s in each]] for each in (found, wanted))
        distances = found.lattice.get_all_distances(here, there)
        if max(distances.min(0).max(), distances.min(1).max()) > SITE_TOLERANCE:
            return f"has {symbol} at other places: nothing is to be relaxed"
    return None


def _unconverged(run: Vasprun) -> str | None:
    try:
        converged = run.converged_electronic
    except IndexError:  # no last step of a self-consistent cycle, of which it is told
        converged = False
    return None if converged else "is not converged: the electrons had not found their ground state in NELM steps"


def _metal(run: Vasprun) -> str | None:
    try:
        bands = run.get_band_structure(efermi="smart")
    except (LookupError, ValueError, AttributeError, TypeError):
        return "does not tell its bands, so that it may be of a metal"
    return "is of a metal: there is no band gap" if bands.is_metal() else None


def _unstable(run: Vasprun) -> str | None:
    """Find unstable modes at Γ: all but the three translations, whose ω² is zero up to noise, must have ω² above it."""
    squares = -np.asarray(getattr(run, "normalmode_eigenvals", []), dtype=np.float64)  # VASP's are -ω²
    if not len(squares):
        return None
    masses = np.array([float(site.specie.atomic_mass) for site in run.initial_structure])
    vectors = np.asarray(run.normalmode_eigenvecs).reshape(len(squares), -1, 3)  # orthonormal, weighted by mass
    together = (np.einsum("a,mai->mi", np.sqrt(masses / masses.sum()), vectors) ** 2).sum(1)
    optical = np.delete(squares, np.argsort(together)[-3:])
    unstable = int((optical <= 0).sum())
    if not unstable:
        return None
    return f"has imaginary optical modes at Γ ({unstable} of {len(optical)}): the structure is not at rest"


def _closed(path: Path) -> bool:
    """Whether VASP came to the end of the file."""
    try:
        with zopen(path, "rb") as file:
            last = b""
            while chunk := file.read(1 << 20):
                last = (last + bytes(chunk))[-200:]
    except (OSError, EOFError):  # a compressed file that is not whole
        return False
    return last.rstrip().endswith(b"</modeling>")
