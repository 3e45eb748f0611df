"""Tables of errors and of coverage as rows of text, for `zoo run` and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COLUMNS = {
    "mae_ten": "MAE_ten",
    "mae_mean_diag": "mean diag",
    "mae_diag": "diag",
    "mae_off_diag": "off-diag",
    "mae_bulk_modulus": "bulk modulus",
    "mae_shear_modulus": "shear modulus",
    "frobenius": "Frobenius",
    "within_25": "≤ 25 %",
    "within_10": "≤ 10 %",
}
"""Metrics that a table shows, where the tensor at hand has them, with their titles."""


LABELS = {"born": "Born charges", "band_gap": "band gap"}
UNITS = {"born": "e", "band_gap": "eV"}


@dataclass(frozen=True)
class Rows:
    """A table as text.

    Attributes:
        title: line above the table.
        header: names of the columns; the first column, of names, has none.
        rows: as many cells as `header` has.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def cell(entry: Mapping[str, Any] | None, name: str) -> str:
    """Format an entry of `zoo.evaluation.metrics.over_seeds` for the metric `name`: mean ± standard deviation."""
    if entry is None or entry["mean"] is None:
        return "–"
    scale, digits, unit = (100, 0, " %") if name.startswith("within") else (1, 3, "")
    spread = f" ± {entry['std'] * scale:.{digits}f}" if entry["std"] is not None else ""
    return f"{entry['mean'] * scale:.{digits}f}{spread}{unit}"


def of_errors(content: Mapping[str, Any]) -> Rows:
    """Tabulate the content of metrics.json: all crystals, each crystal system, the ensemble, and the mean predictor.

    Of a joint target they are those of the total; the other parts follow with a row each.
    """
    seeds = ", ".join(map(str, content["seeds"]))
    over = f"seed {seeds}" if len(content["seeds"]) == 1 else f"mean ± std over seeds {seeds}"
    unit = "" if content["unit"] == "1" else f" in {content['unit']}"
    columns = [name for name in COLUMNS if name in content["test"]]
    rows = []
    for system, values in {"all": content["test"], **content["per_crystal_system"]}.items():
        rows.append((system, f"{values['n']['mean']:.0f}", *[cell(values.get(name), name) for name in columns]))
    if "ensemble_test" in content:
        rows.append(one_model("ensemble", content["ensemble_test"], columns))
    baseline = content["test_mean_baseline"]
    rows.append(("predicting the mean", "", *[cell(baseline.get(name), name) for name in columns]))
    for part, own in content.get("parts", {}).items():
        rows.append((part, f"{own['test']['n']['mean']:.0f}", *[cell(own["test"].get(c), c) for c in columns]))
        if "ensemble_test" in own:
            rows.append(one_model(f"{part}, ensemble", own["ensemble_test"], columns))
        mean = own["test_mean_baseline"]
        rows.append((f"{part}, the mean", "", *[cell(mean.get(name), name) for name in columns]))
    what = f"{content['target']}, total" if "parts" in content else content["target"]
    title = f"{what}: errors{unit} on the test part, {over}"
    return Rows(title, ("", "n", *[COLUMNS[name] for name in columns]), tuple(rows))


def one_model(name: str, errors: Mapping[str, float | None], columns: list[str]) -> tuple[str, ...]:
    """Return the row of one model, whose metrics have no spread."""
    return (name, "", *[cell({"mean": errors.get(column), "std": None}, column) for column in columns])


def of_labels(content: Mapping[str, Any]) -> Rows | None:
    """Tabulate the errors of the labels beside the tensor, of the content of metrics.json; None without any."""
    found = content.get("test_labels", {})
    rows = [
        (
            LABELS[name],
            f"{own['n']['mean']:.0f}",
            f"{cell(own['mae'], 'mae')} {UNITS[name]}",
            cell(own["correlation"], "correlation"),
        )
        for name, own in found.items()
    ]
    title = "labels beside the tensor: errors on the test part, and on its twins in auxiliary sources"
    return Rows(title, ("", "n", "MAE", "correlation"), tuple(rows)) if rows else None


def of_coverage(calibration: Mapping[str, Any]) -> Rows:
    """Tabulate how often the intervals of an ensemble hold the truth, and how wide they are."""
    measured = calibration["test"]
    levels = sorted({level for found in measured.values() for level in found["levels"]}, key=float)
    rows = []
    for name, found in measured.items():
        at = [found["levels"].get(level) for level in levels]
        words = "tensor (radius)" if name == "tensor" else name.replace("_", " ")
        cells = ["–" if one is None else f"{100 * one['covered']:.0f} % ({_width(one['width'])})" for one in at]
        rows.append((words, str(found["n"]), *cells))
    title = (
        f"intervals, calibrated on {calibration['n']} validation crystals (which chose the epochs, too): share of test "
        "crystals within (median width)"
    )
    return Rows(title, ("", "n", *[f"{100 * float(level):.0f} %" for level in levels]), tuple(rows))


def _width(value: float) -> str:
    """Format the width of an interval; one that is calibrated on a few crystals alone may be wide beyond sense."""
    return f"{value:.2f}" if value < 1e5 else f"{value:.0e}"
