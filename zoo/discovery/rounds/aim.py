"""The objective of a discovery, and the tensor that it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.discovery import Objective
from zoo.contract.target import TensorTarget
from zoo.data.tensors import label_of
from zoo.discovery.candidate_source import number
from zoo.discovery.scoring import values_of


@dataclass(frozen=True)
class Aim:
    """Number that a discovery makes large, of what its models predict.

    Attributes:
        target: the tensor that the models predict; it may be a joint one.
        part: the tensor that the objective is of: the target, or one part of it.
    """

    objective: Objective
    target: TensorTarget
    part: TensorTarget

    def label(self, tensors: Mapping[str, Any]) -> np.ndarray | None:
        """(*target.shape), the label in tensors by name; None where it lacks what the objective is of."""
        label = label_of(tensors, self.target)
        return None if label is None or np.isnan(self._part(label[None])).any() else label

    def values(self, labels: np.ndarray, properties: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(n,) the objective of labels (n, *target.shape); NaN where it is not defined.

        Raises:
            ZooError: the objective fails.
        """
        return objective_of(self.objective, self._part(labels), properties)

    def _part(self, labels: np.ndarray) -> np.ndarray:
        part: np.ndarray = self.target.split(labels)[self.part.name][1]
        return part


def objective_of(
    objective: Objective, tensors: np.ndarray, properties: Sequence[Mapping[str, Any]], name: str = "objective"
) -> np.ndarray:
    """(n,) the objective of n tensors; NaN also where a property that it needs is not known.

    Raises:
        ZooError: the objective fails.
    """
    able = np.array([all(number(each, key) is not None for key in objective.required()) for each in properties])
    values = np.full(len(tensors), np.nan)
    if able.any():
        some = [each for each, is_able in zip(properties, able, strict=True) if is_able]
        values[able] = values_of(objective, tensors[able], some, name)
    return values
