"""A vasprun.xml as VASP 6 writes it, of the parts that are read: made for the tests, by no calculation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pymatgen.core import Structure


def write_vasprun(path: Path, structure: Structure, **parts: object) -> Path:
    """See `vasprun`."""
    path.write_text(vasprun(structure, **parts))  # type: ignore[arg-type]
    return path


def vasprun(
    structure: Structure,
    *,
    epsilon: np.ndarray | None,
    epsilon_ion: np.ndarray | None = None,
    bands: Sequence[Sequence[float]] = ((-2.0, 3.0), (-1.0, 4.0)),
    efermi: float = 1.0,
    steps: int = 5,
    squares: Sequence[float] | None = None,
    modes: np.ndarray | None = None,
) -> str:
    """Of a calculation with LEPSILON and IBRION = 8.

    Args:
        structure: in POSCAR's order.
        epsilon: (3, 3) with local-field effects.
        epsilon_ion: (3, 3) of the ions.
        bands: eV, energies at each of the k-points.
        steps: of the first self-consistent cycle; the limit, NELM, is 10.
        squares: ω² of the modes, in VASP's order: highest first.
        modes: (3N, N, 3) of them.
    """
    first = "".join(f'<i name="{name}"> 1.0 </i>' for name in ("alphaZ", "e_fr_energy", "e_wo_entrp", "e_0_energy"))
    later = "".join(f'<i name="{name}"> 1.0 </i>' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
    cycle = [first, *[later] * (steps - 2), first, later, later]
    response = ""
    if epsilon is not None:
        # What must not be taken: the same without local-field effects.
        response += _array("epsilon_rpa", epsilon + 7.0) + _array("epsilon", epsilon)
    if epsilon_ion is not None:
        response += _array("epsilon_ion", epsilon_ion)
    dynamics = ""
    if squares is not None and modes is not None:
        size = len(squares)
        dynamics = (
            "<dynmat>"
            + _array("hessian", np.zeros((size, size)))
            + f'<v name="eigenvalues">{_row(-np.asarray(squares))}</v>'
            + _array("eigenvectors", modes.reshape(size, size))
            + "</dynmat>"
        )
    weights = np.full((len(bands), 1), 1 / len(bands))
    k_points = np.array([[k / (2 * len(bands)), 0, 0] for k in range(len(bands))])
    atoms = "".join(f"<rc><c>{site.specie.symbol}</c><c>1</c></rc>" for site in structure)
    types = "".join(
        f"<rc><c>1</c><c>{symbol}</c><c>1.0</c><c>1.0</c><c>PAW_PBE {symbol}</c></rc>"
        for symbol in structure.composition.get_el_amt_dict()
    )
    levels = "".join(
        f'<set comment="kpoint {k}">' + "".join(f"<r> {e:.4f} {float(e < efermi):.4f} </r>" for e in at) + "</set>"
        for k, at in enumerate(bands, 1)
    )
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp </i><i name="version" type="string">6.3.2 </i></generator>
 <incar><i type="logical" name="LEPSILON"> T </i><i type="int" name="IBRION"> 8</i></incar>
 <kpoints><generation param="Gamma"><v type="int" name="divisions"> 2 1 1 </v></generation>
  {_array("kpointlist", k_points)}{_array("weights", weights)}</kpoints>
 <parameters><separator name="electronic"><i type="int" name="NELM"> 10</i></separator></parameters>
 <atominfo><array name="atoms"><set>{atoms}</set></array><array name="atomtypes"><set>{types}</set></array></atominfo>
 {_crystal(structure, "initialpos")}
 <calculation>
  {"".join(f"<scstep><energy>{energy}</energy></scstep>" for energy in cycle)}
  {_crystal(structure, "")}
  <energy>{later}</energy>
  {response}
  <eigenvalues><array><set><set comment="spin 1">{levels}</set></set></array></eigenvalues>
  <dos><i name="efermi"> {efermi} </i><total><array><set><set comment="spin 1">
   <r> -3.0 0.0 0.0 </r><r> 5.0 0.0 2.0 </r></set></set></array></total></dos>
 </calculation>
 {dynamics}
 {_crystal(structure, "finalpos")}
</modeling>
"""


def _crystal(structure: Structure, name: str) -> str:
    attribute = f' name="{name}"' if name else ""
    cell = _array("basis", structure.lattice.matrix)
    return f"<structure{attribute}><crystal>{cell}</crystal>{_array('positions', structure.frac_coords)}</structure>"


def _array(name: str, values: np.ndarray) -> str:
    return f'<varray name="{name}">' + "".join(f"<v>{_row(row)}</v>" for row in values) + "</varray>"


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.8f}" for value in values)
