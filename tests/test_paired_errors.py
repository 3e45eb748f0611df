"""Errors of several models on the same crystals, and intervals of their differences."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.evaluation.paired_errors import PairedError, paired_errors

GENERATOR = np.random.default_rng(7)
FOLDS = np.repeat([0, 1, 2], [40, 60, 100])
TRUE = 2 + GENERATOR.random(200)
OURS = TRUE + GENERATOR.normal(0, 0.2, 200)
WORSE = TRUE + 1.5 * (OURS - TRUE)  # on every crystal, by half of our error
ALIKE = TRUE - (OURS - TRUE)  # the other way, as far


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], PairedError]:
    predictions = {"ours": OURS, "worse": WORSE, "alike": ALIKE}
    return {(row.model, row.fold): row for row in paired_errors(TRUE, predictions, FOLDS, "ours")}


def test_errors_are_by_fold_and_their_mean(rows: dict[tuple[str, str], PairedError]) -> None:
    assert sorted(rows) == [(m, f) for m in ("alike", "ours", "worse") for f in ("0", "1", "2", "mean")]
    for fold, n in (("0", 40), ("1", 60), ("2", 100)):
        error = (WORSE - TRUE)[int(fold) == FOLDS]
        row = rows["worse", fold]
        assert row.n == n and row.mae == pytest.approx(np.abs(error).mean())
        assert row.rmse == pytest.approx((error**2).mean() ** 0.5)
    mean = rows["worse", "mean"]
    assert mean.n == 200
    assert mean.mae == pytest.approx(np.mean([rows["worse", fold].mae for fold in "012"])), "each fold counts the same"
    assert mean.difference == pytest.approx(mean.mae - rows["ours", "mean"].mae)


def test_an_interval_holds_what_the_pairs_say(rows: dict[tuple[str, str], PairedError]) -> None:
    mean = rows["worse", "mean"]
    assert 0 < mean.low < mean.difference < mean.high
    # For a mean of independent pairs the interval is about 1.96 standard errors to each side.
    difference = np.abs(WORSE - TRUE) - np.abs(OURS - TRUE)
    variance = np.mean([difference[k == FOLDS].var() / (k == FOLDS).sum() for k in range(3)]) / 3
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.06)
    for model in ("ours", "alike"):
        same = rows[model, "mean"]
        assert (same.difference, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_draws_are_the_same_whatever_models_there_are(rows: dict[tuple[str, str], PairedError]) -> None:
    again = paired_errors(TRUE, {"worse": WORSE, "ours": OURS}, FOLDS, "ours")
    (row,) = (row for row in again if (row.model, row.fold) == ("worse", "mean"))
    assert (row.low, row.high) == pytest.approx((rows["worse", "mean"].low, rows["worse", "mean"].high))
