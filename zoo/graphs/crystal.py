"""Atoms, positions and cell from which a graph is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pymatgen.core import DummySpecies, Structure

from zoo.errors import ZooError

SMALLEST_VOLUME = 1e-6  # Å³
FAR = 10  # lattice vectors; what is farther is moved back: in float32 it would lose its place


@dataclass(frozen=True)
class Crystal:
    """Atoms in a periodic cell: of a Structure what a graph needs, at a tenth of its cost.

    Attributes:
        positions: (N, 3) float64 Å; atoms may lie outside the cell, by `FAR` lattice vectors at most if made by `of`.
        numbers: (N,) int, atomic numbers.
        cell: (3, 3) float64 Å, lattice vectors as rows, of either handedness.

    Raises:
        ZooError: the cell has no volume, or a number is not finite (what looks for neighbours would not survive it).
    """

    positions: np.ndarray
    numbers: np.ndarray
    cell: np.ndarray

    def __post_init__(self) -> None:
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = self.cell.tolist()  # plain floats: this runs once a crystal
        volume = abs(ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx))
        if not (math.isfinite(volume) and math.isfinite(self.positions.sum())):
            raise ZooError("the cell or the positions hold a NaN or an infinity; correct the structure")
        if volume < SMALLEST_VOLUME:
            raise ZooError("the cell has no volume; correct its lattice vectors")

    @classmethod
    def of(cls, structure: Structure) -> Crystal:
        """In the frame of the structure.

        Raises:
            ZooError: a site is partly occupied or holds no element, so it has no atomic number; or as the class.
        """
        try:
            elements = [site.specie for site in structure]
        except AttributeError:
            raise ZooError(
                f"{structure.composition.reduced_formula} has partially occupied sites; "
                "order it first, for instance with pymatgen's OrderDisorderedStructureTransformation"
            ) from None
        if any(type(element) is DummySpecies for element in elements):  # these have a made-up Z
            raise ZooError(
                f"{structure.formula} has a site that holds no chemical element; name the element or remove it"
            )
        cell, fractions = structure.lattice.matrix, structure.frac_coords
        if np.abs(fractions).max(initial=0) > FAR:
            fractions = np.where(np.abs(fractions) > FAR, fractions - np.floor(fractions), fractions)
        return cls(
            positions=fractions @ cell,  # `cart_coords`, for all sites at once
            numbers=np.array([element.Z for element in elements], dtype=np.int64),
            cell=cell,
        )
