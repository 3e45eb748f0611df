"""The figure of a sweep: errors of its cells, or the objective of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoo.report.plots import STYLE
from zoo.sweep.axes import Axis
from zoo.sweep.table import Outcome

# Okabe and Ito, Color Universal Design (2008), less yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREY = "#777777"


def draw(found: Sequence[Outcome], axes: Sequence[Axis], path: Path, search: bool = False) -> Path:
    """Draw the finished cells of a sweep as a PNG.

    A grid has a panel for each target. Over a numeric axis with more than two values the means are lines with their
    standard deviations; otherwise each cell is a point with its standard deviation, and each seed a dot. A search
    shows the objective by trial, and over each of the searched keys.
    """
    done = [one for one in found if one.content is not None]
    with rc_context(STYLE):
        figure = _search(done, axes) if search else _grid(done, axes)
        return _save(figure, path)


def _grid(done: Sequence[Outcome], axes: Sequence[Axis]) -> Figure:
    targets = list(dict.fromkeys(one.cell.config.target for one in done))
    rest = [axis for axis in axes if axis.name != "target"]
    numeric = next((axis for axis in rest if axis.numeric and len(axis.choices) > 2), None)
    others = [axis for axis in rest if axis is not numeric][0 if numeric else 1 :]
    groups = list(dict.fromkeys(_group(one, others) for one in done))
    rows = list(dict.fromkeys(_row(one, rest) for one in done))
    height = 4.3 if numeric else max(2.6, 1.6 + len(rows) * (0.28 + 0.3 * len(groups)))
    figure = Figure(figsize=(1.4 + 3.6 * len(targets), height), layout="constrained")
    panels = figure.subplots(1, len(targets), squeeze=False, sharey=numeric is None)[0]
    for panel, target in zip(panels, targets, strict=True):
        members = [one for one in done if one.cell.config.target == target]
        for k, group in enumerate(groups):
            some = [one for one in members if _group(one, others) == group]
            if numeric is not None:
                x = [float(one.cell.values[numeric.name]) for one in some]
                _points(panel, some, x, COLOURS[k % len(COLOURS)], group, across=True)
            else:
                y = [rows.index(_row(one, rest)) + 0.7 * ((k + 0.5) / len(groups) - 0.5) for one in some]
                _points(panel, some, y, COLOURS[k % len(COLOURS)], group, across=False)
        _finish(panel, members, numeric, rows)
        panel.set_title(target)
    if numeric is None and rest and not all(c.value is None or isinstance(c.value, str) for c in rest[0].choices):
        panels[0].set_ylabel(rest[0].name)
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    handles.pop("", None)
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=min(4, len(handles)))
    return figure


def _points(panel: Axes, some: Sequence[Outcome], at: Sequence[float], colour: str, label: str, across: bool) -> None:
    """Draw means with standard deviations, and the single seeds; `across`: errors upwards, else to the right."""
    order = np.argsort(at)
    place = np.array(at)[order]
    entries = [_entry(some[i]) for i in order]
    mean = np.array([entry["mean"] for entry in entries])
    spread = np.array([entry["std"] or 0.0 for entry in entries])
    style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 6, "capsize": 3, "linewidth": 1.4}
    if across:
        panel.errorbar(place, mean, yerr=spread, label=label, **style)
    else:
        panel.errorbar(mean, place, xerr=spread, label=label, linestyle="", **style)
    for where, entry in zip(place, entries, strict=True):
        each = [value for value in entry["each"] if value is not None]
        line = ([where] * len(each), each) if across else (each, [where + 0.09] * len(each))
        panel.plot(*line, "o", color=colour, markersize=3, alpha=0.5, markeredgewidth=0)


def _finish(panel: Axes, members: Sequence[Outcome], numeric: Axis | None, rows: Sequence[str]) -> None:
    """Label the axes, and draw the error of predicting the mean, which the cells of a panel have in common."""
    title = f"test {members[0].metric}"
    means = [
        one.content["test_mean_baseline"].get(one.metric, {"mean": None})["mean"] for one in members if one.content
    ]
    known = [mean for mean in means if mean is not None]
    style: dict[str, Any] = {"color": _GREY, "linestyle": "--", "linewidth": 1, "label": "predicting the mean"}
    if numeric is not None:
        values = [float(choice.value) for choice in numeric.choices]
        panel.set(xlabel=numeric.name, ylabel=title)
        if known:
            panel.axhline(float(np.median(known)), **style)
        if min(values) > 0 and max(values) >= 20 * min(values):
            panel.set_xscale("log")
            panel.set_yscale("log")
        return
    panel.set(xlabel=title, yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.45, -0.55))
    if known:
        panel.axvline(float(np.median(known)), **style)
    panel.set_xlim(left=0)
    panel.grid(visible=False, axis="y")


def _search(done: Sequence[Outcome], axes: Sequence[Axis]) -> Figure:
    """Draw the objective of each trial with the best so far, then the objective over each searched key."""
    keys = list(axes)[:7]
    columns = min(4, 1 + len(keys))
    lines = -(-(1 + len(keys)) // columns)
    figure = Figure(figsize=(0.6 + 3.1 * columns, 0.5 + 2.9 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    number = np.array([int(one.cell.slug.rpartition("-")[2]) for one in done])
    objective = np.array([one.content["val"][one.metric]["mean"] for one in done if one.content])
    order = np.argsort(number)
    best = np.minimum.accumulate(objective[order])
    panels[0].step(number[order], best, where="post", color=_GREY, linewidth=1.2, label="best so far")
    panels[0].set(xlabel="trial")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].legend(loc="upper right")
    positions = [number.astype(float)]
    for panel, key in zip(panels[1:], keys, strict=False):
        names = list(dict.fromkeys(one.cell.labels[key.name] for one in done))
        if key.numeric:
            positions.append(np.array([one.cell.values[key.name] for one in done], dtype=float))
            if positions[-1].min() > 0 and positions[-1].max() >= 20 * positions[-1].min():
                panel.set_xscale("log")
        else:
            positions.append(np.array([names.index(one.cell.labels[key.name]) for one in done], dtype=float))
            panel.set_xticks(range(len(names)), names)
        panel.set(xlabel=key.name)
    for panel, x in zip(panels, positions, strict=False):
        panel.scatter(x, objective, c=number, cmap="viridis", s=26, zorder=3)
        i = int(objective.argmin())
        panel.plot(x[i], objective[i], "o", markersize=11, markerfacecolor="none", color="#D55E00", zorder=4)
    for k, panel in enumerate(panels):
        panel.set_visible(k <= len(keys))
        if k % columns == 0:
            panel.set_ylabel(f"validation {done[0].metric}")
    return figure


def _entry(one: Outcome) -> dict[str, Any]:
    assert one.content is not None
    entry: dict[str, Any] = one.content["test"][one.metric]
    return entry


def _row(one: Outcome, rest: Sequence[Axis]) -> str:
    return one.cell.labels[rest[0].name] if rest else ""


def _group(one: Outcome, axes: Sequence[Axis]) -> str:
    return ", ".join(one.cell.says(axis.name) for axis in axes)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="png")
    return path
