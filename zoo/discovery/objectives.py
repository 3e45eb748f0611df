"""Objectives: the number that a search for dielectrics maximises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from zoo.contract.discovery import Objective
from zoo.contract.plugin import Hypers
from zoo.contract.target import TensorTarget
from zoo.discovery.candidate_source import number
from zoo.evaluation import derived


class _OfSymmetricTensor(Objective):
    @classmethod
    def cannot_use(cls, target: TensorTarget) -> str | None:
        """Tensors that have no eigenvalues."""
        if target.per_atom or not derived.is_symmetric_matrix(target):
            return f"is of one symmetric 3×3 tensor a crystal, '{target.name}' is {target.formula}"
        return None


class Polycrystalline(_OfSymmetricTensor):
    """A third of the trace: the dielectric constant of a polycrystal.

    What the DTNet paper screens for a high dielectric constant (npj Comput. Mater. 10, 265 (2024)).
    """

    def values(self, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """tr/3."""
        return derived.polycrystalline(tensors)


class FigureOfMeritHypers(Hypers):
    """Keys of `figure-of-merit`."""

    assumed_gap: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """eV, taken for crystals whose band gap is not known; null: these are left out."""


class FigureOfMerit(_OfSymmetricTensor):
    """A third of the trace times the band gap (eV): high-k dielectrics that insulate.

    The figure of merit by which the DTNet paper ranks what it has found.
    """

    Hypers = FigureOfMeritHypers
    hypers: FigureOfMeritHypers
    properties: ClassVar[tuple[str, ...]] = ("band_gap",)

    def required(self) -> tuple[str, ...]:
        """The band gap, unless one is assumed."""
        return self.properties if self.hypers.assumed_gap is None else ()

    def values(self, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """tr/3 × E_g, eV."""
        known = [number(each, "band_gap") for each in properties]
        gaps = [self.hypers.assumed_gap if gap is None else gap for gap in known]
        return derived.polycrystalline(tensors) * np.array(gaps, dtype=np.float64)


class AnisotropyHypers(Hypers):
    """Keys of `anisotropy`."""

    floor: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Smallest eigenvalue that is taken for real: 1, the vacuum's, of total and electronic tensors."""


class Anisotropy(_OfSymmetricTensor):
    """The ratio of the largest to the smallest eigenvalue, of crystals that are not molecular.

    The smallest is floored: a model that errs towards zero there would have any ratio.
    """

    Hypers = AnisotropyHypers
    hypers: AnisotropyHypers
    non_molecular: ClassVar[bool] = True

    def values(self, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """λ_max / max(λ_min, floor), at least 1."""
        smallest, _, largest = np.linalg.eigvalsh(0.5 * (tensors + tensors.swapaxes(1, 2))).T
        floor = self.hypers.floor
        return np.asarray(np.maximum(largest, floor) / np.maximum(smallest, floor))
