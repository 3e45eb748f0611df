"""Errors of several models on the same crystals by fold, and how sure their differences are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 4000
"""Number of bootstrap samples of an interval."""

LEVEL = 0.95
MEAN = "mean"
"""The fold of a row about all folds, each counting the same."""


@dataclass(frozen=True)
class PairedError:
    """Errors of one model in one fold, or the mean of the folds, beside those of the model it is compared with.

    Attributes:
        model: its name.
        fold: its number, or `mean`.
        n: number of crystals.
        mae: mean absolute error; of `mean`, the mean over the folds.
        rmse: root mean square error; the same.
        difference: MAE minus that of the reference: above 0 the reference is better.
        low: lower end of the 95 % interval of the difference.
        high: upper end.
    """

    model: str
    fold: str
    n: int
    mae: float
    rmse: float
    difference: float
    low: float
    high: float

    def row(self) -> dict[str, str | int | float]:
        """Return it as a row of a table."""
        return asdict(self)


def paired_errors(
    true: np.ndarray, predictions: Mapping[str, np.ndarray], folds: np.ndarray, reference: str
) -> list[PairedError]:
    """Compare models crystal by crystal, with intervals by the paired bootstrap.

    Crystals are drawn with replacement within their fold, the same for all models, and the difference of the absolute
    errors is averaged: what makes a crystal hard for every model cancels. The draws are seeded.

    Args:
        true: (n,) true values.
        predictions: of each model, (n,).
        folds: (n,) the number of each crystal's fold.
        reference: name of the model that the others are compared with.

    Returns:
        For each model, in the order given, a row a fold and the one of all.
    """
    models = list(predictions)
    errors = np.stack([predictions[model] - true for model in models], axis=1)  # (n, models)
    difference = np.abs(errors) - np.abs(errors[:, [models.index(reference)]])
    generator = np.random.default_rng(0)
    numbers = [int(fold) for fold in np.unique(folds)]
    maes, rmses, differences, draws = [], [], [], []
    for fold in numbers:
        here = folds == fold
        count = int(here.sum())
        maes.append(np.abs(errors[here]).mean(axis=0))
        rmses.append(np.sqrt(np.square(errors[here]).mean(axis=0)))
        differences.append(difference[here].mean(axis=0))
        times = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)  # of each crystal in a sample
        draws.append(times @ difference[here] / count)
    parts = [(str(fold), int((folds == fold).sum()), slice(k, k + 1)) for k, fold in enumerate(numbers)]
    rows = []
    for k, model in enumerate(models):
        for name, count, part in [*parts, (MEAN, len(true), slice(None))]:
            mae, rmse, beyond = (float(np.mean(values[part], axis=0)[k]) for values in (maes, rmses, differences))
            sample = np.mean(draws[part], axis=0)[:, k]
            low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
            rows.append(PairedError(model, name, count, mae, rmse, beyond, low, high))
    return rows
