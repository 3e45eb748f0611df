"""The picture of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

from zoo.report.plots import STYLE
from zoo.sweep.axes import Axis
from zoo.sweep.table import Outcome

# Okabe and Ito, Color Universal Design (2008), less yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
_GREY = "#777777"
_NAMES = {"mae_ten": "MAE$_\\mathrm{ten}$"}


def draw(found: Sequence[Outcome], axes: Sequence[Axis], path: Path, search: bool = False) -> Path:
    """The finished cells of a sweep, one PNG.

    A panel a target. A grid with a numeric axis: lines over it with a band of one standard deviation (logarithmic for
    training sizes). Any other grid: a point with its standard deviation a cell, each seed a dot. A search: the
    objective by trial and over each of the searched keys.
    """
    done = [one for one in found if one.content is not None]
    if search:
        return _search(done, axes, path)
    targets = list(dict.fromkeys(one.cell.made.target for one in done))
    panels = [[one for one in done if one.cell.made.target == target] for target in targets]
    rest = [one for one in axes if one.name != "target"]
    numeric = [one for one in rest if one.numeric and len(one.choices) > 2]
    if numeric:
        return _lines(panels, targets, numeric[0], [one for one in rest if one is not numeric[0]], path)
    return _points(panels, targets, rest, path)


def _lines(panels: list[list[Outcome]], targets: list[str], x_axis: Axis, rest: list[Axis], path: Path) -> Path:
    """Mean over the seeds against a number, a line for each combination of the other axes."""
    logarithmic = x_axis.name == "split.train" or _spans_decades([c.value for c in x_axis.choices])
    with rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 4.0 * len(panels), 4.3), layout="constrained")
        groups = _labels(panels, rest)
        for axes, panel, target in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, targets, strict=True):
            for k, group in enumerate(groups):
                members = [one for one in panel if _group(one, rest) == group]
                members.sort(key=lambda one: one.cell.values[x_axis.name])
                if not members:
                    continue
                x = np.array([one.cell.values[x_axis.name] for one in members], dtype=float)
                mean = np.array([_entry(one)["mean"] for one in members])
                spread = np.array([_entry(one)["std"] or 0.0 for one in members])
                colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
                axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
                axes.plot(x, mean, color=colour, marker=marker, markersize=5, linewidth=1.5, label=group)
                for one, at in zip(members, x, strict=True):
                    each = [value for value in _entry(one)["each"] if value is not None]
                    axes.plot([at] * len(each), each, marker, color=colour, markersize=2.5, alpha=0.45, zorder=1)
            _baseline(axes, panel, horizontal=True)
            axes.set(xlabel=_axis_title(x_axis.name), ylabel=_y_title(panel))
            axes.set_title(target)
            ticks = [float(choice.value) for choice in x_axis.choices]
            if logarithmic:
                axes.set_xscale("log")
                _log_y(axes)
            elif min(ticks) < 0 or max(ticks) > 0:
                axes.set_ylim(bottom=0)
            if len(ticks) <= 10:
                axes.xaxis.set_major_locator(FixedLocator(ticks))
                axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.xaxis.set_minor_locator(NullLocator())
        handles, names = figure.axes[0].get_legend_handles_labels()
        shown = [(h, n) for h, n in zip(handles, names, strict=True) if n]
        if len(shown) > 1 or any(n != "predicting the mean" for _, n in shown):
            figure.legend(
                [h for h, _ in shown], [n for _, n in shown], loc="outside upper center", ncols=min(4, len(shown))
            )
        return _save(figure, path)


def _points(panels: list[list[Outcome]], targets: list[str], rest: list[Axis], path: Path) -> Path:
    """A row for each choice of the first axis, a colour for each combination of the others."""
    rows = [choice.label for choice in rest[0].choices] if rest else [""]
    rows = [row for row in rows if any(_row(one, rest) == row for panel in panels for one in panel)]
    groups = _labels(panels, rest[1:])
    height = 1.6 + len(rows) * (0.28 + 0.3 * len(groups))
    with rc_context(STYLE):
        figure = Figure(figsize=(1.8 + 3.2 * len(panels), max(2.6, height)), layout="constrained")
        all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, panel, target in zip(all_axes, panels, targets, strict=True):
            for one in panel:
                k = groups.index(_group(one, rest[1:]))
                y = rows.index(_row(one, rest)) + 0.7 * ((k + 0.5) / len(groups) - 0.5)
                _point(axes, one, y, k, groups[k])
            _baseline(axes, panel, horizontal=False)
            axes.set(xlabel=_y_title(panel), title=target, ylim=(len(rows) - 0.45, -0.55))
            axes.set_xlim(0, 1.14 * axes.get_xlim()[1])
            axes.grid(visible=False, axis="y")
            axes.set_yticks(range(len(rows)), rows)
            axes.tick_params(axis="y", length=0)
            for border in np.arange(len(rows) - 1) + 0.5:
                axes.axhline(border, color="#e6e6e6", linewidth=0.6, zorder=0)
        if rest and not all(choice.value is None or isinstance(choice.value, str) for choice in rest[0].choices):
            all_axes[0].set_ylabel(_axis_title(rest[0].name))
        handles, names = [], []
        for axes in all_axes:
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                if name and name not in names:
                    handles.append(handle)
                    names.append(name)
        order = sorted(range(len(names)), key=lambda i: [*groups, names[i]].index(names[i]))
        if names:
            figure.legend(
                [handles[i] for i in order],
                [names[i] for i in order],
                loc="outside upper center",
                ncols=min(4, len(names)),
            )
        return _save(figure, path)


def _point(axes: Axes, one: Outcome, y: float, k: int, label: str) -> None:
    entry = _entry(one)
    colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
    each = [value for value in entry["each"] if value is not None]
    axes.plot(each, [y + 0.09] * len(each), "o", color=colour, markersize=3.5, alpha=0.55, markeredgewidth=0)
    axes.errorbar(
        entry["mean"],
        y,
        xerr=entry["std"] or None,
        color=colour,
        marker=marker,
        markersize=6,
        capsize=3,
        linewidth=1.4,
        linestyle="",
        label=label,
    )
    right = max([entry["mean"] + (entry["std"] or 0.0), *each])
    axes.annotate(
        f"{entry['mean']:#.3g}",
        (right, y),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
        color=colour,
    )


def _search(done: list[Outcome], axes: Sequence[Axis], path: Path) -> Path:
    """The objective of each trial and the best so far, then the objective over each searched key."""
    keys = list(axes)[:7]
    columns = min(4, 1 + len(keys))
    lines = -(-(1 + len(keys)) // columns)
    objective = np.array([one.content["val"][one.metric]["mean"] for one in done if one.content])
    number = np.array([int(one.cell.slug.rpartition("-")[2]) for one in done])
    best = int(objective.argmin())
    y_title = f"validation {_NAMES.get(done[0].metric, done[0].metric)}"
    with rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.1 * columns, 0.5 + 2.9 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        order = np.argsort(number)
        panels[0].step(
            number[order],
            np.minimum.accumulate(objective[order]),
            where="post",
            color=_GREY,
            linewidth=1.2,
            label="best so far",
        )
        panels[0].set(xlabel="trial")
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].legend(loc="upper right")
        shades: Any = {"c": number, "cmap": "viridis", "s": 26, "zorder": 3}
        points = panels[0].scatter(number, objective, **shades)
        for panel, key in zip(panels[1:], keys, strict=False):
            if key.numeric:
                x = np.array([one.cell.values[key.name] for one in done], dtype=float)
                panel.scatter(x, objective, **shades)
                if _spans_decades(list(x)):
                    panel.set_xscale("log")
            else:
                names = list(dict.fromkeys(one.cell.labels[key.name] for one in done))
                x = np.array([names.index(one.cell.labels[key.name]) for one in done], dtype=float)
                panel.scatter(x, objective, **shades)
                panel.set_xticks(range(len(names)), names)
                panel.set_xlim(-0.6, len(names) - 0.4)
            panel.plot(x[best], objective[best], "o", markersize=11, markerfacecolor="none", color="#D55E00", zorder=4)
            panel.set(xlabel=key.name)
        panels[0].plot(
            number[best], objective[best], "o", markersize=11, markerfacecolor="none", color="#D55E00", zorder=4
        )
        for k, panel in enumerate(panels):
            panel.set_visible(k <= len(keys))
            if k % columns == 0:
                panel.set_ylabel(y_title)
        figure.colorbar(points, ax=list(panels), label="trial", aspect=40, pad=0.01)
        return _save(figure, path)


def _entry(one: Outcome) -> dict[str, Any]:
    assert one.content is not None
    entry: dict[str, Any] = one.content["test"][one.metric]
    return entry


def _row(one: Outcome, rest: list[Axis]) -> str:
    return one.cell.labels[rest[0].name] if rest else ""


def _group(one: Outcome, axes: Sequence[Axis]) -> str:
    return ", ".join(one.cell.says(axis.name) for axis in axes)


def _labels(panels: list[list[Outcome]], axes: Sequence[Axis]) -> list[str]:
    """All groups that occur, in the order of the grid."""
    return list(dict.fromkeys(_group(one, axes) for panel in panels for one in panel))


def _baseline(axes: Axes, panel: Sequence[Outcome], horizontal: bool) -> None:
    """Predicting the mean, which all cells of a panel share unless their training sets differ much."""
    means = [one.content["test_mean_baseline"].get(one.metric, {"mean": None})["mean"] for one in panel if one.content]
    known = [mean for mean in means if mean is not None]
    if not known:
        return
    line = axes.axhline if horizontal else axes.axvline
    line(float(np.median(known)), color=_GREY, linestyle="--", linewidth=1, zorder=1, label="predicting the mean")


def _y_title(panel: Sequence[Outcome]) -> str:
    return f"test {_NAMES.get(panel[0].metric, panel[0].metric)}"


def _axis_title(name: str) -> str:
    return {"split.train": "crystals in the training part", "encoder.layer": "encoder layer"}.get(name, name)


def _spans_decades(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) >= 20 * min(values)


def _log_y(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="png")
    return path
