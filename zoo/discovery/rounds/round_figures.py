"""Figures of a discovery: its progress, predicted against calculated values, and the best crystals."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.visualize.plot import plot_atoms
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError
from pymatgen.util.string import unicodeify

from zoo.discovery.rounds.evaluated_candidates import EvaluatedCandidate
from zoo.discovery.screen_figures import GREY, log_where_wide, save
from zoo.report.plots import STYLE

MOST = 9
"""Crystals that are drawn."""
_POINTS: dict[str, Any] = {"s": 26, "linewidths": 0.5, "edgecolors": "white"}
# Okabe and Ito, Color Universal Design (2008): an acquisition has the same colour in all pictures.
COLOURS = {"ucb": "#0072B2", "greedy": "#D55E00", "expected-improvement": "#009E73", "random": GREY}
_OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STEPS = [1, 2, 5, 10]


def best_so_far(evaluated: Sequence[EvaluatedCandidate], start: float | None) -> np.ndarray:
    """(calls + 1,) the highest value after 0, 1, 2, ... calls of the oracle; NaN as long as there is none.

    A failed call is a call; one whose result somebody is still to bring is none.
    """
    values = np.array([np.nan if start is None else start, *(one.value for one in _called(evaluated))])
    return np.fmax.accumulate(values)


def borders_of(evaluated: Sequence[EvaluatedCandidate]) -> list[int]:
    """After how many calls a round ended and another one began."""
    rounds = np.array([one.round for one in _called(evaluated)])
    return [int(place) + 1 for place in np.flatnonzero(np.diff(rounds))]


def _called(evaluated: Sequence[EvaluatedCandidate]) -> list[EvaluatedCandidate]:
    return sorted((one for one in evaluated if one.status != "waiting"), key=lambda one: (one.round, one.rank))


def progress(
    curves: Mapping[str, Sequence[np.ndarray]],
    path: Path,
    ylabel: str,
    start: float | None = None,
    evaluated: Sequence[EvaluatedCandidate] = (),
    borders: Sequence[int] = (),
) -> Path | None:
    """Highest value so far against calls of the oracle.

    Args:
        curves: acquisition -> of each of its runs (calls + 1,) as `best_so_far` makes it. Of several runs mean and
            standard deviation, as far as all of them have come.
        path: of the PNG file.
        ylabel: the objective in words, with its unit.
        start: the highest value that was known before the first call.
        evaluated: of a single run, to draw each result as a point.
        borders: calls after which a round ended.

    Returns:
        The path; None where no run has a value.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        if not _curves(axes, curves):
            return None
        _calls(axes, ylabel, borders)
        values = np.array([one.value for one in _called(evaluated)])
        if len(values):
            calls = np.arange(1, len(values) + 1)
            axes.scatter(calls, values, s=12, color="#999999", linewidths=0, zorder=1.8, label="result of a call")
            lost = calls[np.isnan(values)]
            if len(lost):
                foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 3}
                axes.plot(lost, np.zeros(len(lost)), "x", color="black", markersize=4, label="no result", **foot)
        if start is not None:
            axes.axhline(start, color="black", linewidth=0.9, linestyle=":", zorder=1.9, label="best at the start")
        _legend(figure, curves)
        return save(figure, path)


