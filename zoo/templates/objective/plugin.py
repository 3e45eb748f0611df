"""An objective: the number that a search maximises, from a crystal's tensor and its other properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from zoo.api import Hypers, Objective, TensorTarget


class MyPluginHypers(Hypers):
    """Keys that a recipe may give beside the name; anything else is refused with the nearest key."""

    least_gap: Annotated[float, Field(ge=0)] = 2.0
    """eV; crystals with a smaller band gap are not in the running."""


class MyPlugin(Objective):
    """The smallest principal value of the tensor, of crystals that insulate: high whichever way the field points."""

    Hypers = MyPluginHypers
    hypers: MyPluginHypers
    properties: ClassVar[tuple[str, ...]] = ("band_gap",)  # candidates without one are left out

    @classmethod
    def cannot_use(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric 3×3 tensor a crystal."""
        if target.formula != "ij=ji" or target.per_atom:
            return f"is of one symmetric 3×3 tensor (ij=ji) a crystal, which '{target.name}' is not"
        return None

    def values(self, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(n,) of n tensors (n, 3, 3); NaN where it is not defined. They must not depend on how a crystal is turned."""
        smallest = np.linalg.eigvalsh(tensors)[:, 0]
        gaps = np.array([each["band_gap"] for each in properties])
        return np.where(gaps >= self.hypers.least_gap, smallest, np.nan)
