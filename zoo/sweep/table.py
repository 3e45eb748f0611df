"""The table of a sweep: pandas frames for CSV, and Markdown for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.evaluation import metrics
from zoo.storage.csv_cells import csv_cell
from zoo.storage.run_folder import RunFolder, read_history, read_json, write_text
from zoo.sweep.axes import label
from zoo.sweep.cells import Cell
from zoo.sweep.sweep_folder import SweepFolder

Entry = dict[str, Any]
"""{"mean", "std", "each"} of a metric over the seeds."""


@dataclass(frozen=True)
class Outcome:
    """The result of a cell.

    Attributes:
        cell: the cell.
        folder: its run folder.
        content: metrics.json; None if the cell is not finished.
        reason: why its last attempt failed; None if it did not.
        seconds: wall clock of its epochs, all seeds; None before the first.
        improving: for each seed, whether it was still improving when its epochs ended.
        differences: metric -> difference to the baseline over the seeds; empty without a baseline to compare with.
    """

    cell: Cell
    folder: RunFolder
    content: dict[str, Any] | None
    reason: str | None
    seconds: float | None
    improving: tuple[bool, ...] = ()
    differences: dict[str, Entry] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The cell's status: done, failed, or not finished."""
        return "done" if self.content is not None else "failed" if self.reason is not None else "not finished"

    @property
    def metric(self) -> str:
        """Name of the metric that ranks the cells."""
        return metrics.primary(self.content) if self.content is not None else "mae_ten"

    @property
    def improving_words(self) -> str:
        """Number of seeds that were still improving, as `1 of 3`."""
        return f"{sum(self.improving)} of {len(self.improving)}"


def outcomes(cells: Iterable[Cell], folder: SweepFolder, compare: Mapping[str, Any] | None = None) -> list[Outcome]:
    """Read the results in the cells' folders; `compare` maps axes to the baseline's values, as in the recipe."""
    results = [_outcome(cell, folder) for cell in cells]
    if compare:
        labels = {name: label(value) for name, value in compare.items()}
        by_labels = {tuple(result.cell.labels.values()): result for result in results}
        for result in results:
            baseline = by_labels[tuple({**result.cell.labels, **labels}.values())]
            if result is not baseline:
                result.differences.update(paired_differences(result, baseline))
    return results


def _outcome(cell: Cell, folder: SweepFolder) -> Outcome:
    place = folder.cell(cell.slug)
    if not place.run.finished:
        return Outcome(cell, place.run, None, (place.failure or {}).get("reason"), place.seconds)
    improving = tuple(still_improving(read_history(place.run.seed(seed))) for seed in cell.recipe.seeds)
    return Outcome(cell, place.run, read_json(place.run.result), None, place.seconds, improving)


