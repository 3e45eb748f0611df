"""Figures of a run, one PNG each. No pyplot: nothing global is kept, threads and servers may draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import moduli
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.evaluation.derived import is_stiffness, is_symmetric_matrix

Plot = Callable[[np.ndarray, np.ndarray, Sequence[str], TensorTarget, Path], Path]

# Okabe and Ito, Color Universal Design (2008), less the pale yellow; every system also has a marker of its own.
COLOURS = dict(
    zip(CRYSTAL_SYSTEMS, ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9"), strict=True)
)
MARKERS = dict(zip(CRYSTAL_SYSTEMS, "vsD^Pho", strict=True))

_SYMBOLS = {
    "electronic dielectric": r"\varepsilon^{\infty}",
    "ionic dielectric": r"\varepsilon^{0}",
    "total dielectric": r"\varepsilon",
    "elastic": "C",
}
_GREY = "#777777"
FEW = 5
"""Crystals of a system, below which each is a point of its own."""
_SMOOTH = 0.9 / np.log(10)  # matplotlib's linscale for which a symlog axis has no kink
_POINTS: dict[str, Any] = {"s": 16, "alpha": 0.7, "linewidths": 0}

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 200,
    "savefig.dpi": "figure",
    "text.usetex": False,
    "savefig.bbox": None,
}


def parity_components(
    predicted: np.ndarray, true: np.ndarray, systems: Sequence[str], target: TensorTarget, path: Path
) -> Path:
    """Draw predicted against true independent components of (n, *target.shape) tensors.

    Symmetric matrices have a panel for diagonal and one for off-diagonal components. Here and below:
    `systems` are the crystal systems of the n, `target` gives their name, unit and index symmetry.
    """
    if not is_symmetric_matrix(target):
        chosen = list(target.independent)
        index = "ijklmnop"[: target.rank]
        x, y = (tensors.reshape(len(tensors), 3**target.rank)[:, chosen] for tensors in (true, predicted))
        return _parity([_Panel("Independent components", index, x, y)], true, systems, target, path)
    i, j = np.triu_indices(3)
    diagonal, off = i == j, i != j
    x, y = true[:, i, j], predicted[:, i, j]
    panels = [
        _Panel("Diagonal components", "ij", x[:, diagonal], y[:, diagonal]),
        # Most are small, or zero by symmetry, beside the diagonal ones.
        _Panel("Off-diagonal components", "ij", x[:, off], y[:, off], linear=0.1),
    ]
    return _parity(panels, true, systems, target, path)


def parity_polycrystalline(
    predicted: np.ndarray, true: np.ndarray, systems: Sequence[str], target: TensorTarget, path: Path
) -> Path:
    """Draw predicted against true polycrystalline constants tr/3 of (n, 3, 3) tensors."""
    x, y = (np.trace(tensors, axis1=1, axis2=2)[:, None] / 3 for tensors in (true, predicted))
    return _parity([_Panel("Polycrystalline constant", r"\mathrm{poly}", x, y)], true, systems, target, path)


def parity_eigenvalues(
    predicted: np.ndarray, true: np.ndarray, systems: Sequence[str], target: TensorTarget, path: Path
) -> Path:
    """Draw predicted against true eigenvalues of (n, 3, 3) symmetric tensors, sorted, one panel each."""
    x, y = np.linalg.eigvalsh(true), np.linalg.eigvalsh(predicted)
    panels = [
        _Panel(f"{which} eigenvalue", str(k + 1), x[:, [k]], y[:, [k]])
        for k, which in enumerate(("Smallest", "Middle", "Largest"))
    ]
    return _parity(panels, true, systems, target, path)


def error_by_crystal_system(
    predicted: np.ndarray, true: np.ndarray, systems: Sequence[str], target: TensorTarget, path: Path
) -> Path:
    """Draw MAE_ten of (n, *target.shape) tensors by crystal system.

    A whisker is the standard error of the mean over the crystals of a system. A system with fewer than `FEW` crystals
    is drawn as one point a crystal: neither its mean nor an error bar would say anything.
    """
    difference = np.abs(predicted - true).reshape(len(true), 3**target.rank)
    errors = difference[:, list(target.independent)].mean(axis=1)
    of_system = np.array(systems, dtype=str)
    groups = {system: errors[of_system == system] for system in CRYSTAL_SYSTEMS}
    top = 0.0
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4), layout="constrained")
        axes = figure.subplots()
        for k, (system, group) in enumerate(groups.items()):
            if 0 < len(group) < FEW:
                axes.plot([k] * len(group), group, marker=MARKERS[system], color=COLOURS[system], linestyle="")
                top = max(top, group.max())
            elif len(group):
                whisker = group.std(ddof=1) / len(group) ** 0.5
                bar = axes.bar(k, group.mean(), yerr=whisker, width=0.7, color=COLOURS[system], alpha=0.75, capsize=4)
                axes.bar_label(bar, fmt="%.3g", padding=2, bbox={"color": "white", "alpha": 0.8, "pad": 0.5})
                top = max(top, group.mean() + whisker)
        mean = "no crystals"
        if len(errors):
            axes.axhline(errors.mean(), color=_GREY, linestyle="--", linewidth=1, zorder=1)
            mean = f"MAE {errors.mean():.3g} over all {len(errors)} (dashed), whiskers: standard error"
        axes.set_title(f"{target.name}: {mean}")
        axes.set_xticks(range(len(groups)), [f"{system}\n({len(group)})" for system, group in groups.items()])
        axes.set_ylabel(f"MAE of ${_symbol(target)}_{{{'ijklmnop'[: target.rank]}}}$ ({words_of(target.unit)})")
        axes.set(xlim=(-0.6, len(groups) - 0.4), ylim=(0, 1.12 * top or 1.0))
        axes.grid(visible=False, axis="x")
        return _save(figure, path)


def parity_moduli(
    predicted: np.ndarray, true: np.ndarray, systems: Sequence[str], target: TensorTarget, path: Path
) -> Path:
    """Draw predicted against true bulk and shear moduli (Voigt-Reuss-Hill) of stable (n, 3, 3, 3, 3) stiffnesses."""
    x, y = moduli(true), moduli(predicted)
    defined = np.isfinite(np.stack([*x.values(), *y.values()])).all(axis=0)
    panels = [
        _Panel(name.replace("_", " ").capitalize(), "", x[name][defined, None], y[name][defined, None], symbol=symbol)
        for name, symbol in (("bulk_modulus", "K"), ("shear_modulus", "G"))
    ]
    kept = [system for system, has_moduli in zip(systems, defined, strict=True) if has_moduli]
    return _parity(panels, true[defined], kept, target, path)


def plots_of(target: TensorTarget) -> list[Plot]:
    """List the figures that a run draws of the predictions of its test part, for tensors of this kind."""
    plots: list[Plot] = [parity_components, error_by_crystal_system]
    if is_symmetric_matrix(target):
        plots += [parity_polycrystalline, parity_eigenvalues]
    if is_stiffness(target):
        plots.append(parity_moduli)
    return plots


def calibration(coverage: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draw the share of crystals within their intervals against the share promised, from `Calibration.coverage`.

    The grey band is what chance leaves: two standard deviations of a share of so many crystals.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.subplots()
        count = max((found["n"] for found in coverage.values()), default=1)
        promised = np.linspace(0, 1, 101)
        chance = 2 * np.sqrt(promised * (1 - promised) / count)
        axes.fill_between(100 * promised, 100 * (promised - chance), 100 * (promised + chance), color="#eeeeee")
        axes.plot([0, 100], [0, 100], color=_GREY, linewidth=1, linestyle="--")
        for (name, found), colour, marker in zip(coverage.items(), COLOURS.values(), MARKERS.values(), strict=False):
            levels = sorted(found["levels"].items(), key=lambda item: float(item[0]))
            x = [100 * float(level) for level, _ in levels]
            y = [100 * measured["covered"] for _, measured in levels]
            axes.plot(x, y, color=colour, marker=marker, markersize=4.5, linewidth=1, label=name.replace("_", " "))
        axes.set(xlim=(40, 100), ylim=(40, 100), xlabel="promised (%)", ylabel="within the interval (%)")
        axes.set_title(f"Intervals on the test part, {count} crystals")
        axes.legend(loc="lower right")
        return _save(figure, path)


def learning_curve(history: Sequence[Mapping[str, float]], path: Path, unit: str = "1") -> Path:
    """Draw errors against the epoch, from rows of `epoch`, `train_loss`, `val_mae_ten` (both in `unit`) and `lr`."""
    epoch, train, val, rate = (
        np.array([row[column] for row in history]) for column in ("epoch", "train_loss", "val_mae_ten", "lr")
    )
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel="epoch", ylabel=f"MAE of the components ({words_of(unit)})")
        if not history:
            axes.set_title("no epochs")
            return _save(figure, path)
        beside = axes.twinx()
        beside.plot(epoch, rate, color=_GREY, linestyle=":", linewidth=1.2)
        beside.set_ylabel("learning rate (dotted)", color=_GREY)
        beside.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        beside.tick_params(colors=_GREY)
        beside.set_ylim(bottom=0)
        beside.grid(visible=False)
        axes.set_zorder(beside.get_zorder() + 1)  # the errors lie over the rate
        axes.patch.set_visible(False)
        marker = "o" if len(history) == 1 else ""
        axes.plot(epoch, train, marker=marker, color="#0072B2", linewidth=1.2, label="training (loss)")
        axes.plot(epoch, val, marker=marker, color="#D55E00", linewidth=1.2, label="validation")
        best = int(np.argmin(val))
        label = f"best: {val[best]:.3g} in epoch {epoch[best]:.0f}"
        axes.plot(epoch[best], val[best], "*", color="black", markersize=11, label=label)
        axes.set_xlim(0, max(2.0, 1.02 * epoch.max()))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        low, high = np.min([train, val]), np.max([train, val])
        if low > 0 and high > 8 * low:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return _save(figure, path)


@dataclass(frozen=True)
class _Panel:
    """One panel of a parity plot.

    Attributes:
        title: first line of the title.
        index: subscript of the symbol on the axes.
        x: true numbers of n crystals, (n, k).
        y: predicted ones, (n, k).
        linear: half-width of the linear part of the axes (see `_symlog`), in units of the typical size.
        symbol: symbol on the axes; the target's where it is empty.
    """

    title: str
    index: str
    x: np.ndarray
    y: np.ndarray
    linear: float = 1.0
    symbol: str = ""


def _parity(
    panels: Sequence[_Panel], true: np.ndarray, systems: Sequence[str], target: TensorTarget, path: Path
) -> Path:
    of_system, count = np.array(systems, dtype=str), Counter(systems)
    # ‖ε‖_F/√3 is ε where the tensor is isotropic.
    norms = np.linalg.norm(true.reshape(len(true), 3**target.rank), axis=1)
    typical = _power_of_ten(norms / 3 ** (target.rank / 4))
    with rc_context(STYLE):
        figure = Figure(figsize=(1.9 + 4.3 * len(panels), 4.6), layout="compressed")
        for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
            axes.axline((0, 0), (1, 1), color=_GREY, linewidth=0.8, zorder=1)
            for order, (system, _) in enumerate(count.most_common()):  # the rare ones on top
                x, y = panel.x[of_system == system].ravel(), panel.y[of_system == system].ravel()
                axes.scatter(x, y, marker=MARKERS[system], color=COLOURS[system], zorder=2 + order, **_POINTS)
            alike = [values.ravel() for p in panels if p.linear == panel.linear for values in (p.x, p.y)]
            _symlog(axes, np.concatenate(alike), panel.linear * typical)
            mae = f"MAE {np.abs(panel.x - panel.y).mean():.3g}, n = {panel.x.size}" if panel.x.size else "no crystals"
            axes.set_title(f"{panel.title}\n{mae}")
            index = f"_{{{panel.index}}}" if panel.index else ""
            symbol = f"${panel.symbol or _symbol(target)}{index}$ ({words_of(target.unit)})"
            source = "DFPT" if "dielectric" in target.quantity else "true"
            axes.set(xlabel=f"{source} {symbol}", ylabel=f"predicted {symbol}")
        style: dict[str, Any] = {"linestyle": "", "markeredgewidth": 0}
        handles = [
            Line2D([], [], marker=MARKERS[s], color=COLOURS[s], label=f"{s} ({count[s]})", **style)
            for s in CRYSTAL_SYSTEMS
            if s in count
        ]
        figure.legend(handles=handles, loc="outside right upper", title=f"{target.name} ({len(systems)})")
        return _save(figure, path)


def _symlog(axes: Axes, values: np.ndarray, linear: float) -> None:
    """Scale both axes alike: linear from -linear to linear, logarithmic beyond, with no kink between.

    Dielectric constants reach 100 while half of them are below 10; predictions may be negative, ionic ones zero.
    """
    axes.set_xscale("symlog", linthresh=linear, linscale=_SMOOTH)
    axes.set_yscale("symlog", linthresh=linear, linscale=_SMOOTH)
    axes.set_box_aspect(1)
    transform = axes.xaxis.get_transform()
    ends = transform.transform(np.array([values.min(), values.max()]) if values.size else np.array([-linear, linear]))
    pad = max(0.05 * (ends[1] - ends[0]), 0.1 * linear)
    low, high = ends[0] - pad, ends[1] + pad
    limits = transform.inverted().transform(np.array([low, high]))
    decades = linear * 10.0 ** np.arange(12)
    positive = np.concatenate([decades, 5 * decades, 2 * decades, linear * np.array([0.5, 0.2])])
    ticks: list[float] = []
    # Most important first; between fewer than three of them, evenly spaced ones.
    for group in ([0.0], np.stack([positive, -positive], axis=1).ravel(), MaxNLocator(4).tick_values(*limits)):
        if len(ticks) > 2:
            break
        for tick in group:
            at = transform.transform(np.array([*ticks, tick]))
            if low <= at[-1] <= high and (np.abs(at[:-1] - at[-1]) > 0.1 * (high - low)).all():
                ticks.append(float(tick))
    minor = np.outer([*decades, *-decades], np.arange(1, 10)).ravel()
    minor = minor[(limits[0] < minor) & (minor < limits[1])]
    axes.set(xlim=limits, ylim=limits)
    for one in (axes.xaxis, axes.yaxis):
        one.set_major_locator(FixedLocator(ticks))
        one.set_minor_locator(NullLocator())
        one.set_major_formatter(StrMethodFormatter("{x:g}"))
    # One line of markers an axis: some dozens of minor ticks, each with words of its own, take as long as all the rest.
    marks: dict[str, Any] = {"linestyle": "", "color": "black", "markersize": 2, "markeredgewidth": 0.6}
    marks |= {"clip_on": False, "scalex": False, "scaley": False}
    axes.plot(minor, np.zeros_like(minor), marker=TICKDOWN, transform=axes.get_xaxis_transform(), **marks)
    axes.plot(np.zeros_like(minor), minor, marker=TICKLEFT, transform=axes.get_yaxis_transform(), **marks)


def _power_of_ten(sizes: np.ndarray) -> float:
    """Return the largest power of ten that nine tenths of the positive numbers exceed; 1 if there are none."""
    positive = sizes[sizes > 0]
    return float(10 ** np.floor(np.log10(np.percentile(positive, 10)))) if positive.size else 1.0


def _symbol(target: TensorTarget) -> str:
    return _SYMBOLS.get(target.quantity, "T")


def words_of(unit: str) -> str:
    """Write a unit in words: `1` is "dimensionless"."""
    return "dimensionless" if unit == "1" else unit


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="png")
    return path
