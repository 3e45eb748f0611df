"""The dataset `induced-dipoles`: real prototypes, made-up tensors of a known formula."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pymatgen.core import Lattice, Structure

from zoo.api import BadRecord, Dataset, Hypers, Record, TensorTarget

# Å³: polarisabilities of free ions, Pauling, Proc. R. Soc. A 114, 181 (1927).
POLARISABILITY = {
    "Li": 0.029, "Na": 0.179, "K": 0.83, "Rb": 1.40, "Cs": 2.42, "Mg": 0.094, "Ca": 0.47, "Sr": 0.86, "Ba": 1.55,
    "F": 1.04, "Cl": 3.66, "Br": 4.77, "I": 7.10, "O": 3.88, "S": 10.2,
}  # fmt: skip
# Å: lengths that set the size of a cell, cation + anion.
RADIUS = {
    "Li": 0.76, "Na": 1.02, "K": 1.38, "Rb": 1.52, "Cs": 1.67, "Mg": 0.72, "Ca": 1.00, "Sr": 1.18, "Ba": 1.35,
    "F": 1.33, "Cl": 1.81, "Br": 1.96, "I": 2.20, "O": 1.40, "S": 1.84,
}  # fmt: skip
# Cations, anions, the cell in units of the bond length, cation and anion sites.
PROTOTYPES = {
    "rock salt": (("Li", "Na", "K", "Rb"), ("F", "Cl", "Br", "I"), ((0, 1, 1), (1, 0, 1), (1, 1, 0)),
                  ((0, 0, 0),), ((0.5, 0.5, 0.5),)),
    "caesium chloride": (("Rb", "Cs"), ("Cl", "Br", "I"), ((1.155, 0, 0), (0, 1.155, 0), (0, 0, 1.155)),
                         ((0, 0, 0),), ((0.5, 0.5, 0.5),)),
    "fluorite": (("Ca", "Sr", "Ba"), ("F", "Cl"), ((0, 1.155, 1.155), (1.155, 0, 1.155), (1.155, 1.155, 0)),
                 ((0, 0, 0),), ((0.25, 0.25, 0.25), (0.75, 0.75, 0.75))),
    "cadmium iodide": (("Mg", "Ca", "Sr"), ("Cl", "Br", "I"), ((1.41, 0, 0), (-0.705, 1.221, 0), (0, 0, 2.3)),
                       ((0, 0, 0),), ((1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75))),
    "nickel arsenide": (("Mg", "Ca", "Sr", "Ba"), ("O", "S"), ((1.41, 0, 0), (-0.705, 1.221, 0), (0, 0, 2.35)),
                        ((0, 0, 0), (0, 0, 0.5)), ((1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75))),
}  # fmt: skip


class InducedDipolesHypers(Hypers):
    """What can be chosen of the crystals."""

    size: Annotated[int, Field(ge=1)] = 200
    """Number of crystals."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the choice of prototype, elements and strain."""

    radius: Annotated[float, Field(gt=0)] = 5.0
    """Å; dipoles up to this distance interact, smoothly cut off."""


def permittivity(structure: Structure, radius: float) -> np.ndarray:
    """(3, 3): ε of point polarisabilities to first order in their interaction, in the frame of the structure.

    ε = 1 + (4π/V) Σ_i [α_i 1 + Σ_j α_i α_j (1 - r²/R²)² (3 r̂r̂ᵀ - 1) / r³]: the dipole that a dipole induces
    (Silberstein, Phil. Mag. 33, 92 (1917)). No local field of Lorentz, no higher order: a formula to learn, not a
    measurement.

    Args:
        structure: of the elements in `POLARISABILITY`.
        radius: R, Å.
    """
    alpha = np.array([POLARISABILITY[site.specie.symbol] for site in structure])
    centre, neighbour, image, distance = structure.get_neighbor_list(radius)
    positions = structure.cart_coords
    direction = positions[neighbour] + image @ structure.lattice.matrix - positions[centre]
    direction = direction / distance[:, None]
    weight = alpha[centre] * alpha[neighbour] * (1 - (distance / radius) ** 2) ** 2 / distance**3
    interaction = np.einsum("e,ei,ej->ij", weight, 3 * direction, direction) - weight.sum() * np.eye(3)
    total: np.ndarray = alpha.sum() * np.eye(3) + 0.5 * (interaction + interaction.T)
    return np.eye(3) + 4 * np.pi / structure.volume * total


class InducedDipoles(Dataset):
    """Seeded, strained prototypes of salts with the tensor of a point-dipole formula: synthetic, not DFPT."""

    Hypers = InducedDipolesHypers
    licence: ClassVar[str] = "CC0 1.0; synthetic, computed from a formula (bond_polarisability.dataset.permittivity)"

    hypers: InducedDipolesHypers

    def targets(self) -> Mapping[str, TensorTarget]:
        """point_dipole, dimensionless."""
        return {"point_dipole": TensorTarget("point_dipole", quantity="electronic dielectric")}

    def records(self) -> Iterator[Record | BadRecord]:
        """`size` crystals, always the same for a seed."""
        rng = np.random.default_rng(self.hypers.seed)
        for number in range(self.hypers.size):
            name = str(rng.choice(list(PROTOTYPES)))
            structure = _strained(name, rng)
            yield Record(
                key=f"dipoles-{number:05d}",
                structure=structure,
                targets={"point_dipole": permittivity(structure, self.hypers.radius)},
                properties={"source": "induced-dipoles", "prototype": name},
            )


def _strained(name: str, rng: np.random.Generator) -> Structure:
    """A prototype with elements of its own, strained by up to a fifth along three axes, turned at random."""
    cations, anions, cell, cation_sites, anion_sites = PROTOTYPES[name]
    cation, anion = str(rng.choice(cations)), str(rng.choice(anions))
    stretch = np.eye(3) + np.diag(rng.uniform(-0.2, 0.2, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    lattice = Lattice(np.array(cell) * (RADIUS[cation] + RADIUS[anion]) @ stretch @ turn)
    species = [cation] * len(cation_sites) + [anion] * len(anion_sites)
    return Structure(lattice, species, [*cation_sites, *anion_sites])