def still_improving(history: Sequence[Mapping[str, float]]) -> bool:
    """True if more epochs would have helped.

    That is, the best epoch is in the last tenth, or the validation error of the last tenth is on average lower by more
    than 1 % than that of the tenth before.
    """
    errors = np.array([row["val_mae_ten"] for row in history])
    tenth = max(1, len(errors) // 10)
    if len(errors) < 2 or errors.argmin() >= len(errors) - tenth:
        return True
    return bool(errors[-tenth:].mean() < 0.99 * errors[-2 * tenth : -tenth].mean())


def paired_differences(result: Outcome, baseline: Outcome) -> dict[str, Entry]:
    """Compute metric -> difference to the baseline over the seeds, each seed with its own.

    The noise of the splits, most of the standard deviation, cancels. Empty unless both cells are done and were tested
    on the same crystals, seed by seed.
    """
    if result.content is None or baseline.content is None or result.content["seeds"] != baseline.content["seeds"]:
        return {}
    for seed in result.content["seeds"]:
        if len({tuple(read_json(each.folder.seed(seed).split)["test"]) for each in (result, baseline)}) > 1:
            return {}
    frames = [
        pd.DataFrame({name: pd.Series(entry["each"], dtype=float) for name, entry in each.content["test"].items()})
        for each in (result, baseline)
        if each.content is not None
    ]
    rows = (frames[0] - frames[1])[list(frames[0])].to_dict("records")
    return metrics.over_seeds([{name: None if np.isnan(v) else v for name, v in row.items()} for row in rows])


def cell_frame(results: Sequence[Outcome]) -> pd.DataFrame:
    """Tabulate mean and standard deviation of all metrics over the seeds, a row for each cell and crystal system."""
    rows: list[dict[str, Any]] = []
    for result in results:
        head = {**_head(result), "status": result.status, "reason": result.reason, "crystal_system": "all"}
        content = result.content
        if content is None:
            rows.append(head)
            continue
        name = result.metric
        baseline = content["test_mean_baseline"].get(name, {"mean": None})
        rows.append(
            head
            | {key: _range(content[key]) for key in ("n_train", "epochs", "best_epoch")}
            | {"still_improving": result.improving_words}
            | {"seconds": f"{result.seconds:.0f}" if result.seconds is not None else None}
            | {"seeds": len(content["seeds"])}
            | _columns(content["test"])
            | {f"val_{name}_mean": content["val"][name]["mean"], f"val_{name}_std": content["val"][name]["std"]}
            | {f"mean_baseline_{name}_mean": baseline["mean"]}
            | _columns({k: entry for k, entry in result.differences.items() if k != "n"}, "difference_")
        )
        rows += [
            head | {"crystal_system": system} | _columns(entries)
            for system, entries in content["per_crystal_system"].items()
        ]
    return pd.DataFrame(rows)


def seed_frame(results: Sequence[Outcome]) -> pd.DataFrame:
    """Tabulate the metrics of every seed that is done, a row for each cell, seed and crystal system."""
    rows: list[dict[str, Any]] = []
    for result in results:
        for seed in result.cell.recipe.seeds:
            place = result.folder.seed(seed)
            if not place.result.is_file():
                continue
            content = read_json(place.result)
            head = {**_head(result), "seed": seed, "split_seed": content["split_seed"]}
            training = {key: content[key] for key in ("n_train", "epochs", "best_epoch")}
            training["still_improving"] = still_improving(read_history(place))
            val = {f"val_{name}": value for name, value in content["val"]["all"].items()}
            for system, errors in content["test"].items():
                more = val if system == "all" else {}
                rows.append({**head, "crystal_system": system, **training, **errors, **more})
    return pd.DataFrame(rows)


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV, whole or not at all; numbers with six digits, and no text that a spreadsheet would run."""
    safe = frame.map(csv_cell).rename(columns=csv_cell)
    write_text(path, safe.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def _head(result: Outcome) -> dict[str, Any]:
    # An axis may have the name of a column.
    own = {"cell", "status", "reason", "seed", "seeds", "epochs", "seconds", "n"}
    labels = result.cell.labels.items()
    return {"cell": result.cell.slug} | {f"{name} (axis)" if name in own else name: text for name, text in labels}


def _columns(entries: Mapping[str, Entry], prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}{name}_{kind}": entry[kind] for name, entry in entries.items() for kind in ("mean", "std")}


def _range(values: int | Sequence[int]) -> str:
    many = [values] if isinstance(values, int) else list(values)
    low, high = min(many), max(many)
    return str(low) if low == high else f"{low}-{high}"


TITLES = {"mae_ten": "MAE_ten"}
"""Metric -> title in table and figure, if it is another than its name."""
_SHOWN = {"mae_mean_diag": "mean diag", "frobenius": "Frobenius", "within_25": "≤ 25 %"}
"""Metrics of the Markdown table beside the primary one: name -> title."""


def markdown(results: Sequence[Outcome], compare: Mapping[str, Any] | None = None) -> str:
    """Write the table in Markdown, with the reasons of failed cells below it."""
    done = [result for result in results if result.content is not None]
    metric = done[0].metric if done else "mae_ten"
    shown = {name: title for name, title in _SHOWN.items() if done and name in (done[0].content or {})["test"]}
    title = TITLES.get(metric, metric)
    rows = []
    for result in results:
        row = {**result.cell.labels, title: result.status}
        content = result.content
        if content is not None:
            row[title] = _words(content["test"].get(metric), metric)
            if compare:
                row[f"difference to {', '.join(map(label, compare.values()))}"] = _difference(result)
            row |= {column: _words(content["test"].get(name), name) for name, column in shown.items()}
            row["validation"] = _words(content["val"].get(metric), metric)
            row["predicting the mean"] = _words(content["test_mean_baseline"].get(metric), metric, spread=False)
            row["best epoch"] = f"{_range(content['best_epoch'])} of {_range(content['epochs'])}"
            row["still improving"] = result.improving_words
            row["min"] = f"{result.seconds / 60:.1f}" if result.seconds is not None else ""
        rows.append(row)
    text = markdown_table(pd.DataFrame(rows), len(results[0].cell.labels) if results else 0)
    failed = [f"- {result.cell.slug} failed: {result.reason}" for result in results if result.status == "failed"]
    return "\n".join([text, *(["", *failed] if failed else [])]) + "\n"


def by_system(results: Sequence[Outcome]) -> str:
    """Write the primary metric by crystal system in Markdown."""
    rows = []
    for result in results:
        if result.content is not None:
            entries = result.content["per_crystal_system"]
            errors = {system: _words(entries.get(system, {}).get(result.metric), "") for system in CRYSTAL_SYSTEMS}
            rows.append({**result.cell.labels, **errors})
    frame = pd.DataFrame(rows)
    return markdown_table(frame.loc[:, (frame != "–").any()], len(results[0].cell.labels)) + "\n"


def markdown_table(frame: pd.DataFrame, left: int) -> str:
    """Write a frame of texts as a Markdown table with aligned columns, the first `left` ones to the left."""
    lines = [list(frame), *frame.fillna("").to_numpy().tolist()]
    lines = [[str(text).replace("|", "\\|").replace("\n", " ") for text in line] for line in lines]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * w if k < left else "-" * (w - 1) + ":" for k, w in enumerate(widths)])
    return "\n".join(
        "| "
        + " | ".join(
            f"{t:<{w}}" if k < left else f"{t:>{w}}" for k, (t, w) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def _words(entry: Entry | None, name: str, spread: bool = True) -> str:
    if entry is None or entry["mean"] is None:
        return "–"
    scale, digits, unit = (100, 0, " %") if name.startswith("within") else (1, 3, "")
    more = f" ± {entry['std'] * scale:.{digits}f}" if spread and entry["std"] is not None else ""
    return f"{entry['mean'] * scale:.{digits}f}{more}{unit}"


def _difference(result: Outcome) -> str:
    """The difference as `-0.27 ± 0.10 (-14 %)`, where the share is of the baseline's mean."""
    entry = result.differences.get(result.metric)
    if entry is None or entry["mean"] is None or result.content is None:
        return ""
    baseline = result.content["test"][result.metric]["mean"] - entry["mean"]
    spread = f" ± {entry['std']:.3f}" if entry["std"] is not None else ""
    return f"{entry['mean']:+.3f}{spread} ({100 * entry['mean'] / baseline:+.0f} %)"
