"""Explanation of an ionic dielectric tensor: Born charges, modes at Γ with their shares, and the infrared spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pymatgen.core import Structure

from zoo.errors import ZooError
from zoo.phonons.infrared import DAMPING, InfraredSpectrum, infrared_spectrum, longitudinal_modes
from zoo.phonons.irreps import irrep_labels
from zoo.phonons.mode_table import mode_rows
from zoo.phonons.modes import gamma_modes, masses_of
from zoo.phonons.polar_modes import PolarModes, polar_modes
from zoo.phonons.primitive_part import primitive_part

FIXED_CELL = "at fixed cell (clamped strain): a piezoelectric crystal that is free to deform has a larger constant"
"""The condition under which every ionic and static tensor of such a model holds."""


@dataclass(frozen=True)
class Explanation:
    """Born charges and modes of which the ionic tensor of an answer is made, at fixed cell.

    Those of an ensemble are the means over its members of the charges and of the corrected force constants. The ionic
    tensor that these make is not exactly the mean of the members' tensors, which is the answer: `deviation` is how far
    it is from that. A projection of the answer on a point group counts in it, too.

    Attributes:
        elements: symbols of the N atoms of the given structure.
        born: Z* of these, (N, 3, 3), e: polarisation along the first axis by displacement along the second.
        cell: a primitive cell in the same frame; its atoms are some of those given.
        polar: the transverse optic modes at Γ of the primitive cell with their charges, by force constants that the
            model has corrected.
        electronic: ε∞ of the answer, (3, 3); None where the model gives the ionic tensor alone.
        answered: ε0 of the answer, (3, 3).
        by_potential: ε0 by the force constants of each potential alone, (P, 3, 3), where the model has several.
    """

    elements: tuple[str, ...]
    born: np.ndarray
    cell: Structure
    polar: PolarModes
    electronic: np.ndarray | None
    answered: np.ndarray
    by_potential: np.ndarray | None = None

    @property
    def ionic(self) -> np.ndarray:
        """The ionic tensor that these charges and modes make, (3, 3)."""
        return self.polar.ionic

    @property
    def deviation(self) -> float:
        """Frobenius norm of the difference of `ionic` and the answer: rounding, where the model is no ensemble."""
        return float(np.linalg.norm(self.ionic - self.answered))

    @cached_property
    def irreps(self) -> list[str | None]:
        """Irreducible representations of the degenerate subspaces, None where one has no name: phonopy names them."""
        return irrep_labels(self.polar.modes, self.cell)

    @cached_property
    def modes(self) -> list[dict[str, Any]]:
        """The degenerate subspaces, softest first, as rows of `zoo.phonons.mode_table.mode_rows`, shares included."""
        return mode_rows(self.polar.modes, self.irreps, self.polar)

    def longitudinal(self, direction: np.ndarray, electronic: np.ndarray | float | None = None) -> PolarModes:
        """Return the modes for q → 0 along a Cartesian direction, with the macroscopic field: LO where polar along it.

        Args:
            direction: (3,), of any length.
            electronic: see `spectrum`.

        Raises:
            ZooError: no direction, or no electronic tensor.
        """
        return longitudinal_modes(self.polar, self._screening(electronic), np.asarray(direction))

    def spectrum(
        self,
        damping: float = DAMPING,
        wavenumbers: np.ndarray | None = None,
        electronic: np.ndarray | float | None = None,
    ) -> InfraredSpectrum:
        """Return ε(ω) in the infrared, and what is measured of it.

        Args:
            damping: γ of all modes, cm⁻¹.
            wavenumbers: cm⁻¹; see `zoo.phonons.infrared.infrared_spectrum`.
            electronic: ε∞, (3, 3) or a number for an isotropic one; None: that of the answer.

        Raises:
            ZooError: the model gives no electronic tensor and none is given, or an argument is out of range.
        """
        return infrared_spectrum(self.polar, self._screening(electronic), wavenumbers, damping)

    def _screening(self, given: np.ndarray | float | None) -> np.ndarray:
        if given is not None:
            return np.asarray(given, dtype=np.float64) * (np.eye(3) if np.ndim(given) == 0 else 1.0)
        if self.electronic is None:
            raise ZooError(
                "the model gives no electronic tensor, which a spectrum and LO modes need: ask one of all three "
                "tensors (recipe dielectric), or give the value (--electronic)"
            )
        return self.electronic

    def as_dict(self, direction: np.ndarray | None = None) -> dict[str, Any]:
        """Return plain JSON values.

        Returns:
            `strain`, always `clamped`; `elements` and `born_charges` (e, N×3×3) of the given atoms; `primitive_atoms`,
            their number in the cell of the modes; `modes`, see `zoo.phonons.mode_table.mode_rows`; `ionic`, the tensor
            that these make, and its `deviation` from the answer; `by_potential`, where there are several. With a
            `direction` also `longitudinal`: the unit vector and the wavenumbers, cm⁻¹, of all modes for q along it.
        """
        content: dict[str, Any] = {
            "strain": "clamped",
            "elements": list(self.elements),
            "born_charges": self.born.tolist(),
            "primitive_atoms": len(self.cell),
            "modes": self.modes,
            "ionic": self.ionic.tolist(),
            "deviation": self.deviation,
        }
        if self.by_potential is not None:
            content["by_potential"] = self.by_potential.tolist()
        if direction is not None:
            modes = self.longitudinal(direction).modes
            axis = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
            content["longitudinal"] = {"direction": axis.tolist(), "wavenumbers": modes.wavenumbers.tolist()}
        return content


def explanation_of(
    structure: Structure,
    born: np.ndarray,
    force_constants: np.ndarray,
    answered: np.ndarray,
    electronic: np.ndarray | None,
    by_potential: np.ndarray | None = None,
) -> Explanation:
    """Make the explanation of an answer.

    Args:
        structure: that was asked about, with N atoms.
        born: Z*, (N, 3, 3), e.
        force_constants: Φ', (3N, 3N), eV/Å².
        answered, electronic, by_potential: see `Explanation`.

    Raises:
        ZooError: numbers that are not finite, or a polar mode at zero.
    """
    cell, small, charges = primitive_part(structure, force_constants, born)
    polar = polar_modes(gamma_modes(small, masses_of(cell)), charges, cell.volume)
    elements = tuple(site.specie.symbol for site in structure)
    return Explanation(elements, born, cell, polar, electronic, answered, by_potential)
