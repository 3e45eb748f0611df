"""A crystal and the surfaces of its tensors, as what `assets/scene.js` draws: plain numbers in Å, a few kB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from pymatgen.core import Element, Structure

from zoo.ui.bonding import drawn
from zoo.ui.surface import Surface

RADIUS = 0.5  # Å, of a drawn atom with a covalent radius of 1 Å; as its root, so that large atoms hide less
CELLS = (1, 2, 3)  # along each lattice vector, as many as can be chosen
MOST_ATOMS = 2_000  # in all cells together: more than one cell is drawn up to so many

SURFACE_COLOURS = ("#2563a8", "#c2571a")
"""Colours of the first model's surface, and of the one that it is compared with."""


def scene(structure: Structure, cells: int = 1) -> dict[str, Any]:
    """The crystal in its Cartesian frame.

    Args:
        structure: ordered.
        cells: along each lattice vector.

    Returns:
        `cell`: the lattice vectors; `cells`; `elements`: symbol, colour and radius of each; `atoms`: place, index in
        `elements`, index of the site, and 1 where it is outside of the cells; `sites`: what each site is called;
        `bonds`: pairs of atoms; `polyhedra`: the centre, and its faces as atoms in turn.
    """
    found = drawn(structure, cells)
    numbers = np.unique(found.numbers).tolist()
    kinds = {number: index for index, number in enumerate(numbers)}
    parts = (found.positions.round(3).tolist(), found.numbers.tolist(), found.sites.tolist(), found.beyond.tolist())
    return {
        "cell": structure.lattice.matrix.round(4).tolist(),
        "cells": cells,
        "elements": [
            {
                "symbol": Element.from_Z(number).symbol,
                "colour": colour(number),
                "radius": round(float(RADIUS * covalent_radii[number] ** 0.5), 3),
            }
            for number in numbers
        ],
        "atoms": [[*place, kinds[number], site, int(far)] for place, number, site, far in zip(*parts, strict=True)],
        "sites": [_name(structure, site) for site in range(len(structure))],
        "bonds": found.bonds.tolist(),
        "polyhedra": found.polyhedra,
    }


def surfaces_of(structure: Structure, surfaces: Sequence[Surface]) -> list[dict[str, Any]]:
    """Surfaces about the centre of the cell, all to one scale; none where all are zero.

    Returns:
        of each `colour`; `matrix`: rows are the images, in Å, of the three unit vectors of the frame in which its grid
        of directions is; `radii`: of that grid, where they are not all 1; `axes`: whether the rows are principal axes.
    """
    length = per_angstrom(structure, surfaces)
    if length is None:
        return []
    return [
        {
            "colour": SURFACE_COLOURS[index % 2],
            "matrix": (surface.matrix / length).round(4).tolist(),
            "radii": None if surface.radii is None else surface.radii.round(4).tolist(),
            "axes": surface.values is not None,
        }
        for index, surface in enumerate(surfaces)
    ]


def mean_edge(structure: Structure) -> float:
    """Cube root of the cell's volume, Å."""
    return float(structure.volume ** (1 / 3))


def per_angstrom(structure: Structure, surfaces: Sequence[Surface]) -> float | None:
    """Return the size of the tensor, in its unit, that 1 Å of the picture stands for; None where nothing is drawn.

    The longest radius of all surfaces is half of the cell's mean edge.
    """
    longest = max((surface.lengths.max() for surface in surfaces), default=0.0)
    return float(longest / (0.5 * mean_edge(structure))) if longest > 0 else None


def colour(number: int) -> str:
    """Jmol's, by atomic number; hydrogen, nearly white, a little darker so that it shows on white."""
    red, green, blue = (jmol_colors[number] * (0.86 if number == 1 else 1.0) * 255).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _name(structure: Structure, site: int) -> str:
    place = ", ".join(f"{x:.3f}" for x in structure.frac_coords[site])
    return f"{structure[site].specie.symbol}, atom {site + 1} ({place})"
