"""The figure of a comparison on refractive indices: predicted against true, and the error by fold of every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from zoo.evaluation.paired_errors import MEAN, PairedError
from zoo.report.plots import COLOURS, MARKERS, STYLE

_GREY = "#777777"
_OURS, _BEST = "#0072B2", "#D55E00"
_TICKS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def draw_indices(
    true: np.ndarray, predictions: Mapping[str, np.ndarray], errors: Sequence[PairedError], path: Path
) -> Path:
    """Draw the first model and the best of the others as parity, and beside them the MAE by fold of all models.

    Args:
        true: (n,) refractive indices.
        predictions: of each model, (n,); the first is ours.
        errors: of each model, by fold and the mean.
        path: of the PNG.
    """
    ours, *others = predictions
    mean = {error.model: error for error in errors if error.fold == MEAN}
    shown = [ours, min(others, key=lambda model: mean[model].mae)]
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 4.0), layout="constrained")
        *parity, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
        limits = _limits(np.concatenate([true, *(predictions[model] for model in shown)]))
        for axes, model, colour in zip(parity, shown, (_OURS, _BEST), strict=True):
            _draw_parity(axes, true, predictions[model], colour, limits)
            axes.set_title(f"{model}: MAE {mean[model].mae:.3f}, RMSE {mean[model].rmse:.2f}")
        parity[0].set_ylabel("predicted n")
        _draw_folds(right, errors, sorted(mean, key=lambda model: mean[model].mae), ours)
        figure.savefig(path, format="png", dpi=130)
    return path


def _limits(values: np.ndarray) -> tuple[float, float]:
    positive = values[values > 0]  # an index of others may be below 0, and has no place on the axes then
    return 0.95 * float(positive.min()), 1.05 * float(positive.max())


def _draw_parity(axes: Axes, true: np.ndarray, predicted: np.ndarray, colour: str, limits: tuple[float, float]) -> None:
    axes.axline((1, 1), (2, 2), color=_GREY, linewidth=0.8, zorder=1)
    axes.scatter(true, predicted, s=7, alpha=0.4, linewidths=0, color=colour, zorder=2)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, xlabel="true n")
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([tick for tick in _TICKS if limits[0] <= tick <= limits[1]]))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _draw_folds(axes: Axes, errors: Sequence[PairedError], models: Sequence[str], ours: str) -> None:
    """Draw a row a model, the best on top: a marker a fold, a line at the mean of the folds."""
    place = {model: len(models) - 1 - k for k, model in enumerate(models)}
    folds = sorted({error.fold for error in errors} - {MEAN})
    looks = zip(folds, COLOURS.values(), MARKERS.values(), strict=False)
    for fold, colour, marker in looks:
        chosen = [error for error in errors if error.fold == fold]
        x, y = [error.mae for error in chosen], [place[error.model] for error in chosen]
        axes.plot(x, y, linestyle="", marker=marker, color=colour, markersize=4, alpha=0.8, label=f"fold {fold}")
    means = [error for error in errors if error.fold == MEAN]
    x, y = [error.mae for error in means], [place[error.model] for error in means]
    axes.plot(
        x, y, linestyle="", marker="|", color="black", markersize=15, markeredgewidth=2, label="mean of the folds"
    )
    axes.set_yticks(list(place.values()), [f"{model} {mae:.3f}" for model, mae in _by_mae(means, models)])
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().startswith(f"{ours} ") else "normal")
    axes.set(xlabel="MAE of n", ylim=(-0.7, len(models) - 0.3), xlim=(0, None))
    axes.legend(loc="upper right", fontsize=8)


def _by_mae(means: Sequence[PairedError], models: Sequence[str]) -> list[tuple[str, float]]:
    found = {error.model: error.mae for error in means}
    return [(model, found[model]) for model in models]
