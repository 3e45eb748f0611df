"""VASP's inputs for a crystal, by pymatgen; the potentials where the user has them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pymatgen.core import SETTINGS, Structure
from pymatgen.io.vasp import Potcar, PotcarSingle
from pymatgen.io.vasp.sets import MPStaticSet

from zoo.errors import CalculationFailed, clear_disk_errors
from zoo.storage.run_folder import write_text
from zoo.storage.user_path import user_path

Release = Literal["PBE", "PBE_52", "PBE_54"]
"""Release of the PAW potentials, as pymatgen calls it."""

_README = """\
Inputs for VASP: dielectric tensors by density functional perturbation theory, electronic and ionic.

Run VASP in this folder and leave vasprun.xml (or vasprun.xml.gz) here. It must be of the POSCAR as it stands: the
tensors are in its frame, and another structure or cell is refused. How it runs in parallel (KPAR; NCORE stays 1 in
perturbation theory) is yours to add to the INCAR, or to the recipe's oracle.user_incar.
"""
_NO_POTCAR = """
What is missing: POTCAR. {why}
POTCAR.spec names the potentials, in the order of the POSCAR. Where they are configured,
    pmg potcar --symbols {symbols} --functional {potentials}
writes it; so does the zoo's next call.
"""


def missing(potentials: Release) -> str | None:
    """Why there are no POTCARs, in words that name the fix; None where they are configured."""
    root = SETTINGS.get("PMG_VASP_PSP_DIR")
    if root is None:
        return (
            "pymatgen does not know where VASP's potentials are, which need VASP's licence: "
            "pmg config --add PMG_VASP_PSP_DIR FOLDER"
        )
    subfolder = SETTINGS.get("PMG_VASP_PSP_SUB_DIRS", {}).get(potentials, PotcarSingle.functional_dir[potentials])
    place = user_path(root, "PMG_VASP_PSP_DIR") / subfolder
    if not place.is_dir():
        return f"VASP's potentials {potentials} are not there: {place} is no folder (PMG_VASP_PSP_DIR, pymatgen's)"
    return None


def write(
    structure: Structure, folder: Path, incar: Mapping[str, Any], kpoints: int, potentials: Release
) -> str | None:
    """POSCAR, KPOINTS, INCAR, POTCAR or POTCAR.spec, and a README that says what to do; what is there stays.

    Args:
        structure: Its lattice goes into the POSCAR as it is; atoms are sorted by element. Of a left-handed lattice,
            which VASP does not take, all vectors are turned round (by pymatgen): a tensor of rank 2 is the same then.
        folder: of this crystal.
        incar: what is not as in MPStaticSet(lepsilon=True).
        kpoints: times number of atoms.
        potentials: pymatgen's name of their release.

    Returns:
        Why there is no POTCAR, in words that name the fix; None where there is one.

    Raises:
        CalculationFailed: the structure is disordered, or there are no potentials for one of its elements.
    """
    if not structure.is_ordered:
        raise CalculationFailed("its sites are partly occupied: VASP takes whole atoms")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on potentials that are not the default, and on Yb
        made = MPStaticSet(
            bare(structure),
            lepsilon=True,
            user_incar_settings=dict(incar),
            user_kpoints_settings={"grid_density": kpoints},
            user_potcar_functional=potentials,
        )
        try:
            symbols = made.potcar_symbols
        except (KeyError, ValueError) as error:
            raise CalculationFailed(
                f"the Materials Project has no potential for one of its elements ({error})"
            ) from error
        files = {
            "POSCAR": made.poscar.get_str(significant_figures=12),
            "KPOINTS": str(made.kpoints),
            "INCAR": str(made.incar),
        }
        readme, why = _README, None
        if not (folder / "POTCAR").exists():
            potcar, why = _potcar(symbols, potentials)
            if why is None:
                files["POTCAR"] = potcar
            else:
                files["POTCAR.spec"] = "\n".join(symbols) + "\n"
                readme += _NO_POTCAR.format(why=why, symbols=" ".join(symbols), potentials=potentials)
    with clear_disk_errors(folder):
        for name, text in files.items():
            if not (folder / name).exists():
                write_text(folder / name, text)
        write_text(folder / "README.txt", readme)
    return why


def bare(structure: Structure) -> Structure:
    """Elements at their places: oxidation states, spins and constraints of a file must not change the calculation."""
    return Structure(structure.lattice, [site.specie.symbol for site in structure], structure.frac_coords)


def _potcar(symbols: list[str], potentials: Release) -> tuple[str, str | None]:
    """The potentials' text, and why there is none."""
    why = missing(potentials)
    if why is not None:
        return "", why
    try:
        return str(Potcar(symbols, functional=potentials)), None
    except (OSError, ValueError, KeyError) as error:  # KeyError: a file that is no POTCAR
        return "", f"PMG_VASP_PSP_DIR, pymatgen's: {' '.join(str(error).split())}"
