"""VASP: density functional perturbation theory with the settings of the DTNet paper's calculations."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from zoo.contract.discovery import Candidate, Oracle
from zoo.contract.plugin import Hypers
from zoo.contract.target import TensorTarget
from zoo.data.tensors import DIELECTRIC
from zoo.errors import CalculationFailed, ZooError, clear_disk_errors
from zoo.oracles import vasp_inputs, vasp_results
from zoo.oracles.external import end_forgotten, missing_program, not_begun, run_program

LOG = "vasp.log"
"""File with the output of the command."""
_BANNER = re.compile(
    r"running +on +\d+ +total +cores|running +\d+ +mpi-ranks|^ *vasp\.\d[\w.+-]*(?!\S)", re.MULTILINE | re.IGNORECASE
)
"""First line of the output of VASP 5 and 6; `vasp.6.3.0: error while loading shared libraries` is not such a line."""
_WORDS = re.compile(r"[\w .+*-]+")
_ELSEWHERE = {
    **{key: f"say {key.lower()}" for key in ("ENCUT", "SIGMA", "EDIFF")},
    "KSPACING": "say kpoints_per_reciprocal_atom",
    **dict.fromkeys(("LEPSILON", "IBRION", "NSW"), "the tensors come of it as it is"),
    **dict.fromkeys(("MAGMOM", "LDAUU", "LDAUJ", "LDAUL"), "it goes by element, as on the Materials Project"),
}


class VaspHypers(Hypers):
    """Keys of `vasp`; the defaults are the DTNet paper's, and what it does not say the Materials Project's."""

    command: str | None = None
    """Runs VASP, as `mpirun -np 16 vasp_std`; null: inputs are written, and you bring vasprun.xml."""
    potentials: vasp_inputs.Release = "PBE"
    """Release of the PAW potentials, as pymatgen calls it; PBE is the Materials Project's."""
    encut: PositiveFloat = 600.0
    """eV; plane-wave cutoff."""
    kpoints_per_reciprocal_atom: PositiveInt = 3000
    """Number of k-points times number of atoms."""
    sigma: PositiveFloat = 0.05
    """eV; width of the Gaussian smearing."""
    ediff: Annotated[float, Field(gt=0, le=1e-4)] = 1e-7
    """eV; where the electrons are converged."""
    wall_hours: PositiveFloat | None = None
    """A run that takes longer is ended, and has failed; null: no limit. One that was killed is not counted in."""
    user_incar: dict[str, Any] = Field(default={})
    """More keys of the INCAR, which win: {KPAR: 4}."""

    @field_validator("user_incar")
    @classmethod
    def _plain(cls, given: dict[str, Any]) -> dict[str, Any]:
        for key, value in given.items():
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", key):
                raise ValueError(f"'{key}' is no key of an INCAR: capital letters and digits")
            if key in _ELSEWHERE:
                raise ValueError(f"{key} is not for user_incar: {_ELSEWHERE[key]}")
            if not isinstance(value, int | float) and not (isinstance(value, str) and _WORDS.fullmatch(value)):
                raise ValueError(f"{key} must be yes or no, a number, or words in one line")
        return given


class Vasp(Oracle):
    """Electronic, ionic and total dielectric tensor by DFPT, PBE+U and spin-polarised as on the Materials Project.

    The structure is taken as it is: nothing is relaxed. Inputs by pymatgen's MPStaticSet; the U values are those of
    its oxides and fluorides.
    """

    Hypers = VaspHypers
    may_change = frozenset({"command", "wall_hours"})
    hypers: VaspHypers

    def missing(self) -> str | None:
        """VASP and its potentials, where it is to be run; nothing where inputs are to be written."""
        command = self.hypers.command
        return None if command is None else missing_program(command) or vasp_inputs.missing(self.hypers.potentials)

    def targets(self) -> Mapping[str, TensorTarget]:
        """electronic, ionic, total; dimensionless."""
        return DIELECTRIC

    def tensors(self, candidate: Candidate, folder: Path) -> Mapping[str, np.ndarray] | None:
        """From the folder's vasprun.xml (or vasprun.xml.gz); without one, after the inputs have been written, and run.

        Inputs that are there stay as they are. A vasprun.xml that VASP has not closed does not count, and gives way to
        a run.

        Raises:
            CalculationFailed: VASP began, and has no result that could be believed.
            ZooError: VASP did not begin, or there is no POTCAR; a full disk; it was killed, for want of memory perhaps.
        """
        found = vasp_results.read(candidate.structure, folder)
        if found is not None:
            return found
        hypers = self.hypers
        kpoints = hypers.kpoints_per_reciprocal_atom
        why = vasp_inputs.write(candidate.structure, folder, self.incar(), kpoints, hypers.potentials)
        if hypers.command is None:
            return None
        if why is not None:
            raise ZooError(f"there is no POTCAR for {candidate.key}: {why}")
        deadline = None if hypers.wall_hours is None else time.monotonic() + 3600 * hypers.wall_hours
        end_forgotten(folder)  # it may write still
        with clear_disk_errors(folder):
            vasp_results.place(folder).unlink(missing_ok=True)  # one that is there in the end is of this run
        status = run_program(hypers.command, folder, log=LOG, deadline=deadline)
        found = vasp_results.read(candidate.structure, folder)
        if found is not None:
            return found
        printed = (folder / LOG).read_text(encoding="utf-8", errors="replace")
        if not (_BANNER.search(printed) or vasp_results.place(folder).exists()):
            raise not_begun(hypers.command, "VASP", status, folder / LOG)
        raise CalculationFailed(f"VASP ended with status {status} before it had closed vasprun.xml: see {LOG}")

    def incar(self) -> dict[str, Any]:
        """Return the settings that differ from those of MPStaticSet(lepsilon=True)."""
        hypers = self.hypers
        return {
            "ENCUT": hypers.encut,
            "PREC": "Accurate",
            "ISMEAR": 0,
            "SIGMA": hypers.sigma,
            "EDIFF": hypers.ediff,
            "LEPSILON": True,
            "IBRION": 8,
            "LCHARG": False,  # large, and nothing reads it
            **hypers.user_incar,
        }
