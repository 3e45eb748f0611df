"""The results of a sweep as rows: for CSV, for Markdown, for the figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.evaluation import metrics
from zoo.storage.run_folder import RunFolder, read_history, read_json, write_text
from zoo.sweep.axes import label
from zoo.sweep.cells import Cell
from zoo.sweep.run_grid import primary
from zoo.sweep.sweep_folder import SweepFolder

Entry = dict[str, Any]  # {"mean", "std", "each"} over the seeds


@dataclass(frozen=True)
class Outcome:
    """Result of a cell.

    Attributes:
        cell: what was chosen.
        content: metrics.json; None where the cell is not finished.
        reason: why its last attempt failed.
        seconds: wall clock of its epochs, all seeds.
        improving: how many of its seeds were still improving when their epochs ended.
        differences: metric -> minus the baseline's, seed by seed; None where there is no baseline to compare with.
    """

    cell: Cell
    folder: RunFolder
    content: dict[str, Any] | None
    reason: str | None
    seconds: float | None
    improving: int = 0
    differences: dict[str, Entry] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """done, failed, or not finished."""
        if self.content is not None:
            return "done"
        return "failed" if self.reason is not None else "not finished"

    @property
    def metric(self) -> str:
        """The one that stands first."""
        return primary(self.content) if self.content is not None else "mae_ten"


def outcomes(cells: Iterable[Cell], folder: SweepFolder, compare: Mapping[str, Any] | None = None) -> list[Outcome]:
    """Read what the cells' folders hold; `compare` as in the recipe: axis -> the baseline's value."""
    found = []
    for cell in cells:
        place = folder.cell(cell.slug)
        content = read_json(place.run.metrics) if place.run.finished else None
        failure = place.failure if content is None else None
        improving = 0
        if content is not None:
            improving = sum(still_improving(read_history(place.run.seed(seed))) for seed in cell.config.seeds)
        found.append(
            Outcome(cell, place.run, content, failure["reason"] if failure else None, place.seconds, improving)
        )
    if not compare:
        return found
    labels = {name: label(value) for name, value in compare.items()}
    by_labels = {tuple(one.cell.labels.values()): one for one in found}
    for one in found:
        baseline = by_labels[tuple({**one.cell.labels, **labels}.values())]
        if one is not baseline:
            one.differences.update(paired_differences(one, baseline))
    return found


def still_improving(history: Sequence[Mapping[str, float]]) -> bool:
    """Whether more epochs would have helped: the best one is in the last tenth, or the validation error of the last
    tenth is on average lower by more than 1 % than that of the tenth before."""
    errors = np.array([row["val_mae_ten"] for row in history])
    tenth = max(1, len(errors) // 10)
    if len(errors) < 2 or errors.argmin() >= len(errors) - tenth:
        return True
    return bool(errors[-tenth:].mean() < 0.99 * errors[-2 * tenth : -tenth].mean())


def paired_differences(one: Outcome, baseline: Outcome) -> dict[str, Entry]:
    """Metric -> difference to the baseline over the seeds, each seed with its own: the noise of the splits, most of the
    standard deviation, cancels. Only between cells that were tested on the same crystals, seed by seed."""
    if one.content is None or baseline.content is None or one.content["seeds"] != baseline.content["seeds"]:
        return {}
    for seed in one.content["seeds"]:
        mine, theirs = (read_json(o.folder.seed(seed).split)["test"] for o in (one, baseline))
        if mine != theirs:
            return {}
    rows: list[dict[str, float | None]] = []
    for k in range(len(one.content["seeds"])):
        row: dict[str, float | None] = {}
        for name in one.content["test"]:
            pair = [o.content["test"].get(name, {"each": []})["each"] for o in (one, baseline) if o.content]
            my_value, base = (each[k] if k < len(each) else None for each in pair)
            row[name] = None if my_value is None or base is None else my_value - base
        rows.append(row)
    return metrics.over_seeds(rows)


def rows(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row a cell and crystal system, "all" first: mean and standard deviation of every metric over the seeds."""
    table: list[dict[str, Any]] = []
    for one in found:
        head = {**_head(one), "status": one.status, "reason": one.reason or ""}
        if one.content is None:
            table.append({**head, "crystal_system": "all"})
            continue
        content = one.content
        training = {
            "n_train": _range(content["n_train"]),
            "epochs": _range(content["epochs"]),
            "best_epoch": _range(content["best_epoch"]),
            "still_improving": f"{one.improving} of {len(content['seeds'])}",
            "seconds": f"{one.seconds:.0f}" if one.seconds is not None else "",
            "seeds": len(content["seeds"]),
        }
        val = content["val"][one.metric]
        baseline = content["test_mean_baseline"].get(one.metric, {"mean": None})
        extra = {
            f"val_{one.metric}_mean": val["mean"],
            f"val_{one.metric}_std": val["std"],
            f"mean_baseline_{one.metric}_mean": baseline["mean"],
        }
        differences = _columns(one.differences, "difference_")
        table.append({**head, "crystal_system": "all", **training, **_columns(content["test"]), **extra, **differences})
        for system, entries in content["per_crystal_system"].items():
            table.append({**head, "crystal_system": system, **_columns(entries)})
    return table


