"""Crystals as a textbook draws them: the conventional cell, with all atoms on its faces, and bonds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.utils import rotate
from ase.visualize.plot import Matplotlib
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from pymatgen.core import Element, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError
from pymatgen.util.string import unicodeify

from zoo.discovery.screen_figures import save
from zoo.report.plots import STYLE

MOST = 9
_VIEW = "-20z,-80x"  # c upwards; the front face, a little of the side and of the top
_RADIUS = 0.45  # Å, of an atom with a covalent radius of 1 Å; as its root, so that large atoms hide less
_BOND = 1.25  # sums of covalent radii
_ON_A_FACE = 0.02  # fractional
_MIST = 0.5  # white in the colour of the atom that is farthest away
_PIECES = 16  # of a line: each is before or behind an atom
_EDGE, _STICK, _OUTLINE = "#8a8a8a", "#b4b4b4", "#333333"


def crystals(best: Sequence[tuple[str, Structure]], path: Path) -> Path | None:
    """The best crystals, up to nine.

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
        figure = Figure(figsize=(2.6 * columns, 3.0 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.axis("off")
        for axes, (title, structure) in zip(panels, shown, strict=False):
            _draw(axes, whole(conventional(structure)))
            formula = structure.composition.reduced_formula
            axes.set_title(title.replace(formula, unicodeify(formula), 1), fontsize=9, parse_math=False)
        return save(figure, path)


def conventional(structure: Structure) -> Structure:
    """The conventional standard cell; the cell as it is where no symmetry is found."""
    try:
        return SpacegroupAnalyzer(structure).get_conventional_standard_structure()
    except SymmetryUndeterminedError:
        return structure


def whole(structure: Structure) -> Atoms:
    """All atoms within a cell and on all its faces, edges and corners."""
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.wrap(eps=_ON_A_FACE)
    cell = atoms.cell.copy()
    more = atoms.repeat(2)
    more.set_cell(cell)
    more.pbc = False
    return more[(cell.scaled_positions(more.positions) < 1 + _ON_A_FACE).all(axis=1)]


def bonds(atoms: Atoms) -> Iterator[tuple[int, int]]:
    """Pairs of near atoms; none of alkali and alkaline earth metals, nor of two metals, unless all are metals."""
    elements = [Element.from_Z(int(z)) for z in atoms.numbers]
    metal = np.array([one.is_metal for one in elements])
    lone = np.array([one.is_alkali or one.is_alkaline for one in elements])
    for i, j in zip(*neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=_BOND)), strict=True):
        if i < j and (metal.all() or not ((metal[i] and metal[j]) or lone[i] or lone[j])):
            yield int(i), int(j)


def _draw(axes: Axes, atoms: Atoms) -> None:
    depth = (atoms.positions @ rotate(_VIEW))[:, 2]
    far = (depth.max() - depth) / max(np.ptp(depth), 1e-6)
    plain = jmol_colors[atoms.numbers]
    colours = plain + _MIST * far[:, None] * (1 - plain)
    radii = _RADIUS * covalent_radii[atoms.numbers] ** 0.5
    drawing = Matplotlib(atoms, axes, rotation=_VIEW, radii=radii, colors=colours, show_unit_cell=0)
    drawing.write()
    places = drawing.positions  # x to the right, y up, z towards the reader
    # ase has added the atoms from the back to the front; lines come between, by the depth of each of their pieces.
    for atom, ball in zip(places[:, 2].argsort(), list(axes.patches), strict=True):
        ball.set(zorder=places[atom, 2], edgecolor=_OUTLINE, linewidth=0.5)
        _shine(axes, places[atom], radii[atom])
    corners = drawing.to_image_plane_positions(np.array(list(product((0, 1), repeat=3))) @ atoms.cell.array)
    for i, j in combinations(range(8), 2):
        if (i ^ j).bit_count() == 1:
            _line(axes, corners[i], corners[j], places, radii, color=_EDGE, linewidth=0.8)
    for i, j in bonds(atoms):
        _line(axes, places[i], places[j], places, radii, nearer=0.2, color=_STICK, linewidth=2.2)
    low = np.minimum(corners.min(0), (places - radii[:, None]).min(0))
    high = np.maximum(corners.max(0), (places + radii[:, None]).max(0))
    axes.set(xlim=(low[0] - 0.1, high[0] + 0.1), ylim=(low[1] - 0.1, high[1] + 0.1))
    style: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgecolor": _OUTLINE, "markeredgewidth": 0.5}
    handles = [
        Line2D([], [], color=jmol_colors[z], label=Element.from_Z(int(z)).symbol, **style)
        for z in np.unique(atoms.numbers)
    ]
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": len(handles)}
    axes.legend(handles=handles, **below, fontsize=8, handletextpad=0.1, columnspacing=1.0)


def _line(
    axes: Axes,
    start: np.ndarray,
    end: np.ndarray,
    places: np.ndarray,
    radii: np.ndarray,
    nearer: float = 0.0,
    **style: Any,
) -> None:
    """From start to end, less what is within atoms; `nearer` (Å) to the reader than what lies at the same depth."""
    points = np.linspace(start, end, _PIECES + 1)
    for one, other in pairwise(points):
        middle = (one + other) / 2
        if (np.linalg.norm(places - middle, axis=1) > 0.9 * radii).all():
            _add(axes, Line2D([one[0], other[0]], [one[1], other[1]], zorder=middle[2] + nearer, **style))


def _shine(axes: Axes, place: np.ndarray, radius: float) -> None:
    x, y, depth = place
    for size in (0.62, 0.5, 0.38, 0.26, 0.14):
        spot = (x - 0.3 * radius, y + 0.3 * radius)
        _add(axes, Circle(spot, size * radius, color="white", alpha=0.13, linewidth=0, zorder=depth + 1e-6))


def _add(axes: Axes, artist: Artist) -> None:
    """Without asking how large it is, which for a thousand of them takes longer than to draw them."""
    artist.set_in_layout(False)
    axes.add_artist(artist)
