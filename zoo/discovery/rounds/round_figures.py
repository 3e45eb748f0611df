"""Figures of a discovery: the results of each round, and the figures of the modules beside this one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.contract.target import TensorTarget
from zoo.discovery.filters import number
from zoo.discovery.rounds.curves import best_so_far, borders_of, found, progress, some_of
from zoo.discovery.rounds.evaluated_candidates import EvaluatedCandidate
from zoo.discovery.rounds.structure_figures import crystals
from zoo.discovery.screen_figures import GREY, equal_products, log_where_wide, pareto, save
from zoo.evaluation.derived import anisotropy as ratios_of
from zoo.evaluation.derived import is_symmetric_matrix, least, polycrystalline
from zoo.report.plots import STYLE, words_of

__all__ = ["anisotropy", "best_so_far", "borders_of", "crystals", "found", "merit", "parity", "progress"]

_BINS = 24
_POINTS: dict[str, Any] = {"s": 26, "linewidths": 0.5, "edgecolors": "white"}


def anisotropy(
    asked: Sequence[EvaluatedCandidate], target: TensorTarget, known: np.ndarray | None, path: Path
) -> Path | None:
    """λ_max/λ_min of the tensors that the oracle told, round by round, beside that of the crystals known before.

    Args:
        asked: all so far.
        target: what the oracle tells.
        known: (n,) ratios of what was known at the start; NaN where one is not defined.
        path: of the PNG file.

    Returns:
        The path; None where the tensors have no eigenvalues, or no ratio is defined.
    """
    if not is_symmetric_matrix(target):
        return None
    tensors = {r: [one.tensor for one in asked if one.round == r and one.tensor is not None] for r in _rounds(asked)}
    told = {r: ratios_of(np.stack(some), least(target)) if some else np.empty(0) for r, some in tensors.items()}
    groups = {r: ratios[np.isfinite(ratios)] for r, ratios in told.items()}
    before = np.empty(0) if known is None else known[np.isfinite(known)]
    if not any(map(len, groups.values())):
        return None
    every = np.concatenate([before, *groups.values()])
    with rc_context(STYLE):
        figure = Figure(figsize=(float(np.clip(2.4 + 0.8 * len(groups), 4.8, 12)), 4.2), layout="constrained")
        axes = figure.subplots()
        log_where_wide(axes, "y", every.min(), every.max())
        names, places = [], []
        if len(before):
            _sideways(axes, before, axes.get_yscale() == "log")
            names, places = [f"known at\nthe start\n({len(before):,})"], [0.0]
        for (r, ratios), colour in zip(groups.items(), _colours(groups).values(), strict=True):
            _box(axes, ratios, r, colour)
            aside = r + np.random.default_rng(r).uniform(-0.22, 0.22, len(ratios))
            axes.scatter(aside, ratios, color=colour, alpha=0.85, zorder=3, **_POINTS)
            names.append(f"{r}\n({len(ratios)})")
            places.append(r)
        axes.set_xticks(places, names)
        axes.set_xlim(-0.7 if len(before) else min(groups) - 0.7, max(groups) + 0.7)
        if axes.get_yscale() == "log":
            axes.set_ylim(0.93, 1.2 * every.max())  # there is no ratio below 1
        axes.set_xlabel("round (number of crystals)")
        axes.set_ylabel(rf"$\lambda_{{\max}}/\lambda_{{\min}}$ of the {target.name} tensor")
        missing = sum(map(len, told.values())) - sum(map(len, groups.values()))
        without = rf"; not shown: {missing} with $\lambda_{{\min}} \leq {least(target):g}$" if missing else ""
        axes.set_title(f"boxes: median and quartiles{without}", fontsize=8, color=GREY)
        axes.grid(visible=False, axis="x")
        return save(figure, path)


def _sideways(axes: Axes, values: np.ndarray, logarithmic: bool) -> None:
    """A histogram on both sides of x = 0: a density would reach below the ratio 1 that so many crystals have."""
    spaced = np.geomspace if logarithmic else np.linspace
    counts, edges = np.histogram(values, spaced(values.min(), max(values.max(), values.min() + 1e-3), _BINS + 1))
    width = np.where(counts, np.maximum(0.42 * counts / counts.max(), 0.02), 0)  # a single one shows
    for side in (1, -1):
        axes.stairs(side * width, edges, orientation="horizontal", fill=True, color="#cfcfcf", zorder=1.5)
    _box(axes, values, 0, "#555555", width=0.16)


def _box(axes: Axes, values: np.ndarray, place: float, colour: Any, width: float = 0.6) -> None:
    line = {"color": colour, "linewidth": 1.1}
    axes.boxplot(
        values, positions=[place], widths=width, showfliers=False, manage_ticks=False, zorder=2,
        boxprops=line, whiskerprops=line, capprops=line, medianprops=line | {"linewidth": 2.2},
    )  # fmt: skip


def parity(asked: Sequence[EvaluatedCandidate], path: Path, words: str) -> Path | None:
    """The objective as it was predicted, when a crystal was chosen, against that of the oracle's tensor.

    Args:
        asked: all so far; an error bar is the standard deviation over the members.
        path: of the PNG file.
        words: the objective in words, with its unit.

    Returns:
        The path; None where the oracle told nothing of which the objective is defined.
    """
    ended = [one for one in asked if np.isfinite(one.value)]
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
        lost = sum(one.status != "waiting" for one in asked) - len(ended)
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


def merit(
    asked: Sequence[EvaluatedCandidate], known: np.ndarray | None, path: Path, target: TensorTarget
) -> Path | None:
    """Polycrystalline constant against band gap of what the oracle told: Pareto front, lines of equal product.

    Args:
        asked: all so far.
        known: (n, 2) band gap (eV) and constant of what was known at the start; NaN where one is not known.
        path: of the PNG file.
        target: what the oracle tells.

    Returns:
        The path; None where no gap is known, or the tensor has no trace.
    """
    if not is_symmetric_matrix(target):
        return None
    of_round, points = [], []
    for one in asked:
        gap = number(one.properties, "band_gap")
        if one.tensor is not None and gap is not None:
            of_round.append(one.round)
            points.append((gap, float(polycrystalline(one.tensor[None])[0])))
    if not points:
        return None
    new = np.array(points)
    before = np.empty((0, 2)) if known is None else known[np.isfinite(known).all(axis=1)]
    front = pareto(np.concatenate([before, new]))
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        if len(before):
            words = f"known at the start ({len(before):,})"
            axes.scatter(before[:, 0], before[:, 1], s=9, color="#bbbbbb", linewidths=0, label=words)
            axes.step(
                *pareto(before).T, where="pre", color=GREY, linewidth=1, linestyle="--", label="front at the start"
            )
        axes.step(*front.T, where="pre", color="black", linewidth=1, label="Pareto front")
        colours = _colours(set(of_round))
        named = some_of(colours, 8)
        for r, colour in colours.items():
            here = new[np.array(of_round) == r]
            label = f"round {r} ({len(here)})" if r in named else None
            axes.scatter(here[:, 0], here[:, 1], color=colour, zorder=3, label=label, **_POINTS)
        lowest = min(new[:, 1].min(), before[:, 1].min(initial=np.inf))
        log_where_wide(axes, "y", lowest, front[:, 1].max())
        equal_products(axes, front)
        axes.set_xlabel("band gap (eV)")
        axes.set_ylabel(f"polycrystalline constant, {target.name} ({words_of(target.unit)})")
        figure.legend(loc="outside upper center", ncols=3)
        return save(figure, path)


def _rounds(asked: Sequence[EvaluatedCandidate]) -> list[int]:
    return sorted({one.round for one in asked})


def _colours(rounds: Collection[int]) -> dict[int, Any]:
    """From dark, the first, to light."""
    ordered = sorted(rounds)
    return dict(zip(ordered, colormaps["viridis"](np.linspace(0.05, 0.85, len(ordered))), strict=True))
