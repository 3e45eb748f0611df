"""Who tells the tensor of a crystal: here a textbook's formula, in its place your calculation or measurement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from zoo.api import CalculationFailed, Candidate, Hypers, Oracle, TensorTarget

# Polarisabilities of ions in oxides and fluorides, Å^3 (Shannon, J. Appl. Phys. 73, 348 (1993)).
POLARISABILITY = {
    "Li": 1.20, "Na": 1.80, "K": 3.83, "Rb": 5.29, "Cs": 7.43, "Be": 0.19, "Mg": 1.32, "Ca": 3.16, "Sr": 4.24,
    "Ba": 6.40, "Al": 0.79, "Si": 0.87, "Ti": 2.93, "O": 2.01, "F": 1.62,
}  # fmt: skip


class MyPluginHypers(Hypers):
    """Keys that a recipe may give beside the name; anything else is refused with the nearest key."""

    largest: Annotated[float, Field(gt=1)] = 100.0
    """Dielectric constants above this one are not believed: the formula diverges."""


class MyPlugin(Oracle):
    """Oxides and fluorides by the Clausius-Mossotti relation: their ions add up, all directions are alike."""

    Hypers = MyPluginHypers
    hypers: MyPluginHypers

    def missing(self) -> str | None:
        """Say in one line what must be installed before the oracle can calculate; None where nothing is missing."""
        return None

    def targets(self) -> Mapping[str, TensorTarget]:
        """total, dimensionless: a tensor of rank 2 with ij=ji, one a crystal."""
        return {"total": TensorTarget("total", quantity="dielectric")}

    def tensors(self, candidate: Candidate, folder: Path) -> Mapping[str, np.ndarray] | None:
        """In the frame of the candidate's structure, which must not be changed; files go into its own `folder` alone.

        None would say that the result is not there yet, and somebody else brings it into the folder.
        """
        structure = candidate.structure
        unknown = {site.specie.symbol for site in structure} - set(POLARISABILITY)
        if unknown:  # this crystal has no result, ever; a program that is missing would be a ZooError
            raise CalculationFailed(f"no polarisability of {', '.join(sorted(unknown))} is known")
        density = sum(POLARISABILITY[site.specie.symbol] for site in structure) / structure.volume
        share = 4 * np.pi / 3 * density
        constant = (1 + 2 * share) / (1 - share) if share < 1 else np.inf
        if constant > self.hypers.largest:
            raise CalculationFailed(f"its dielectric constant would be {constant:.3g}: beyond what is believed")
        return {"total": constant * np.eye(3)}