def seed_rows(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row a cell, seed and crystal system, of every seed that is done, those of unfinished cells too."""
    table: list[dict[str, Any]] = []
    for one in found:
        for seed in one.cell.config.seeds:
            place = one.folder.seed(seed)
            if not place.result.is_file():
                continue
            result = read_json(place.result)
            head = {**_head(one), "seed": seed, "split_seed": result["split_seed"]}
            training = {key: result[key] for key in ("n_train", "epochs", "best_epoch")}
            training["still_improving"] = still_improving(read_history(place))
            val = {f"val_{name}": value for name, value in result["val"]["all"].items()}
            for system, errors in result["test"].items():
                more = val if system == "all" else {}
                table.append({**head, "crystal_system": system, **training, **errors, **more})
    return table


def write_csv(place: Any, table: Sequence[Mapping[str, Any]]) -> None:
    """Rows with different keys in one CSV, whole or not at all; numbers with six digits."""
    names = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n", restval="")
    writer.writeheader()
    for row in table:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items() if v is not None})
    write_text(place, text.getvalue())


def _head(one: Outcome) -> dict[str, Any]:
    # An axis may be called as a column is.
    own = {"cell", "status", "reason", "seed", "seeds", "epochs", "seconds", "n"}
    return {"cell": one.cell.slug} | {
        f"{name} (axis)" if name in own else name: text for name, text in one.cell.labels.items()
    }


def _columns(entries: Mapping[str, Entry], prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}{name}_{kind}": entry[kind]
        for name, entry in entries.items()
        for kind in ("mean", "std")
        if not (name == "n" and prefix)
    }


def _range(values: int | Sequence[int]) -> str:
    many = [values] if isinstance(values, int) else list(values)
    low, high = min(many), max(many)
    return str(low) if low == high else f"{low}-{high}"


# Columns of the table for people: metric -> title.
_SHOWN = {"mae_mean_diag": "mean diag", "frobenius": "Frobenius", "within_25": "≤ 25 %"}
_TITLES = {"mae_ten": "MAE_ten"}


def markdown(found: Sequence[Outcome], compare: Mapping[str, Any] | None = None) -> str:
    """The table in Markdown, columns aligned, a line on how to read it, and why cells failed."""
    axes = list(found[0].cell.labels) if found else []
    done = [one for one in found if one.content is not None]
    first = done[0].metric if done else "mae_ten"
    shown = {name: title for name, title in _SHOWN.items() if done and name in (done[0].content or {})["test"]}
    other = next((name for name in found[0].cell.labels if compare and name in compare), None) if found else None
    against = ", ".join(label(value) for value in (compare or {}).values())
    header = [*axes, _TITLES.get(first, first)]
    header += [f"difference to {against}"] if other else []
    header += [*shown.values(), "validation", "predicting the mean", "best epoch", "still improving", "min"]
    lines = []
    for one in found:
        cells = list(one.cell.labels.values())
        content = one.content
        if content is None:
            lines.append([*cells, one.status, *[""] * (len(header) - len(cells) - 1)])
            continue
        cells.append(_words(content["test"].get(one.metric), one.metric))
        if other:
            cells.append(_difference(one))
        cells += [_words(content["test"].get(name), name) for name in shown]
        cells.append(_words(content["val"].get(one.metric), one.metric))
        cells.append(_words(content["test_mean_baseline"].get(one.metric), one.metric, spread=False))
        cells.append(f"{_range(content['best_epoch'])} of {_range(content['epochs'])}")
        cells.append(f"{one.improving} of {len(content['seeds'])}")
        cells.append(f"{one.seconds / 60:.1f}" if one.seconds is not None else "")
        lines.append(cells)
    text = pipes(header, lines, len(axes))
    failed = [f"- {one.cell.slug} failed: {one.reason}" for one in found if one.status == "failed"]
    return "\n".join([text, *(["", *failed] if failed else [])]) + "\n"


def by_system(found: Sequence[Outcome]) -> str:
    """The first metric by crystal system, in Markdown."""
    done = [one for one in found if one.content is not None]
    systems = [s for s in CRYSTAL_SYSTEMS if any(s in (one.content or {})["per_crystal_system"] for one in done)]
    lines = []
    for one in done:
        entries = (one.content or {})["per_crystal_system"]
        cells = [_words(entries.get(system, {}).get(one.metric), one.metric) for system in systems]
        lines.append([*one.cell.labels.values(), *cells])
    return pipes([*(found[0].cell.labels if found else []), *systems], lines, len(found[0].cell.labels)) + "\n"


def pipes(header: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table whose columns line up; the first `left` ones to the left, the others to the right."""
    header, lines = [_escaped(c) for c in header], [[_escaped(c) for c in line] for line in lines]
    widths = [max(3, *(len(line[k]) for line in [header, *lines])) for k in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * w if k < left else "-" * (w - 1) + ":") for k, w in enumerate(widths)]
    return "\n".join([row(header), f"| {' | '.join(rule)} |", *(row(line) for line in lines)])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _words(entry: Entry | None, name: str, spread: bool = True) -> str:
    if entry is None or entry["mean"] is None:
        return "–"
    scale, digits, unit = (100, 0, " %") if name.startswith("within") else (1, 3, "")
    more = f" ± {entry['std'] * scale:.{digits}f}" if spread and entry["std"] is not None else ""
    return f"{entry['mean'] * scale:.{digits}f}{more}{unit}"


def _difference(one: Outcome) -> str:
    """`-0.27 ± 0.10 (-14 %)`: the share is of the baseline's mean."""
    entry = one.differences.get(one.metric)
    if entry is None or entry["mean"] is None or one.content is None:
        return ""
    baseline = one.content["test"][one.metric]["mean"] - entry["mean"]
    spread = f" ± {entry['std']:.3f}" if entry["std"] is not None else ""
    return f"{entry['mean']:+.3f}{spread} ({100 * entry['mean'] / baseline:+.0f} %)"
