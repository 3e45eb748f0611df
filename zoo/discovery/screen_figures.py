"""Figures of a screening: the distribution of the objective, and the constant against the band gap."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from zoo.contract.target import TensorTarget
from zoo.discovery.candidate_source import number
from zoo.discovery.screen_config import Screen
from zoo.discovery.screen_folder import ScreenFolder
from zoo.evaluation.derived import is_symmetric_matrix
from zoo.report.plots import STYLE, words_of

BINS = 60
POINTS = 20_000  # drawn at most
GREY = "#777777"
_BLUE, _RED = "#56B4E9", "#D55E00"


def histogram(
    config: Screen, folder: ScreenFolder, part: TensorTarget, predicted: int, chosen: Collection[int]
) -> Path:
    """Draw a histogram of the predicted objective, with the chosen candidates in colour.

    Args:
        config: the recipe.
        folder: of the screening.
        part: the tensor that the objective is of.
        predicted: how many candidates were.
        chosen: their places among all.
    """
    low, high = math.inf, -math.inf
    for means, _ in _means(folder, chosen):
        low, high = min(low, means.min()), max(high, means.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts, of_chosen = np.zeros(BINS), np.zeros(BINS)
    for means, are_chosen in _means(folder, chosen):
        counts += np.histogram(means, edges)[0]
        of_chosen += np.histogram(means[are_chosen], edges)[0]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.stairs(counts, edges, fill=True, color=_BLUE, label=f"{predicted:,} predicted")
        axes.stairs(of_chosen, edges, fill=True, color=_RED, label=f"{len(chosen)} chosen by {config.acquisition.name}")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if counts.max() < 50 else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())  # which labels 2×10⁰, 3×10⁰, ... of few crystals otherwise
        axes.set(ylim=(0.7, 1.6 * counts.max()), ylabel="crystals")
        axes.set_xlabel(f"{config.objective.name.replace('-', ' ')} ({part.name}), mean over the members")
        figure.legend(loc="outside upper center", ncols=2)
        return save(figure, folder.figures / "objective.png")


def _means(folder: ScreenFolder, chosen: Collection[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the means of the objective part by part, and which of them are of chosen candidates."""
    for table in folder.tables(("index", "status", "mean")):
        kept = table.filter(_predicted(table["status"]))
        if kept.num_rows:
            yield kept["mean"].to_numpy(), np.isin(kept["index"].to_numpy(), list(chosen))


def _predicted(status: object) -> object:
    from pyarrow import compute

    return compute.equal(status, "predicted")


def merit(folder: ScreenFolder, target: TensorTarget, predicted: int, chosen: Collection[int]) -> Path | None:
    """Polycrystalline constant against band gap, where gaps are known: Pareto front, lines of equal product.

    Args:
        folder: of the screening.
        target: the tensor that the objective is of.
        predicted: how many candidates were; of many, every so manieth is drawn, of the front and the chosen all.
        chosen: their places among all.

    Returns:
        The path of the picture; None where no gap is known, or the tensor has no trace.
    """
    if not is_symmetric_matrix(target):
        return None
    every = math.ceil(predicted / POINTS)
    front = drawn = marked = np.empty((0, 2))
    seen = 0
    for points, are_chosen in _gaps(folder, target, chosen):
        front = pareto(np.concatenate([front, points]))
        drawn = np.concatenate([drawn, points[-seen % every :: every]])
        marked = np.concatenate([marked, points[are_chosen]])
        seen += len(points)
    if not seen:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        thinned = "" if every == 1 else f", 1 in {every} drawn"
        axes.scatter(
            drawn[:, 0], drawn[:, 1], s=9, alpha=0.5, linewidths=0, color=_BLUE, label=f"{seen:,} candidates{thinned}"
        )
        axes.step(front[:, 0], front[:, 1], where="pre", color="black", linewidth=1, label="Pareto front")
        axes.scatter(
            marked[:, 0],
            marked[:, 1],
            s=26,
            facecolors="none",
            edgecolors=_RED,
            linewidths=1.3,
            label=f"{len(marked)} chosen",
        )
        log_where_wide(axes, "y", drawn[:, 1].min(), front[:, 1].max())
        equal_products(axes, front)
        axes.set_xlabel("band gap (eV)")
        axes.set_ylabel(f"polycrystalline constant, {target.name}, predicted ({words_of(target.unit)})")
        figure.legend(loc="outside upper center", ncols=3)
        return save(figure, folder.figures / "figure_of_merit.png")


def _gaps(
    folder: ScreenFolder, target: TensorTarget, chosen: Collection[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read (n, 2) gaps and constants part by part, and which of them are of chosen candidates."""
    diagonal = [f"{target.name}_{i}{i}" for i in "xyz"]
    for table in folder.tables(("index", "status", "properties", *diagonal)):
        kept = table.filter(_predicted(table["status"]))
        gaps = [number(json.loads(text), "band_gap") for text in kept["properties"].to_pylist()]
        known = np.array([gap is not None for gap in gaps], dtype=bool)
        if known.any():
            constants = sum(kept[name].to_numpy() for name in diagonal) / 3
            points = np.stack([np.array(gaps, dtype=np.float64)[known], constants[known]], axis=1)
            yield points, np.isin(kept["index"].to_numpy()[known], list(chosen))


def pareto(points: np.ndarray) -> np.ndarray:
    """Select the Pareto front of (n, 2) points, by rising first number (and falling second)."""
    ordered = points[np.lexsort((-points[:, 1], -points[:, 0]))]
    highest = np.maximum.accumulate(np.concatenate([[-np.inf], ordered[:-1, 1]]))
    return ordered[ordered[:, 1] > highest][::-1]


def log_where_wide(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis, with plain numbers, where what it shows reaches from `low` to more than 8 times as much."""
    if low > 0 and high > 8 * low:
        axes.set(**{f"{which}scale": "log"})
        axis: Axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def equal_products(axes: Axes, front: np.ndarray) -> None:
    """Lines of equal constant times band gap (eV) behind a Pareto front (n, 2), up to which the axes reach."""
    end, bottom, top = 1.06 * max(front[:, 0].max(), 1e-3), *axes.get_ylim()
    gaps = np.geomspace(end / 1000, end, 400)
    for product in _round_numbers(front.prod(axis=1).max()):
        axes.plot(gaps, product / gaps, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        if bottom < product / end < top:
            words, behind = f"{product:g} eV", {"color": "white", "pad": 0.5}
            place = (0.99 * end, product / (0.96 * end))
            axes.annotate(words, place, color=GREY, fontsize=7, ha="right", va="center", bbox=behind)
    axes.set(xlim=(0, end), ylim=(bottom, top))


def _round_numbers(highest: float) -> list[float]:
    """Three of 1, 2, 5, 10, ... up to it."""
    if not highest > 0:
        return []
    decade = 10.0 ** math.floor(math.log10(highest))
    ticks = [f * d for d in (decade / 10, decade) for f in (1, 2, 5) if f * d <= highest]
    return ticks[-3:]


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    figure.savefig(path, format="png")
    return path
