"""Dielectric tensors by density functional perturbation theory, with Quantum ESPRESSO.

Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017); Baroni et al., Rev. Mod. Phys. 73, 515 (2001). The ground
state (pw.x), the response to a field and to displacements at Γ (ph.x), the ionic contribution from the modes
(dynmat.x). Without spin, and for insulators only.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zoo.contract.discovery import Candidate, Oracle
from zoo.contract.target import TensorTarget
from zoo.data.tensors import DIELECTRIC
from zoo.errors import CalculationFailed, ZooError, clear_disk_errors
from zoo.oracles.espresso_calculation import Calculation
from zoo.oracles.espresso_hypers import EspressoHypers
from zoo.oracles.espresso_stages import SCRATCH, Stages
from zoo.oracles.external import end_forgotten, missing_program
from zoo.oracles.pseudopotentials import HOW_TO_GET, find_folder, missing_folder
from zoo.storage.run_folder import read_json, write_json

REPORT = "report.json"
"""Written last: a folder that holds it, for the same crystal and settings, is finished."""


class Espresso(Oracle):
    """Electronic, ionic and total dielectric tensor by DFPT, with Quantum ESPRESSO's pw.x, ph.x and dynmat.x.

    A crystal's folder holds inputs and outputs of each stage, and report.json: what a user must know to trust the
    tensors. A stage that has come to its end for the same input is not repeated; a response that was interrupted goes
    on.
    """

    Hypers = EspressoHypers
    may_change = frozenset({"pw", "ph", "dynmat", "wall_hours", "threads"})
    hypers: EspressoHypers

    def missing(self) -> str | None:
        """Programs and pseudopotentials."""
        commands = [self.hypers.pw, self.hypers.ph] + ([self.hypers.dynmat] if self.hypers.ionic else [])
        for command in commands:
            why = missing_program(command)
            if why is not None:
                return f"{why} (Quantum ESPRESSO: apt install quantum-espresso)"
        return missing_folder(self.hypers.pseudopotentials)

    def targets(self) -> Mapping[str, TensorTarget]:
        """electronic; with `ionic` also ionic and total; relative to vacuum."""
        return DIELECTRIC if self.hypers.ionic else {"electronic": DIELECTRIC["electronic"]}

    def tensors(self, candidate: Candidate, folder: Path) -> Mapping[str, np.ndarray]:
        """All tensors of one crystal, in its frame.

        Raises:
            CalculationFailed: disordered, an element without a pseudopotential, an odd number of electrons, relaxed
                into another structure, a metal, no convergence, unstable modes, or the wall limit.
            ZooError: a program or the pseudopotentials are missing or cannot be used; a full disk; a program that was
                killed, for want of memory perhaps.
        """
        why = self.missing()
        files = find_folder(self.hypers.pseudopotentials)
        if why is not None or files is None:
            raise ZooError(why or HOW_TO_GET)
        calculation = Calculation.of(candidate.structure, files, self.hypers)
        report = folder / REPORT
        if not (report.is_file() and read_json(report).get("made_for") == calculation.key):
            env = {"OMP_NUM_THREADS": str(self.hypers.threads), "ESPRESSO_PSEUDO": str(files)}
            with clear_disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                end_forgotten(folder)
                stages = Stages(folder, time.monotonic() + 3600 * self.hypers.wall_hours, env)
                try:
                    write_json(report, {"candidate": candidate.key, **calculation.run(stages)})
                except CalculationFailed:
                    shutil.rmtree(stages.scratch, ignore_errors=True)
                    raise
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        told = read_json(report)["tensors"]
        return {name: np.array(told[name]) for name in self.targets()}
