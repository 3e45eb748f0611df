"""A crystal, and the surfaces of its tensors, as a plotly figure in 3D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import plotly.graph_objects as go
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from pymatgen.core import Element, Structure

from zoo.ui.shapes import Shape, joined, rod, sphere
from zoo.ui.surface import Surface
from zoo.ui.view import view

RADIUS = 0.5  # Å, of a drawn atom with a covalent radius of 1 Å; as its root, so that large atoms hide less
BOND_SLACK = 1.15  # atoms nearer than this many sums of covalent radii are joined
BOND_RADIUS = 0.09  # Å
AXIS_RADIUS, LETTER = 0.009, 0.085  # of an axis, and how far beyond it its name is, in mean edges of the cell
BEYOND = 0.6  # Å, more for those of the lattice, that end in an atom as a rule
AT_THE_EDGE = 0.02  # fractional: atoms so near a face of the cell are drawn at the opposite face as well
MANY_CORNERS = 40_000  # of all spheres together: with more atoms they become coarser
NAMED = 150  # drawn atoms up to which each tells its name and place under the pointer

LATTICE_COLOURS = ("#b3261e", "#2e7d32", "#1f4fa8")
LINE = "#6b7280"
SURFACE_COLOURS = ("#2563a8", "#c2571a")
"""Colours of the first model's surface, and of the one that it is compared with."""


@dataclass(frozen=True)
class Atoms:
    """The atoms that are drawn: those of the cell, and again those on its faces, edges and corners.

    Attributes:
        sites: (n,) index in the structure.
        numbers: (n,) atomic numbers.
        positions: (n, 3) Cartesian, Å.
    """

    sites: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray


def scene(structure: Structure, surfaces: Sequence[Surface] = ()) -> go.Figure:
    """The crystal in its Cartesian frame, and surfaces about the centre of the cell, all to one scale.

    What can be switched on and off says in its `meta` what it is: `atoms`, `bonds`, `cell`, `surface`.

    Args:
        structure: ordered.
        surfaces: of the tensors that models predict, one or two.
    """
    atoms = drawn_atoms(structure)
    traces = [*_spheres(structure, atoms), *_bonds(atoms), *_cell(structure), *_frame(structure)]
    centre = structure.lattice.matrix.sum(0) / 2
    length = per_angstrom(structure, surfaces)
    for index, surface in enumerate(surfaces):
        if length:
            traces += _surface(surface, centre, length, SURFACE_COLOURS[index % 2], AXIS_RADIUS * mean_edge(structure))
    figure = go.Figure(traces)
    figure.update_layout(
        scene=view(np.concatenate([np.stack([trace.x, trace.y, trace.z], axis=1) for trace in traces]), centre),
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7b8794", "activecolor": "#1f2933"},
        hoverlabel={"bgcolor": "white", "font": {"color": "#1f2933"}},
    )
    return figure


def mean_edge(structure: Structure) -> float:
    """Cube root of the cell's volume, Å."""
    return float(structure.volume ** (1 / 3))


def per_angstrom(structure: Structure, surfaces: Sequence[Surface]) -> float | None:
    """Return the size of the tensor, in its unit, that 1 Å of the picture stands for; None where nothing is drawn.

    The longest radius of all surfaces is half of the cell's mean edge.
    """
    longest = max((np.linalg.norm(surface.shape.points, axis=1).max() for surface in surfaces), default=0.0)
    return float(longest / (0.5 * mean_edge(structure))) if longest > 0 else None


def drawn_atoms(structure: Structure) -> Atoms:
    """Every atom of the cell, moved into it, and its images on the faces that it lies on."""
    inside = structure.frac_coords % 1.0
    inside[inside > 1 - AT_THE_EDGE] -= 1.0
    sites, places = [], []
    for site, place in enumerate(inside):
        for shift in product(*[(0, 1) if x < AT_THE_EDGE else (0,) for x in place]):
            sites.append(site)
            places.append(place + shift)
    numbers = np.array(structure.atomic_numbers)[sites]
    return Atoms(np.array(sites), numbers, np.array(places) @ structure.lattice.matrix)


def _colour(number: int) -> str:
    """Jmol's; hydrogen, nearly white, a little darker so that it shows on white."""
    red, green, blue = (jmol_colors[number] * (0.86 if number == 1 else 1.0) * 255).round().astype(int)
    return f"rgb({red},{green},{blue})"


def _mesh(shape: Shape, **more: object) -> go.Mesh3d:
    (x, y, z), (i, j, k) = shape.points.astype(np.float32).T, shape.faces.astype(np.int32).T
    lighting = {"ambient": 0.55, "diffuse": 0.6, "specular": 0.1, "roughness": 0.5, "fresnel": 0.05}
    light = {
        "x": -10_000,
        "y": 15_000,
        "z": -20_000,
    }  # for plotly's meshes: x to the right, y up, z away from the viewer
    return go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, **{"lighting": lighting, "lightposition": light, **more})


def _spheres(structure: Structure, atoms: Atoms) -> Iterator[go.Mesh3d]:
    """One mesh an element."""
    ball = sphere(int(np.clip(MANY_CORNERS / len(atoms.sites), 30, 250)))
    for number in np.unique(atoms.numbers):
        chosen = np.flatnonzero(atoms.numbers == number)
        radius = RADIUS * covalent_radii[number] ** 0.5
        shape = joined([Shape(atoms.positions[n] + radius * ball.points, ball.faces) for n in chosen])
        symbol = structure[int(atoms.sites[chosen[0]])].specie.symbol
        text: object = symbol
        if len(atoms.sites) <= NAMED:
            text = np.repeat([_name(structure, int(atoms.sites[n])) for n in chosen], len(ball.points)).tolist()
        yield _mesh(shape, color=_colour(number), name=symbol, text=text, hoverinfo="text", meta="atoms")


