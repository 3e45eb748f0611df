"""The periodic table with the error of the crystals that hold each element."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from zoo.contract.target import TensorTarget
from zoo.graphs.elements import symbols
from zoo.report.plots import STYLE, words_of

LAST = 103  # lawrencium: of what comes after it there are no crystals
FEW = 5  # test crystals; the mean of fewer says little
_RED = "#D55E00"
_NOBLE = (2, 10, 18, 36, 54, 86)


def place(number: int) -> tuple[int, int]:
    """Row and column of an element, both from 0; lanthanides and actinides in rows 7 and 8, below the others."""
    row = sum(number > noble for noble in _NOBLE)
    if row < 5:
        since = number - (0, *_NOBLE)[row]  # within its row, from 1
        length = _NOBLE[row] - (0, *_NOBLE)[row]
        first = 1 if row == 0 else 2 if row < 3 else 18
        return row, since - 1 if since <= first else since - 1 + 18 - length
    since = number - (0, *_NOBLE)[row]
    if since <= 2:
        return row, since - 1
    if since <= 17:
        return row + 2, since - 1
    return row, since - 15


def errors_by_element(
    errors: Mapping[str, Mapping[str, float]], trained: Collection[int], target: TensorTarget, path: Path
) -> Path:
    """A periodic table, coloured by error.

    Args:
        errors: symbol -> `n`, the number of test crystals that hold the element, and `mae_ten`, their mean error.
        trained: atomic numbers that occur in the training part.
        target: gives name and unit.
        path: of the PNG file.
    """
    known = [found["mae_ten"] for found in errors.values() if found["mae_ten"] > 0]
    low, high = (min(known), max(known)) if known else (1.0, 1.0)
    norm = LogNorm(low / 1.05, high * 1.05)
    colours = colormaps["YlGnBu"]
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.2))
        # Where things lie is known: laying them out would measure each of some hundred words, twice.
        axes = figure.add_axes((0.008, 0.03, 0.912, 0.9))
        boxes: list[Rectangle] = []
        strangers = False
        for number, symbol in enumerate(symbols(np.arange(1, LAST + 1)), 1):
            row, column = place(number)
            y = row + (0.4 if row > 6 else 0)
            found = errors.get(symbol)
            face: Any = "white"
            ink = "#767676"
            if found is not None:
                face = colours(norm(max(found["mae_ten"], low)))
                ink = "black" if np.dot(face[:3], (0.299, 0.587, 0.114)) > 0.45 else "white"
            elif number in trained:
                face, ink = "#e2e2e2", "#404040"
            edge, width = ("#909090" if number in trained else "#d8d8d8"), 0.6
            if found is not None and number not in trained:
                edge, width, strangers = _RED, 1.6, True
            boxes.append(Rectangle((column, y), 0.94, 0.94, facecolor=face, edgecolor=edge, linewidth=width))
            bold = "bold" if found is not None else "normal"
            axes.text(column + 0.47, y + 0.3, symbol, ha="center", va="center", fontsize=9, color=ink, weight=bold)
            if found is not None:
                text = f"{found['mae_ten']:.3g}\n({found['n']:.0f})"
                few = "italic" if found["n"] < FEW else "normal"
                axes.text(
                    column + 0.47, y + 0.68, text, ha="center", va="center", fontsize=5.8, color=ink, style=few,
                    linespacing=1.1,
                )  # fmt: skip
        axes.add_collection(PatchCollection(boxes, match_original=True), autolim=False)
        axes.set(xlim=(-0.1, 18.1), ylim=(9.5, -0.1), aspect="equal")
        axes.axis("off")
        what = "atoms" if target.per_atom else "crystals"
        axes.set_title(f"{target.name}: MAE of the components of test {what} with the element (number of {what})")
        handles = [
            Patch(facecolor="#e2e2e2", edgecolor="#909090", label="trained on, not tested"),
            Patch(facecolor="white", edgecolor="#d8d8d8", label="never seen"),
        ]
        if strangers:
            handles.append(Patch(facecolor="white", edgecolor=_RED, linewidth=1.6, label="tested, not trained on"))
        axes.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.36, 0.98), fontsize=8, ncols=1, handlelength=1.2,
            title=f"italic: fewer than {FEW} {what}", title_fontsize=8, alignment="left",
        )  # fmt: skip
        if known:
            bar = figure.colorbar(ScalarMappable(norm, colours), cax=figure.add_axes((0.926, 0.14, 0.0135, 0.68)))
            bar.set_label(f"MAE ({words_of(target.unit)})")
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            bar.ax.yaxis.set_minor_formatter(NullFormatter())
            bar.ax.grid(visible=False)
        figure.savefig(path, format="png")
    return path
