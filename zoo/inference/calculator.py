"""A potential as a calculator of ASE: relaxations, molecular dynamics, elastic constants, phonons."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols

from zoo.config.recipe import Plugin
from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder
from zoo.contract.potential import Potential, forces_and_stress
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graph
from zoo.phonons import potentials
from zoo.runtime.devices import choose_device

DTYPES = {"float32": torch.float32, "float64": torch.float64}
VACUUM = 1.0
"""Å, beyond the cutoff, between the images of what is not periodic."""
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


class PotentialCalculator(Calculator):
    """Energy, forces and stress of a potential, in eV, eV/Å and eV/Å³; energies of atoms where the potential has them.

    All kinds of periodicity are answered. Along directions that are not periodic, atoms do not see each other's images:
    those stand farther apart than the cutoff. A stress is that of a crystal, periodic in three directions.

    Args:
        potential: an encoder that has an energy, or a `Potential`, in eval mode.
        name: for messages.
        device: of all its parameters and buffers.
        dtype: theirs; a potential may have no parameter to tell it by.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012  (the energy does not know them)

    def __init__(self, potential: Encoder | Potential, name: str, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.potential = potential
        self.device, self.dtype = device, dtype
        self.what = name
        encoder = potential.encoder if isinstance(potential, Potential) else potential
        self.cutoff = encoder.cutoff
        self.elements = encoder.elements()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties at once, as ASE calls it.

        Raises:
            ZooError: there are no atoms, or of an element that the potential does not know; the cell has no volume; a
                stress of what is not periodic in three directions; two atoms on one place.
        """
        super().calculate(atoms, properties, system_changes)
        known = cast(Atoms, self.atoms)  # a copy of `atoms`
        if "stress" in properties and not known.pbc.all():
            raise ZooError("a stress is that of a cell that is periodic in three directions, this one is not")
        out = forces_and_stress(self.potential, self.batch(known))
        energy = float(out.energy)
        if not np.isfinite(energy):
            raise ZooError(f"{self.what} gives no finite energy of {known.symbols}: are two atoms on the same place?")
        self.results = {"energy": energy, "free_energy": energy, "forces": _numbers(out.forces)}
        if out.atomic_energies is not None:
            self.results["energies"] = _numbers(out.atomic_energies)
        if known.pbc.all():
            self.results["stress"] = _numbers(out.stress[0])[VOIGT]

    def batch(self, atoms: Atoms) -> CrystalBatch:
        """The atoms as the potential reads them.

        Raises:
            ZooError: as `calculate`.
        """
        if not len(atoms):
            raise ZooError("there are no atoms to give an energy of")
        numbers = set(atoms.numbers.tolist())
        unknown = {0} & numbers if self.elements is None else numbers - self.elements
        if unknown:
            symbols = ", ".join(chemical_symbols[z] for z in sorted(unknown))
            raise ZooError(f"{self.what} does not know {symbols}: its energy is for other elements (zoo.calculator)")
        graph = crystal_graph(periodic(atoms, self.cutoff), self.cutoff)
        return collate([graph], self.dtype).to(self.device)


def periodic(atoms: Atoms, cutoff: float) -> Crystal:
    """The atoms in a cell that is periodic in three directions, with vacuum along those that are not.

    Args:
        atoms: of any periodicity; lattice vectors along directions that are not periodic do not matter.
        cutoff: Å, which the vacuum exceeds.

    Raises:
        ZooError: the periodic lattice vectors span no volume, or a number is not finite.
    """
    positions, cell = atoms.positions.astype(float), np.array(atoms.cell, dtype=float)
    if not np.isfinite(positions).all() or not np.isfinite(cell).all():
        raise ZooError("the cell or the positions hold a NaN or an infinity; correct the structure")
    free = np.flatnonzero(~atoms.pbc)
    if len(free):
        # Directions at right angles to the periodic ones: the last of an orthonormal basis that begins with these.
        kept = cell[atoms.pbc]
        directions = np.linalg.svd(kept)[2][len(kept) :] if len(kept) else np.eye(3)
        along = positions @ directions.T
        lengths = along.max(axis=0) - along.min(axis=0) + cutoff + VACUUM
        cell[free] = directions * lengths[:, None]
    crystal = Crystal(positions, atoms.numbers.astype(np.int64), cell)
    # What has left the cell comes back, by lattice vectors: in float32 it would lose its place far away.
    shift = np.floor(positions @ np.linalg.inv(cell))
    shift[:, free] = 0
    return Crystal(positions - shift @ cell, crystal.numbers, cell)


def make_calculator(
    potential: str | Encoder | Potential, device: str = "auto", dtype: str = "float32", **settings: Any
) -> PotentialCalculator:
    """Make a calculator; arguments as those of `zoo.calculator`.

    Raises:
        ZooError: no such encoder, a setting that it refuses, weights that are not here, no energy, an unknown dtype, or
            one that the device does not have.
    """
    if dtype not in DTYPES:
        raise ZooError(f"dtype is float32 or float64, not {dtype}")
    if isinstance(potential, str):
        found: Encoder | Potential = potentials.build(Plugin(name=potential, **settings))
        name = f"the potential {potential}"
    else:
        if not isinstance(potential, (Encoder, Potential)):
            raise ZooError(f"a {type(potential).__name__} is no potential: name an encoder, or give one or a Potential")
        if settings:
            raise ZooError(f"{', '.join(settings)}: settings go with the name of an encoder, this one is made already")
        if isinstance(potential, Encoder) and not potential.provides(potential.hypers).energy:
            raise ZooError(f"{type(potential).__name__} has no energy: put a zoo.api.Potential on it and train that")
        name = f"the potential {type(getattr(potential, 'encoder', potential)).__name__}"
        found = copy.deepcopy(potential)  # its owner's goes on in its precision and mode
    place = choose_device(device)
    if place.type == "mps" and dtype == "float64":
        raise ZooError("the device mps has no float64: use device='cpu', or dtype='float32'")
    found = found.to(device=place, dtype=DTYPES[dtype]).eval().requires_grad_(False)
    return PotentialCalculator(found, name, place, DTYPES[dtype])


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
