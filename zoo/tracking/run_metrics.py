"""Metrics that MLflow shows of a run: about twenty of those in its metrics.json, under names that sort by tensor.

A name is PART_ERROR[_TENSOR][_KIND]: `test_mae_ten` of the target (of a joint one, of its main part), after it
`test_mae_ten_baseline`, `test_mae_ten_electronic`, `test_mae_ten_electronic_baseline`. mlflow/README.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = ("mae_ten", "frobenius", "within_25", "within_10")
"""Errors that are shown of the target, see `zoo.evaluation.metrics`; of the other parts of a joint one the first."""
LEVEL = "0.9"
"""Level of the intervals whose coverage is shown."""

Errors = Mapping[str, float | None]


def metrics_of_seed(result: Mapping[str, Any]) -> dict[str, float]:
    """Select from the content of a seed's result.json."""
    shown: dict[str, float | None] = {}
    for name, own in _tensors(result).items():
        shown |= _errors(name, own["val"]["all"], own["test"]["all"], own["test_mean_baseline"])
    return _known(shown)


def metrics_of_run(content: Mapping[str, Any]) -> dict[str, float]:
    """Select from the content of metrics.json: means over seeds, their standard deviation, and those of an ensemble."""
    shown: dict[str, float | None] = {}
    for name, own in _tensors(content).items():
        shown |= _errors(name, *(_means(own.get(part, {})) for part in ("val", "test", "test_mean_baseline")))
        shown[f"test_mae_ten{name}_std"] = own["test"].get("mae_ten", {}).get("std")
        shown[f"test_mae_ten{name}_ensemble"] = own.get("ensemble_test", {}).get("mae_ten")
        intervals = own.get("calibration", {}).get("test", {}).get("tensor", {}).get("levels", {})
        shown[f"test_coverage_{100 * float(LEVEL):.0f}{name}"] = intervals.get(LEVEL, {}).get("covered")
    for label, own in content.get("test_labels", {}).items():
        shown[f"test_mae_{label}"] = own["mae"]["mean"]
    return _known(shown)


def metrics_of_refit(content: Mapping[str, Any]) -> dict[str, float]:
    """Select from the content of a refit's metrics.json: means over its folds, under a run's names for the same."""
    of_folds = {"": content, **content.get("parts", {})}
    test, *parts = (
        {**own, "test": own["test_members"], "ensemble_test": _means(own["test"])} for own in of_folds.values()
    )
    return metrics_of_run({**test, "parts": dict(zip(list(of_folds)[1:], parts, strict=True))})


def _tensors(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Pair the ends of names with their entries: none for the target itself, and one for each part of a joint one."""
    return {"": content, **{f"_{part}": own for part, own in content.get("parts", {}).items()}}


def _errors(name: str, val: Errors, test: Errors, baseline: Errors) -> dict[str, float | None]:
    shown = {f"test_{error}{name}": test.get(error) for error in (SHOWN[:1] if name else SHOWN)}
    shown[f"test_mae_ten{name}_baseline"] = baseline.get("mae_ten")
    # `val_mae_ten` is that of the epochs, and of a joint target the mean over its parts.
    return shown | {f"best_val_mae_ten{name}": val.get("mae_ten")}


def _means(entries: Mapping[str, Mapping[str, Any]]) -> Errors:
    return {name: entry["mean"] for name, entry in entries.items()}


def _known(shown: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in shown.items() if value is not None}
