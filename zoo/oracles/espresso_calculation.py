"""The calculation of one crystal: ground state, response, modes; what is refused; what is told in the end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.util.coord import pbc_shortest_vectors

from zoo.data.frame import residual
from zoo.data.symmetry import symmetry
from zoo.data.tensors import DIELECTRIC, read_tensor
from zoo.errors import CalculationFailed, ZooError
from zoo.oracles import espresso_inputs as inputs
from zoo.oracles import espresso_results as results
from zoo.oracles.espresso_frame import SYMPREC, Oriented, rounded
from zoo.oracles.espresso_hypers import EspressoHypers
from zoo.oracles.espresso_stages import Stage, Stages, digest
from zoo.oracles.pseudopotentials import Pseudopotential, choose

NO_GAP = 0.01
"""eV: with less a crystal is a metal here."""
SOFT = 5.0
"""cm⁻¹: an optical mode below it has no harmonic contribution that could be believed."""
ASYMMETRIC = 0.01
"""Relative: a tensor that breaks the symmetry of its crystal by more is wrong."""


@dataclass(frozen=True)
class Calculation:
    """The calculation of one crystal.

    Attributes:
        given: the crystal, as the candidate has it.
        oriented: the same as it is calculated.
        potentials: by element.
        electrons: their number in the cell that is calculated.
        mesh: the k-points.
        hypers: what is chosen.
    """

    given: Structure
    oriented: Oriented
    potentials: dict[str, Pseudopotential]
    electrons: int
    mesh: inputs.Mesh
    hypers: EspressoHypers

    @classmethod
    def of(cls, structure: Structure, files: Path, hypers: EspressoHypers) -> Calculation:
        """Look at a crystal, before anything is run.

        Raises:
            CalculationFailed: disordered, an element without a pseudopotential, an odd number of electrons.
            ZooError: a file of the pseudopotentials cannot be used.
        """
        if not structure.is_ordered:
            raise CalculationFailed("the crystal is disordered: sites are partly occupied")
        if not structure.is_valid():
            raise CalculationFailed("two atoms of the crystal are less than 0.5 Å apart")
        potentials = choose(files, {site.specie.symbol for site in structure})
        oriented = Oriented.of(structure)
        electrons = sum(potentials[site.specie.symbol].electrons for site in oriented.structure)
        if electrons % 2:
            raise CalculationFailed(f"{electrons:g} electrons in the primitive cell, odd: no insulator without spin")
        mesh = inputs.Mesh.of(oriented.structure, hypers.k_density)
        return cls(structure, oriented, potentials, int(electrons), mesh, hypers)

    @property
    def key(self) -> str:
        """Hash of all that makes the result."""
        frame = json.dumps(rounded(self.given.lattice.matrix).tolist())
        last = self._dynmat(self._ph(self._pw(self.oriented.structure, relax=self.hypers.relax)))
        return digest(frame, last.key, str(self.hypers.largest_move))

    def run(self, stages: Stages) -> dict[str, Any]:
        """Run what is not there yet.

        Returns:
            The report: tensors in the crystal's own frame, and what a user must know to trust them.

        Raises:
            CalculationFailed: a program fails, or its result is refused.
        """
        structure, moved = self.oriented.structure, None
        if self.hypers.relax:
            first = self._pw(structure, relax=True)
            printed = stages.output(first) or stages.ground_state(first)
            structure = inputs.moved(structure, results.positions(printed, len(structure)))
            moved = largest_move(self.oriented.structure, structure)
            if moved > self.hypers.largest_move:
                raise CalculationFailed(
                    f"relaxed into another structure: an atom moved {moved:.2f} Å, more than largest_move "
                    f"({self.hypers.largest_move:g} Å)"
                )
        scf = self._pw(structure, relax=False)
        ph = self._ph(scf)
        responded = stages.output(ph)
        stands = stages.output(scf)
        if stands is None or (responded is None and not stages.has_ground_state(scf)):
            stands = stages.ground_state(scf)
        gap = results.band_gap(stands)
        if gap < NO_GAP:
            raise CalculationFailed(f"a metal: the gap on the k mesh is {gap:.2f} eV")
        if responded is None:
            responded = stages.response(ph, self._ph_text(recover=True))
        tensors = {"electronic": results.electronic(responded, stages.log(ph))}
        report: dict[str, Any] = {}
        if self.hypers.ionic:
            dynmat = self._dynmat(ph)
            printed = stages.output(dynmat) or stages.run(dynmat)
            electronic, total = results.dynmat_tensors(printed)
            tensors["ionic"] = total - electronic
            tensors["total"] = tensors["electronic"] + tensors["ionic"]
            report = self._modes(stages, printed)
        told = {name: self._told(name, tensor) for name, tensor in tensors.items()}
        versions = {name: results.version(text) for name, text in (("pw.x", stands), ("ph.x", responded))}
        return {
            "made_for": self.key,
            "formula": self.given.composition.reduced_formula,
            "tensors": {name: tensor.tolist() for name, tensor in told.items()},
            "band_gap_on_mesh_ev": gap,
            "largest_force_ev_per_angstrom": results.largest_force(stands),
            "largest_move_in_relaxation_angstrom": moved,
            **report,
            "k_mesh": self.mesh.divisions,
            "k_shift": self.mesh.shift,
            "k_points": results.k_points(stands),
            "electrons": self.electrons,
            "rotation": self.oriented.rotation.tolist(),
            "settings": self.hypers.model_dump(),
            "pseudopotentials": {name: asdict(each) for name, each in self.potentials.items()},
            "versions": versions,
            "seconds": stages.seconds,
        }

    def _modes(self, stages: Stages, printed: str) -> dict[str, Any]:
        modes = results.frequencies(printed)
        optical = np.delete(modes, np.argsort(np.abs(modes))[:3])
        if len(optical) and optical.min() < SOFT:
            raise CalculationFailed(
                f"unstable: the lowest optical mode at Γ has {optical.min():.0f} cm⁻¹ (imaginary below zero)"
            )
        charges = results.born_charges((stages.folder / inputs.DYNAMICAL_MATRIX).read_text(encoding="utf-8"))
        return {
            "frequencies_per_cm": modes.tolist(),
            "largest_sum_of_born_charges": float(np.abs(charges.sum(0)).max()),
        }

    def _told(self, name: str, tensor: np.ndarray) -> np.ndarray:
        """In the frame of the candidate, and plausible."""
        try:
            tensor = read_tensor(self.oriented.back(tensor), DIELECTRIC[name])
        except ZooError as error:
            raise CalculationFailed(str(error)) from error
        lowest, least = float(np.linalg.eigvalsh(tensor).min()), 0.0 if name == "ionic" else 1.0
        if lowest < least - 1e-3:
            raise CalculationFailed(
                f"the {name} tensor has an eigenvalue of {lowest:.3f}, below {least:g}: not converged"
            )
        found = symmetry(self.given, SYMPREC)
        if found is not None and np.linalg.norm(tensor) > 1e-2:
            broken = residual(tensor, found.rotations)
            if broken > ASYMMETRIC:
                raise CalculationFailed(
                    f"the {name} tensor breaks the crystal's symmetry by {broken:.1%}: not converged"
                )
        return tensor

    def _pw(self, structure: Structure, *, relax: bool) -> Stage:
        text = inputs.pw_input(
            structure,
            {name: each.file for name, each in self.potentials.items()},
            self.electrons,
            self.mesh,
            ecutwfc=self.hypers.ecutwfc,
            conv_thr=self.hypers.conv_thr,
            relax=relax,
        )
        files = json.dumps({name: each.md5 for name, each in self.potentials.items()})
        return Stage.after(digest(files), "relax" if relax else "scf", "pw.x", self.hypers.pw, text)

    def _ph(self, scf: Stage) -> Stage:
        return Stage.after(scf.key, "ph", "ph.x", self.hypers.ph, self._ph_text(recover=False))

    def _ph_text(self, *, recover: bool) -> str:
        return inputs.ph_input(tr2_ph=self.hypers.tr2_ph, ionic=self.hypers.ionic, recover=recover)

    def _dynmat(self, ph: Stage) -> Stage:
        text = inputs.dynmat_input()
        return Stage.after(ph.key, "dynmat", "dynmat.x", self.hypers.dynmat, text)


def largest_move(before: Structure, after: Structure) -> float:
    """Return the largest move of an atom in Å, without moves to another image and shifts of all atoms."""
    relative = [each.frac_coords - each.frac_coords[0] for each in (before, after)]
    pairs = pbc_shortest_vectors(before.lattice, *relative)  # (N, N, 3) of each before to each after
    moves = np.einsum("aac->ac", pairs)
    return float(np.linalg.norm(moves - moves.mean(0), axis=1).max())
