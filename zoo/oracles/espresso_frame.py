"""The orientation in which Quantum ESPRESSO sees the symmetry of a crystal, and the way back from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from pymatgen.core import Structure

from zoo.errors import CalculationFailed

SYMPREC = 0.01
"""Å: what is symmetric within it is made exactly so."""
DISTORTED = 0.1
"""Å: by how much no lattice vector may move when that is done."""
DECIMALS = 8
"""Decimals of an Å in inputs: noise in the last digits must not make another text, and so another calculation."""


@dataclass(frozen=True)
class Oriented:
    """The primitive cell of a crystal in spglib's standard orientation.

    pw.x knows the operations of the cubic and hexagonal lattices along x, y and z only. Of a crystal that lies
    otherwise it would find few, and take several times as long.

    Attributes:
        structure: that cell; exactly symmetric.
        rotation: (3, 3) orthogonal; vectors v (rows) here are v @ rotation in the frame that the crystal came in.
    """

    structure: Structure
    rotation: np.ndarray

    @classmethod
    def of(cls, structure: Structure) -> Oriented:
        """Orient an ordered crystal, in whatever cell it comes.

        Raises:
            CalculationFailed: spglib finds no symmetry, not even the identity: atoms are on top of one another.
        """
        cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
        as_it_lies, standard = _standardised(cell, no_idealize=True), _standardised(cell, no_idealize=False)
        left, _, right = np.linalg.svd(np.linalg.solve(standard[0], as_it_lies[0]))  # the nearest orthogonal one
        rotation = left @ right
        if np.abs(standard[0] @ rotation - as_it_lies[0]).max() > DISTORTED:
            raise CalculationFailed("spglib finds no orientation in which the crystal is symmetric")
        return cls(Structure(rounded(standard[0]), standard[2], standard[1]), rotation)

    def back(self, tensor: np.ndarray) -> np.ndarray:
        """A tensor (3, 3) of this orientation in the frame that the crystal came in."""
        return np.asarray(self.rotation.T @ tensor @ self.rotation)


def rounded(lengths: np.ndarray) -> np.ndarray:
    """Å to `DECIMALS`, without negative zeros."""
    return np.round(lengths, DECIMALS) + 0.0


def _standardised(cell: Any, *, no_idealize: bool) -> Any:
    try:
        found = spglib.standardize_cell(cell, to_primitive=True, no_idealize=no_idealize, symprec=SYMPREC)
    except Exception as error:  # 2.7 raises, earlier ones give None
        raise CalculationFailed(f"spglib cannot read the crystal ({error})") from error
    if found is None:
        raise CalculationFailed("spglib finds no symmetry, not even the identity: are atoms on top of one another?")
    return found
