"""The figure of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from zoo.report.plots import STYLE
from zoo.sweep.axes import Axis
from zoo.sweep.table import TITLES, Outcome

# Okabe and Ito, Color Universal Design (2008), without yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"


def draw_grid(results: Sequence[Outcome], axes: Sequence[Axis], path: Path) -> None:
    """Draw the test errors of the finished cells of a grid as PNG: a panel for each target.

    The abscissa is the first numeric axis with more than two values, else the first axis. Each combination of the other
    axes has a colour: mean over the seeds, with the standard deviation as error bar and each seed as a dot.
    """
    done = [result for result in results if result.content is not None]
    targets = list(dict.fromkeys(result.cell.recipe.target for result in done))
    others = [axis for axis in axes if axis.name != "target"] or list(axes)
    x_axis = next((axis for axis in others if axis.numeric and len(axis.choices) > 2), others[0])
    labels = [choice.label for choice in x_axis.choices]
    numeric = x_axis.numeric and len(labels) > 2
    values = [float(choice.value) for choice in x_axis.choices] if numeric else list(range(len(labels)))
    groups: dict[str, list[Outcome]] = {}
    for result in done:
        names = [axis.name for axis in others if axis is not x_axis]
        groups.setdefault(", ".join(map(result.cell.describe, names)), []).append(result)
    with rc_context(STYLE):
        width = max(3.6, 0.9 + 0.12 * len(labels) * (4 + len(groups)))
        figure = Figure(figsize=(0.6 + width * len(targets), 4.2), layout="constrained")
        for panel, target in zip(figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True):
            for k, (group, members) in enumerate(groups.items()):
                shift = 0.0 if numeric else 0.7 * ((k + 0.5) / len(groups) - 0.5)
                shown = [result for result in members if result.cell.recipe.target == target]
                shown.sort(key=lambda result: values[labels.index(result.cell.labels[x_axis.name])])
                x = [values[labels.index(result.cell.labels[x_axis.name])] + shift for result in shown]
                _points(panel, x, shown, k, group, "-" if numeric else "")
            _baseline(panel, [result for result in done if result.cell.recipe.target == target])
            metric = next(result.metric for result in done if result.cell.recipe.target == target)
            panel.set(title=target, xlabel=x_axis.name, ylabel=f"test {TITLES.get(metric, metric)}")
            crowded = not numeric and max(map(len, labels)) * len(labels) > 9 * width
            if numeric and _spans_decade(values):
                panel.set_xscale("log")
                panel.xaxis.set_minor_formatter(NullFormatter())
            if not numeric or len(labels) <= 10:
                panel.set_xticks(values, labels, rotation=30 if crowded else 0, ha="right" if crowded else "center")
            if not numeric:
                panel.set_xlim(-0.6, len(labels) - 0.4)
            panel.set_ylim(bottom=0)
        handles, names = figure.axes[0].get_legend_handles_labels()
        if names:
            figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)))
        figure.savefig(path, format="png")


def draw_search(results: Sequence[Outcome], axes: Sequence[Axis], path: Path) -> None:
    """Draw the objective of the finished trials as PNG, against the trial's number and against each searched key."""
    done = [result for result in results if result.content is not None]
    errors = np.array([result.content["val"][result.metric]["mean"] for result in done if result.content])
    trials = np.array([int(result.cell.slug.rpartition("-")[2]) for result in done])
    with rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 2.8 * (1 + len(axes)), 3.2), layout="constrained")
        panels = figure.subplots(1, 1 + len(axes), squeeze=False, sharey=True)[0]
        for panel, axis in zip(panels, [None, *axes], strict=True):
            x: list[Any] = list(trials)
            if axis is not None:
                x = [(r.cell.values if axis.numeric else r.cell.labels)[axis.name] for r in done]
            points = panel.scatter(x, errors, c=trials, cmap="viridis", s=26, zorder=3)
            panel.scatter(
                [x[errors.argmin()]], [errors.min()], s=110, facecolors="none", edgecolors=COLOURS[1], zorder=4
            )
            panel.set_xlabel("trial" if axis is None else axis.name)
            if axis is not None and axis.numeric and _spans_decade(x):
                panel.set_xscale("log")
        panels[0].step(trials, np.minimum.accumulate(errors), where="post", color="#777777", label="best so far")
        panels[0].set_ylabel(f"validation {TITLES.get(done[0].metric, done[0].metric)}")
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper left")
        figure.colorbar(points, ax=list(panels), label="trial", aspect=40, pad=0.01)
        figure.savefig(path, format="png")


def _points(panel: Panel, x: Sequence[float], results: Sequence[Outcome], k: int, group: str, line: str) -> None:
    entries = [result.content["test"][result.metric] for result in results if result.content]
    style: Any = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
    spread = [entry["std"] or 0.0 for entry in entries]
    panel.errorbar(
        x, [entry["mean"] for entry in entries], yerr=spread if any(spread) else None, capsize=3, markersize=6,
        linestyle=line, linewidth=1.3, label=group, **style,
    )  # fmt: skip
    for at, entry in zip(x, entries, strict=True):
        each = [value for value in entry["each"] if value is not None]
        panel.plot([at] * len(each), each, linestyle="", markersize=2.5, alpha=0.45, **style)


def _baseline(panel: Panel, results: Sequence[Outcome]) -> None:
    """Draw the error of predicting the mean; cells of one panel share it unless their training sets differ much."""
    means = [r.content["test_mean_baseline"].get(r.metric, {"mean": None})["mean"] for r in results if r.content]
    known = [mean for mean in means if mean is not None]
    if known:
        panel.axhline(
            float(np.median(known)), color="#777777", linestyle="--", linewidth=1, label="predicting the mean"
        )


def _spans_decade(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) >= 10 * min(values)
