"""Figures of phonons at Γ: the modes as sticks, and the infrared spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoo.phonons.infrared import InfraredSpectrum
from zoo.report.plots import STYLE

_COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe and Ito, as in `zoo.report.plots`
_DASHES: tuple[Any, ...] = ("-", "--", ":")
_GREY = "#777777"
_IMAGINARY = "#D55E00"


def mode_sticks(rows: Sequence[Mapping[str, Any]], name: str, path: Path) -> Path:
    """Draw the modes at Γ, rows of `zoo.phonons.mode_table.mode_rows`, against the wavenumber.

    Each irreducible representation has a line on which its modes are marked, imaginary ones in another colour and at
    negative wavenumbers. With charges, sticks above tell the share of each degenerate subspace in ε0.
    """
    charged = bool(rows) and "share" in rows[0]
    at = np.array([row["wavenumber"] for row in rows])
    names = [row["irrep"].split("+") if row["irrep"] else [""] for row in rows]
    lines = sorted({name for several in names for name in several}, reverse=True)
    height = 0.5 + 0.22 * len(lines)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.0 + height + (2.4 if charged else 0)), layout="constrained")
        ratios = [2.4, height] if charged else [height]
        panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        lower = panels[-1]
        count, bad = (sum(row["degeneracy"] for row in rows if row["imaginary"] >= least) for least in (False, True))
        lower.set(xlabel=f"wavenumber (cm⁻¹){', imaginary ones negative' if bad else ''}")
        title = f"{count} optic modes at Γ{f', {bad} imaginary' if bad else ''}"
        panels[0].set_title(f"{name}: {title if rows else 'one atom in the cell, no optic modes'}")
        if not rows:
            lower.set(xticks=[], yticks=[], xlabel="")
            return _save(figure, path)
        colours = np.where(at < 0, _IMAGINARY, _COLOURS[0])
        for several, wavenumber, colour in zip(names, at, colours, strict=True):
            for one in several:
                lower.plot(wavenumber, lines.index(one), "|", color=colour, markersize=11, markeredgewidth=1.6)
        lower.set(ylim=(-0.8, len(lines) - 0.2), ylabel="irrep" if any(lines) else "")
        lower.set_yticks(range(len(lines)), [_mulliken(one) for one in lines])
        if charged:
            shares = np.array([100 * row["share"] for row in rows])
            panels[0].vlines(at, 0, shares, color=colours, linewidth=2)
            panels[0].axhline(0, color="black", linewidth=0.8)
            panels[0].set(ylabel="share of ε0 (%)")
            panels[0].margins(y=0.08)
        left, right = min(0.0, 1.15 * at.min()), max(1.06 * at.max(), 10.0)
        lower.set_xlim(left, right)
        for panel in panels if bad else ():
            panel.axvspan(left, 0, color="#f5e3da", zorder=0)
        return _save(figure, path)


def infrared(spectrum: InfraredSpectrum, name: str, path: Path) -> Path:
    """Draw absorption and reflectivity against the wavenumber for every principal axis that differs from the others.

    Triangles below the curves are the TO modes that are polar along an axis, those above its LO modes.
    """
    numbers = spectrum.distinct_axes()
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        handles = []
        for turn, number in enumerate(numbers):
            axis, colour, dash = spectrum.axes[number], _COLOURS[turn], _DASHES[turn]
            above.plot(spectrum.wavenumbers, spectrum.absorption(axis) / 1e4, dash, color=colour, linewidth=1.3)
            below.plot(spectrum.wavenumbers, 100 * spectrum.reflectivity(axis), dash, color=colour, linewidth=1.3)
            for panel in (above, below):
                # In fractions of the panel's height: one line of marks for each axis.
                marks: dict[str, Any] = {"color": colour, "linestyle": "", "transform": panel.get_xaxis_transform()}
                shift = 0.035 * turn
                to, lo = spectrum.transverse[number], spectrum.longitudinal[number]
                panel.plot(to, np.full(len(to), 0.025 + shift), "^", markersize=4, **marks)
                panel.plot(lo, np.full(len(lo), 0.975 - shift), "v", markersize=4, fillstyle="none", **marks)
            handles.append(Line2D([], [], color=colour, linestyle=dash, label=axis_words(spectrum, number)))
        style: dict[str, Any] = {"color": _GREY, "linestyle": ""}
        handles.append(Line2D([], [], marker="^", label="TO", **style))
        handles.append(Line2D([], [], marker="v", fillstyle="none", label="LO", **style))
        margin = 0.05 + 0.035 * len(numbers)  # of the panel's height, where the marks are
        room = margin / (1 - 2 * margin)
        top = above.get_ylim()[1]
        above.set_yticks([tick for tick in above.get_yticks() if 0 <= tick <= top])
        above.set(ylabel="absorption (10⁴ cm⁻¹)", ylim=(-room * top, (1 + room) * top))
        ends = (-100 * room, 100 * (1 + room))
        below.set(ylabel="reflectivity (%)", xlabel="wavenumber (cm⁻¹)", ylim=ends, yticks=range(0, 101, 25))
        below.set_xlim(spectrum.wavenumbers.min(), spectrum.wavenumbers.max())
        figure.suptitle(f"{name}: infrared spectrum, damping {spectrum.damping:g} cm⁻¹", fontsize=10)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return _save(figure, path)


def _mulliken(label: str) -> str:
    """Write `A2u` with its subscript; nothing is an en dash."""
    return f"${label[0]}_{{\\mathrm{{{label[1:]}}}}}$" if label[1:] else f"${label}$" if label else "–"


def axis_words(spectrum: InfraredSpectrum, number: int) -> str:
    """Name a principal axis: x, y or z where it is one of them, else its components; all that are alike with it."""
    here = spectrum.along(spectrum.axes[number])
    size = 1e-3 * np.abs(here).max()
    alike = [axis for axis in spectrum.axes if np.abs(spectrum.along(axis) - here).max() <= size]
    if len(alike) == 3 == len(spectrum.axes):
        return "any polarisation"
    names = [next(("xyz"[k] for k in range(3) if abs(axis[k]) > 1 - 1e-6), None) for axis in alike]
    if None in names:
        names = [f"({', '.join(f'{round(part, 2) + 0.0:.2f}' for part in axis)})" for axis in alike]
    return f"E ∥ {', '.join(map(str, names))}"


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="png")
    return path