def found(curves: Mapping[str, Sequence[np.ndarray]], path: Path, k: int, borders: Sequence[int] = ()) -> Path | None:
    """Draw how many of the k best crystals were evaluated, by oracle calls; arguments as `progress`."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        if not _curves(axes, curves):
            return None
        _calls(axes, f"found of the {k} best crystals", borders)
        axes.axhline(k, color="black", linewidth=0.9, linestyle=":", zorder=1.9, label=f"all {k}")
        axes.set_ylim(0, 1.04 * k)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=_STEPS))
        _legend(figure, curves)
        return save(figure, path)


def _curves(axes: Axes, curves: Mapping[str, Sequence[np.ndarray]]) -> bool:
    """A step at every call that found something; whether there is anything to see."""
    others = itertools.cycle(_OTHERS)
    shown = False
    for order, (name, runs) in enumerate(curves.items()):
        colour = COLOURS.get(name) or next(others)
        if not runs:
            continue
        together = np.stack([run[: min(map(len, runs))] for run in runs]).astype(np.float64)
        mean, calls = together.mean(axis=0), np.arange(together.shape[1])
        shown |= len(calls) > 1 and bool(np.isfinite(mean).any())
        width = max(2.1 - 0.25 * order, 1.2)  # of those that coincide the lower one still shows
        line: dict[str, Any] = {"drawstyle": "steps-post", "color": colour}
        axes.plot(
            calls, mean, **line, linewidth=width, marker="o", markersize=4, markevery=[-1], zorder=2.5, label=name
        )
        if len(runs) > 1:
            off = together.std(axis=0, ddof=1)
            axes.fill_between(calls, mean - off, mean + off, step="post", color=colour, alpha=0.13, linewidth=0)
            for edge in (mean - off, mean + off):
                axes.plot(calls, edge, **line, linewidth=0.5, alpha=0.6)
    return shown


def _calls(axes: Axes, ylabel: str, borders: Sequence[int]) -> None:
    """The axes of curves; rounds have their numbers above."""
    longest = max(np.size(line.get_xdata()) for line in axes.lines) - 1
    axes.set(xlim=(0, max(1.0, 1.02 * longest)), xlabel="calls of the oracle", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=_STEPS))
    axes.grid(visible=False, axis="x")
    ends = [0, *(border for border in borders if border < longest), longest]
    above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "fontsize": 7, "color": GREY, "va": "bottom"}
    rounds = range(1, len(ends)) if borders else range(0)
    for r in rounds:
        if r > 1:
            axes.axvline(ends[r - 1], color="#bbbbbb", linewidth=0.8, zorder=1)
        else:
            axes.annotate("round  ", (0, 1.01), **above, ha="right")
        if r in some_of(rounds, 12):
            axes.annotate(str(r), ((ends[r - 1] + ends[r]) / 2, 1.01), **above, ha="center")


def _legend(figure: Figure, curves: Mapping[str, Sequence[np.ndarray]]) -> None:
    counts = sorted({len(runs) for runs in curves.values() if runs})
    several = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    title = f"mean and standard deviation of {several} runs" if counts[-1] > 1 else None
    entries = len(figure.axes[0].get_legend_handles_labels()[0])
    figure.legend(loc="outside upper center", ncols=entries if entries <= 4 else 3, title=title)


def some_of(rounds: Collection[int], most: int) -> set[int]:
    """Select at most so many rounds to be labelled one by one, the first and the last among them."""
    ordered = sorted(rounds)
    return {ordered[i] for i in np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int)}


def parity(evaluated: Sequence[EvaluatedCandidate], path: Path, words: str) -> Path | None:
    """The objective as it was predicted, when a crystal was chosen, against that of the oracle's tensor.

    Args:
        evaluated: all so far; an error bar is the standard deviation over the members.
        path: of the PNG file.
        words: the objective in words, with its unit.

    Returns:
        The path; None where the oracle told nothing of which the objective is defined.
    """
    ended = [one for one in evaluated if np.isfinite(one.value)]
    if not ended:
        return None
    x, y, off = np.array([(one.value, one.mean, one.std) for one in ended]).T
    of_round = np.array([one.round for one in ended])
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    with rc_context(STYLE):
        figure = Figure(figsize=(6.9, 4.6), layout="compressed")
        axes = figure.subplots()
        for which in ("x", "y"):
            log_where_wide(axes, which, low, high)
        colours = _colours(set(of_round.tolist()))
        named = some_of(colours, 16)
        for r, colour in colours.items():
            here = of_round == r
            bars: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.8, "alpha": 0.6, "zorder": 2}
            axes.errorbar(x[here], y[here], np.nan_to_num(off[here]), **bars)
            label = f"{r}: {_error(x[here], y[here])}" if r in named else None
            axes.scatter(x[here], y[here], color=colour, zorder=3, label=label, **_POINTS)
        lost = sum(one.status != "waiting" for one in evaluated) - len(ended)
        if len(colours) > 1:
            axes.scatter([], [], s=0, label=f"all: {_error(x, y)}")
        if lost:
            axes.scatter([], [], s=0, label=f"no result: {lost}")
        if axes.get_xscale() == "log":
            limits = (low / 1.15, high * 1.15)
        else:
            pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
            limits = (low - pad, high + pad)
        axes.axline((limits[0], limits[0]), (limits[1], limits[1]), color=GREY, linewidth=0.8, zorder=1)
        axes.set(xlim=limits, ylim=limits, box_aspect=1, xlabel=f"calculated {words}", ylabel=f"predicted {words}")
        figure.legend(loc="outside right upper", title="round")
        return save(figure, path)


def _error(x: np.ndarray, y: np.ndarray) -> str:
    return f"MAE {np.abs(x - y).mean():.3g}, n = {len(x)}"


def _colours(rounds: Collection[int]) -> dict[int, Any]:
    """From dark, the first, to light."""
    ordered = sorted(rounds)
    return dict(zip(ordered, colormaps["viridis"](np.linspace(0.05, 0.85, len(ordered))), strict=True))


def crystals(best: Sequence[tuple[str, Structure]], path: Path) -> Path | None:
    """Draw the conventional cells of the best crystals, up to nine, by ASE.

    Args:
        best: titles and ordered structures; a reduced formula in the title gets its subscripts.
        path: of the PNG file.

    Returns:
        The path; None where there are none.
    """
    shown = best[:MOST]
    if not shown:
        return None
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns, 2.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.axis("off")
        for axes, (title, structure) in zip(panels, shown, strict=False):
            atoms = AseAtomsAdaptor.get_atoms(_conventional(structure), msonable=False)
            plot_atoms(atoms, axes, rotation="-80x,-20y,0z", radii=0.4, show_unit_cell=2)
            formula = structure.composition.reduced_formula
            axes.set_title(title.replace(formula, unicodeify(formula), 1), fontsize=9, parse_math=False)
        return save(figure, path)


def _conventional(structure: Structure) -> Structure:
    """Return the conventional standard cell; the cell as it is where no symmetry is found."""
    try:
        return SpacegroupAnalyzer(structure).get_conventional_standard_structure()
    except SymmetryUndeterminedError:
        return structure
