"""Relaxation of the atoms of a crystal in a potential, at fixed cell, within its space group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.constraints import FixSymmetry
from ase.optimize import LBFGS
from pymatgen.core import Structure
from torch import Tensor

from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder
from zoo.contract.potential import forces_of
from zoo.errors import ZooError
from zoo.graphs.space_group import SYMPREC
from zoo.inference.calculator import PotentialCalculator
from zoo.runtime.devices import device_of

FORCE = 1e-3
"""eV/Å, the largest force that is left on an atom."""
STEPS = 500
"""Steps after which there is no rest to be found."""
LONGEST = 0.1
"""Å, the longest way of an atom in one step."""


@dataclass(frozen=True)
class Relaxation:
    """A crystal at rest in a potential.

    Attributes:
        structure: the cell, elements and order of atoms are those given.
        moved: Å, the longest way of an atom.
        steps: of the optimiser.
    """

    structure: Structure
    moved: float
    steps: int


class _EvenCalculator(PotentialCalculator):
    """The potential without its chirality, as force constants are computed (`Encoder.even_energy`); no stress."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super(PotentialCalculator, self).calculate(atoms, properties, system_changes)
        potential = cast(Encoder, self.potential)
        batch = self.batch(cast(Atoms, self.atoms))
        energies = []

        def energy_of(moved: CrystalBatch) -> Tensor:
            energies.append(potential.even_energy(moved))  # kept: once is enough for both
            return energies[0]

        forces = forces_of(energy_of, batch).cpu().numpy()
        if not np.isfinite(forces).all():
            raise ZooError("the potential gives no finite forces: look for atoms in the same place")
        self.results = {"energy": float(energies[0].detach()), "forces": forces}


def relax(potential: Encoder, structure: Structure) -> Relaxation:
    """Move the atoms of a crystal to where the forces vanish; the cell stays, and so does the space group.

    An imaginary mode that breaks the symmetry is not followed: the crystal stays at its saddle point. The optimiser is
    L-BFGS (Liu and Nocedal, Math. Program. 45, 503 (1989)), as ASE has it.

    Args:
        potential: an encoder that has an energy, in eval mode, float64.
        structure: of elements that it knows.

    Raises:
        ZooError: no rest is found, or the forces are not finite.
    """
    atoms = Atoms(
        numbers=list(structure.atomic_numbers), positions=structure.cart_coords, cell=structure.lattice.matrix, pbc=True
    )
    atoms.calc = _EvenCalculator(potential, "the potential", device_of(potential), torch.float64)
    atoms.set_constraint(FixSymmetry(atoms, symprec=SYMPREC, adjust_cell=False))
    start = atoms.positions.copy()
    optimiser = LBFGS(atoms, logfile=os.devnull, maxstep=LONGEST)
    if not optimiser.run(fmax=FORCE, steps=STEPS):
        left = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        raise ZooError(
            f"the atoms find no rest in the potential: after {STEPS} steps {left:.3f} eV/Å are left; look at the "
            "structure, or leave out --relax"
        )
    found = Structure(structure.lattice, structure.species, atoms.positions, coords_are_cartesian=True)
    moved = float(np.linalg.norm(atoms.positions - start, axis=1).max())
    return Relaxation(found, moved, optimiser.get_number_of_steps())
