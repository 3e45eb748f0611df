"""Results of one seed: what it was trained on, and its errors on validation and test part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from zoo.config.sections import Training
from zoo.contract.level_of_theory import LEVELS
from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.evaluation import metrics
from zoo.evaluation.predictions import Predictions
from zoo.training.batches import Samples


def seen_levels(samples: Samples, own: list[int], more: list[int]) -> dict[str, int]:
    """Count the crystals of each level of theory; those of the recipe's dataset come first, the most frequent first."""
    assert samples.labels is not None  # prepare
    first, then = ([LEVELS[level] for level in samples.labels.level[part].tolist()] for part in (own, more))
    order = dict.fromkeys([*(name for name, _ in Counter(first).most_common()), *then])
    counts = Counter([*first, *then])
    return {name: counts[name] for name in order}


def seen_labels(samples: Samples, indices: list[int], made: Sequence[str], training: Training) -> dict[str, int]:
    """Count the labels that a readout makes beside the tensor, of each that counts in the loss."""
    counts, scales = samples.labelled(indices), training.labels.model_dump()
    return {name: counts[name] for name in made if counts[name] and scales.get(name)}


def by_target(
    target: TensorTarget, crystals: Mapping[str, CrystalStore], found: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[TensorTarget, dict[str, Predictions]]:
    """The predictions of validation and test part, for each part of a joint target."""
    out: dict[TensorTarget, dict[str, Predictions]] = {}
    for part, (predicted, true) in found.items():
        for name, (one, of_part) in target.split(predicted).items():
            labels = target.split(true)[name][1]
            out.setdefault(one, {})[part] = Predictions.of(crystals[part], of_part, labels)
    return out


def labels_of(target: TensorTarget, part: TensorTarget, tensors: Tensor) -> np.ndarray:
    """The labels, (n, *part.shape), of one part of a joint target, or of a target itself, without what has none."""
    values = target.split(tensors)[part.name][1]
    known: np.ndarray = values[~values.flatten(1).isnan().any(dim=1)].numpy()
    return known


def errors(target: TensorTarget, predictions: Mapping[str, Predictions], known: np.ndarray) -> dict[str, Any]:
    """Errors on validation and test part, and those of predicting the mean of the training tensors `known`."""
    out: dict[str, Any] = {}
    for part, one in predictions.items():
        out[part] = one.errors(target)
        out[f"{part}_undefined"] = one.undefined(target)
    out["test_mean_baseline"] = metrics.mean_baseline(known, predictions["test"].true, target)
    return out