def _name(structure: Structure, site: int) -> str:
    place = ", ".join(f"{x:.3f}" for x in structure.frac_coords[site])
    return f"{structure[site].specie.symbol}, atom {site + 1} ({place})"


def bonds(atoms: Atoms) -> list[tuple[int, int]]:
    """Pairs of drawn atoms that are near enough to be called bonded; of two metals only where all atoms are metals."""
    from scipy.spatial import KDTree

    radii = covalent_radii[atoms.numbers]
    pairs = KDTree(atoms.positions).query_pairs(2 * BOND_SLACK * radii.max(), output_type="ndarray")
    first, second = pairs.T
    apart = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1)
    near = (apart < BOND_SLACK * (radii[first] + radii[second])) & (apart > 0.1)
    metal = np.array([Element.from_Z(number).is_metal for number in atoms.numbers.tolist()])
    if not metal.all():
        near &= ~(metal[first] & metal[second])
    return [(int(i), int(j)) for i, j in pairs[near]]


def _bonds(atoms: Atoms) -> Iterator[go.Mesh3d]:
    found = bonds(atoms)
    halves: dict[int, list[Shape]] = {}
    for i, j in found:
        middle = (atoms.positions[i] + atoms.positions[j]) / 2
        for atom in (i, j):
            sides = 10 if len(found) < 400 else 5
            halves.setdefault(int(atoms.numbers[atom]), []).append(
                rod(atoms.positions[atom], middle, BOND_RADIUS, sides)
            )
    for number, rods in halves.items():
        yield _mesh(joined(rods), color=_colour(number), hoverinfo="skip", meta="bonds")


def _cell(structure: Structure) -> Iterator[go.Mesh3d | go.Scatter3d]:
    """The twelve edges; the three lattice vectors among them in colours, and named."""
    corners = np.array(list(product((0, 1), repeat=3)))
    edges = [(p, q) for n, p in enumerate(corners) for q in corners[n + 1 :] if abs(p - q).sum() == 1 and p.any()]
    yield _lines([np.array(edge) @ structure.lattice.matrix for edge in edges], LINE, 2, "cell")
    yield from _arrows(
        np.zeros(3), structure.lattice.matrix, "abc", LATTICE_COLOURS, mean_edge(structure), "cell", BEYOND
    )


def _frame(structure: Structure) -> Iterator[go.Mesh3d | go.Scatter3d]:
    """Cartesian axes, beside the cell."""
    corners = np.array(list(product((0, 1), repeat=3))) @ structure.lattice.matrix
    edge = mean_edge(structure)
    size = 0.22 * edge
    start = corners.min(0) - size * np.array([1.4, 1.4, 0.3])
    yield from _arrows(start, size * np.eye(3), "xyz", ("#374151",) * 3, edge, "frame")


def _arrows(
    start: np.ndarray,
    vectors: np.ndarray,
    names: Sequence[str],
    colours: Sequence[str],
    edge: float,
    meta: str,
    beyond: float = 0.0,
) -> Iterator[go.Mesh3d | go.Scatter3d]:
    """Rods along vectors (3,) from `start`, each with its name a little beyond the end."""
    for vector, name, colour in zip(vectors, names, colours, strict=True):
        yield _mesh(rod(start, start + vector, AXIS_RADIUS * edge), color=colour, hoverinfo="skip", meta=meta)
        x, y, z = (start + vector * (1 + (LETTER * edge + beyond) / float(np.linalg.norm(vector))))[:, None]
        yield go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="text",
            text=[f"<b>{name}</b>"],
            textfont={"color": colour, "size": 15},
            textposition="middle center",
            hoverinfo="skip",
            meta=meta,
        )


def _lines(segments: Sequence[np.ndarray], colour: str, width: int, meta: str) -> go.Scatter3d:
    """Polylines, each (n, 3), as one trace."""
    gap = np.full((1, 3), np.nan)
    x, y, z = np.concatenate([part for segment in segments for part in (segment, gap)]).T
    line = {"color": colour, "width": width}
    return go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, hoverinfo="skip", meta=meta)


def _surface(surface: Surface, centre: np.ndarray, per_length: float, colour: str, thick: float) -> Iterator[object]:
    """The surface, translucent; of an ellipsoid its principal sections and axes too."""
    points = centre + surface.shape.points / per_length
    lighting = {"ambient": 0.75, "diffuse": 0.4, "specular": 0.1}
    yield _mesh(
        Shape(points, surface.shape.faces),
        color=colour,
        opacity=0.3,
        hoverinfo="skip",
        meta="surface",
        lighting=lighting,
    )
    if surface.axes is None:
        return
    axes = surface.axes / per_length
    angle = np.linspace(0, 2 * np.pi, 73)[:, None]
    sections = [centre + np.cos(angle) * axes[i] + np.sin(angle) * axes[j] for i, j in ((0, 1), (1, 2), (0, 2))]
    yield _lines(sections, colour, 3, "surface")
    rods = [rod(centre - axis, centre + axis, thick) for axis in axes if np.linalg.norm(axis) > 1e-3]
    yield _mesh(joined(rods), color=colour, hoverinfo="skip", meta="surface")
