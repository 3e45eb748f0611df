"""Inputs of Quantum ESPRESSO for one crystal: pw.x, ph.x at Γ, dynmat.x. Written by ASE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.espresso import Namelist, write_espresso_in, write_espresso_ph
from pymatgen.core import Lattice, Structure

from zoo.oracles.espresso_frame import rounded

PREFIX = "crystal"
SCRATCH = "scratch"
"""Folder of the wavefunctions; they are gone when the crystal is done."""
DYNAMICAL_MATRIX = "dynamical_matrix"
"""File that ph.x hands to dynmat.x."""
EMPTY_BANDS = 2
"""Bands beyond the occupied ones, so that the gap is told."""

SAME_LENGTH = 0.005
"""Relative: axes that differ by less are of one length."""


@dataclass(frozen=True)
class Mesh:
    """A mesh of k-points.

    Attributes:
        divisions: along each reciprocal lattice vector.
        shift: 1 where shifted by half a division, else 0.
    """

    divisions: tuple[int, int, int]
    shift: tuple[int, int, int]

    @classmethod
    def of(cls, structure: Structure, density: float) -> Mesh:
        """Choose about density/N points (density: k-points per reciprocal atom), more along short axes.

        Axes of one length get as many divisions each, whatever the noise in the lengths: a mesh without the lattice's
        symmetry would show in the tensor. The mesh avoids Γ, where gaps are often smallest: meshes with it converge
        slower. In hexagonal cells it is shifted along the axis alone: shifted in the plane it lacks the symmetry.
        """
        lengths = np.array(structure.lattice.abc)
        lengths = np.array([lengths[np.isclose(lengths, length, rtol=SAME_LENGTH)].mean() for length in lengths])
        divisions = np.cbrt(density / len(structure) * lengths.prod()) / lengths
        first, second, third = (max(1, round(each)) for each in divisions.tolist())
        return cls((first, second, third), _shift(structure.lattice))


def _shift(lattice: Lattice) -> tuple[int, int, int]:
    if not lattice.is_hexagonal():
        return (1, 1, 1)
    axis = int(np.argmax(np.abs(np.array(lattice.angles) - 90.0)))  # the angle opposite to it is the odd one
    return (int(axis == 0), int(axis == 1), int(axis == 2))


def pw_input(
    structure: Structure,
    files: Mapping[str, str],
    electrons: int,
    mesh: Mesh,
    *,
    ecutwfc: float,
    conv_thr: float,
    relax: bool,
) -> str:
    """Ground state of an insulator, or the relaxation of its ions in the fixed cell, in the structure's own frame.

    Args:
        structure: an ordered crystal; its Cartesian frame is that of all results.
        files: of the pseudopotentials, by element.
        electrons: their number, even.
        mesh: the k-points.
        ecutwfc: Ry.
        conv_thr: Ry.
        relax: relax the ions.
    """
    atoms = Atoms(
        symbols=[site.specie.symbol for site in structure],
        positions=rounded(structure.cart_coords),
        cell=structure.lattice.matrix,
        pbc=True,
    )
    control: dict[str, Any] = {
        "calculation": "relax" if relax else "scf",
        "prefix": PREFIX,
        "outdir": f"./{SCRATCH}",
        "tprnfor": True,
    }
    if relax:
        control |= {"forc_conv_thr": 1e-5, "etot_conv_thr": 1e-7, "nstep": 100}
    system = {"ecutwfc": ecutwfc, "occupations": "fixed", "nbnd": electrons // 2 + EMPTY_BANDS}
    text = StringIO()
    write_espresso_in(
        text,
        atoms,
        input_data={
            "control": control,
            "system": system,
            "electrons": {"conv_thr": conv_thr, "electron_maxstep": 200},
        },
        pseudopotentials=dict(files),
        kpts=mesh.divisions,
        koffset=mesh.shift,
    )
    return text.getvalue()


def ph_input(*, tr2_ph: float, ionic: bool, recover: bool) -> str:
    """Response to a field, and with `ionic` to displacements at Γ; `recover` goes on with an interrupted one."""
    text = StringIO()
    settings = {
        "prefix": PREFIX,
        "outdir": f"./{SCRATCH}",
        "fildyn": DYNAMICAL_MATRIX,
        "tr2_ph": tr2_ph,
        "epsil": True,
        "trans": ionic,
        "search_sym": False,  # names of the modes' symmetries are not needed
        "recover": recover,
    }
    write_espresso_ph(text, input_data={"inputph": settings}, qpts=[0, 0, 0])
    return text.getvalue()


def dynmat_input() -> str:
    """Ionic contribution from the modes at Γ. No direction of q: the non-analytic term does not enter."""
    settings = {
        "fildyn": DYNAMICAL_MATRIX,
        "asr": "crystal",
        "lperm": True,
        "filout": "modes.txt",
        "filmol": "",
        "filxsf": "",
    }
    return str(Namelist({"input": settings}).to_string())


def moved(structure: Structure, positions: np.ndarray) -> Structure:
    """The structure with other Cartesian positions, (N, 3) Å."""
    species = [site.species for site in structure]
    return Structure(structure.lattice, species, positions, coords_are_cartesian=True)
