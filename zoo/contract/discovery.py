"""The base classes of discovery's plugins: Objective, Acquisition, Oracle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pymatgen.core import Structure

from zoo.contract.plugin import Hypers
from zoo.contract.target import TensorTarget


@dataclass(frozen=True)
class Candidate:
    """A crystal whose tensor is not known, or is hidden.

    Attributes:
        key: unique among the candidates.
        structure: its Cartesian frame is that of predicted tensors.
        properties: what is known of it: `band_gap` (eV), `energy_above_hull` (eV/atom), ...
    """

    key: str
    structure: Structure
    properties: Mapping[str, Any] = field(default_factory=dict)


class Objective(ABC):
    """One number of a crystal, from its tensor and what else is known of it, that a search makes large.

    Class attributes:
        properties: of a candidate that enter it; candidates that lack one are left out, unless `required` says less.
        non_molecular: molecular crystals are left out.

    Attributes:
        hypers: the hyperparameters.
    """

    Hypers: ClassVar[type[Hypers]] = Hypers
    properties: ClassVar[tuple[str, ...]] = ()
    non_molecular: ClassVar[bool] = False

    def __init__(self, hypers: Any) -> None:
        self.hypers = hypers

    @classmethod
    def cannot_use(cls, target: TensorTarget) -> str | None:
        """Why it has no meaning for tensors of this kind, in words; None where it has."""
        return None

    def required(self) -> tuple[str, ...]:
        """Return the properties that it cannot do without; some hyperparameters may stand in for one."""
        return self.properties

    @abstractmethod
    def values(self, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The objective of n crystals.

        Args:
            tensors: (n, *target.shape) float64.
            properties: what is known of each; those that are `required` are among them, and are numbers.

        Returns:
            (n,) float64; NaN where it is not defined.
        """


class Acquisition(ABC):
    """From what the members of an ensemble say of a candidate to how much it is worth a calculation.

    A candidate's score depends on that candidate alone, so that any number of them can be gone through one after
    another.

    Class attributes:
        needs_ensemble: it has no meaning for a model of one member.
        needs_best: it has none without the highest value so far.

    Attributes:
        hypers: the hyperparameters.
    """

    Hypers: ClassVar[type[Hypers]] = Hypers
    needs_ensemble: ClassVar[bool] = False
    needs_best: ClassVar[bool] = False

    def __init__(self, hypers: Any) -> None:
        self.hypers = hypers

    @abstractmethod
    def scores(self, values: np.ndarray, best: float | None, keys: Sequence[str], seed: int) -> np.ndarray:
        """Score n candidates; those of the highest scores are chosen.

        Args:
            values: (members, n) the objective of each member's tensor.
            best: the highest value that is known from calculations so far; None where there is none, unless the class
                `needs_best`.
            keys: the n candidates'.
            seed: of what is drawn at random, if anything is: by seed and key, whatever the order.

        Returns:
            (n,) float64.
        """


class Oracle(ABC):
    """Tells the tensor of a crystal for good: by a calculation, or by looking it up.

    Several crystals are asked for at the same time, from threads or from other machines: an oracle keeps nothing but
    its hyperparameters, and writes into the crystal's own folder alone.

    Class attributes:
        may_change: the hyperparameters that say how it is done, not what comes out (a command, a number of threads):
            they may be others when a discovery goes on.

    Attributes:
        hypers: the hyperparameters.
    """

    Hypers: ClassVar[type[Hypers]] = Hypers
    may_change: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, hypers: Any) -> None:
        self.hypers = hypers

    def missing(self) -> str | None:
        """Say in one line what must be installed or configured before a calculation; None where all is there."""
        return None

    @abstractmethod
    def targets(self) -> Mapping[str, TensorTarget]:
        """The tensors that it tells, by name."""

    @abstractmethod
    def tensors(self, candidate: Candidate, folder: Path) -> Mapping[str, np.ndarray] | None:
        """All tensors of one crystal.

        Args:
            candidate: its structure must not be changed: tensors are in its frame.
            folder: of this crystal alone; it is there, and stays. A second call in the same folder, after the process
                of the first was killed, goes on where that one was, or begins anew; it never mixes the two.

        Returns:
            Name -> (*target.shape) float64, a subset of `targets`; None where the result is not there yet, and somebody
            else brings it: what is needed for that has been written into the folder, and the call comes again later.

        Raises:
            CalculationFailed: this crystal has none. It is written down, and not asked for again.
            ZooError: something is wrong that has nothing to do with this crystal (a program is missing, a disk full):
                all stops, and goes on when it is put right.
        """
