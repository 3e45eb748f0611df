"""Atoms that are drawn of a crystal, the bonds between them and beyond the cell, and coordination polyhedra. Å."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Element, Structure
from scipy.spatial import ConvexHull, KDTree, QhullError

BOND_SLACK = 1.15  # atoms nearer than this many sums of covalent radii are joined
AT_THE_EDGE = 0.02  # fractional: atoms so near a face of the cell are drawn at the opposite face as well
CORNERS = (4, 12)  # atoms about the centre of a polyhedron
COPLANAR = 0.05  # Å and, of normals, radian: triangles of one face of a polyhedron
NO_BOND = 0.1  # Å, below which two atoms are on one place


@dataclass(frozen=True)
class Drawn:
    """The atoms that are drawn, and what joins them.

    Attributes:
        sites: (n,) index in the structure.
        numbers: (n,) atomic numbers.
        positions: (n, 3) Cartesian, Å.
        beyond: (n,) whether an atom is outside of the cells, drawn because it is bonded to an atom in them.
        bonds: (m, 2) indices of bonded atoms.
        polyhedra: index of the centre and its faces, each the indices of the atoms at its corners, in turn.
    """

    sites: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    beyond: np.ndarray
    bonds: np.ndarray
    polyhedra: list[tuple[int, list[list[int]]]]


def drawn(structure: Structure, cells: int = 1) -> Drawn:
    """Every atom of the cells, those on faces on every face, and what is bonded to them outside.

    Atoms nearer than 1.15 times the sum of their covalent radii are bonded, two metals only where there is nothing but
    metals. Outside of the cells the less electronegative partner of a bond has its surroundings completed, so that
    cations have all of theirs; in an element each atom of the cells has, not its images; in a metal none.

    Args:
        structure: ordered.
        cells: along each lattice vector.
    """
    sites, places, image = _candidates(structure, cells)
    numbers = np.array(structure.atomic_numbers)[sites]
    positions = places @ structure.lattice.matrix
    inside = np.all((places > -AT_THE_EDGE) & (places < cells + AT_THE_EDGE), axis=1)
    pairs = _bonded(numbers, positions)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    first, second = pairs.T
    symbols = {number: Element.from_Z(number) for number in np.unique(numbers).tolist()}
    eager = np.array([np.nan_to_num(symbols[number].X) for number in numbers.tolist()])
    completes = (eager[first] < eager[second]) | ((numbers[first] == numbers[second]) & ~image[first])
    if all(symbol.is_metal for symbol in symbols.values()):
        completes[:] = False
    wanted = inside[first] & (inside[second] | completes)
    kept = np.unique(np.concatenate([np.flatnonzero(inside), second[wanted]]))
    new = np.full(len(sites), -1)
    new[kept] = np.arange(len(kept))
    bonds = new[pairs[wanted]]
    bonds = np.unique(np.sort(bonds, axis=1), axis=0) if len(bonds) else bonds
    beyond = ~inside[kept]
    return Drawn(
        sites[kept],
        numbers[kept],
        positions[kept],
        beyond,
        bonds,
        _polyhedra(positions[kept], eager[kept], bonds, beyond),
    )


def coordination(structure: Structure) -> list[list[tuple[int, float]]]:
    """Site index and distance, Å, of the atoms bonded to each site, nearest first."""
    sites, places, image = _candidates(structure, 1)
    pairs = _bonded(np.array(structure.atomic_numbers)[sites], places @ structure.lattice.matrix)
    found: list[list[tuple[int, float]]] = [[] for _ in structure]
    unit = ~image & ((places > -AT_THE_EDGE) & (places < 1)).all(axis=1)
    positions = places @ structure.lattice.matrix
    for i, j in (*pairs, *pairs[:, ::-1]):
        if unit[i]:
            found[sites[i]].append((int(sites[j]), float(np.linalg.norm(positions[i] - positions[j]))))
    return [sorted(near, key=lambda one: one[1]) for near in found]


def _candidates(structure: Structure, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms in the cells and as far around them as a bond can reach.

    Returns:
        sites (n,), fractional places (n, 3), and (n,) whether an atom is an image on a face or outside, not one of
        those that make the cells up.
    """
    within = structure.frac_coords % 1.0
    within[within > 1 - AT_THE_EDGE] -= 1.0
    reach = 2 * BOND_SLACK * covalent_radii[np.array(structure.atomic_numbers)].max()
    margin = reach * np.linalg.norm(structure.lattice.inv_matrix, axis=0)  # over the height of the cell, by axis
    steps = [range(-int(np.ceil(m)), cells + int(np.ceil(m)) + 1) for m in margin]
    shifts = np.array(list(product(*steps)))
    places = (within[None] + shifts[:, None]).reshape(-1, 3)
    sites = np.tile(np.arange(len(structure)), len(shifts))
    image = np.repeat(((shifts < 0) | (shifts >= cells)).any(axis=1), len(structure))
    near = ((places > -margin - AT_THE_EDGE) & (places < cells + margin + AT_THE_EDGE)).all(axis=1)
    return sites[near], places[near], image[near]


def _bonded(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(m, 2) pairs of atoms that are near enough; of two metals only where all atoms are metals."""
    radii = covalent_radii[numbers]
    pairs = KDTree(positions).query_pairs(2 * BOND_SLACK * radii.max(), output_type="ndarray")
    first, second = pairs.T
    apart = np.linalg.norm(positions[first] - positions[second], axis=1)
    near = (apart < BOND_SLACK * (radii[first] + radii[second])) & (apart > NO_BOND)
    metals = [number for number in np.unique(numbers).tolist() if Element.from_Z(number).is_metal]
    metal = np.isin(numbers, metals)
    if not metal.all():
        near &= ~(metal[first] & metal[second])
    return pairs[near]


def _polyhedra(
    positions: np.ndarray, eager: np.ndarray, bonds: np.ndarray, beyond: np.ndarray
) -> list[tuple[int, list[list[int]]]]:
    """Find the atoms in the cells with 4 to 12 bonds, all to more electronegative ones, and not all in a plane."""
    around: dict[int, list[int]] = {}
    for i, j in bonds.tolist():
        around.setdefault(i, []).append(j)
        around.setdefault(j, []).append(i)
    found = []
    for centre, near in around.items():
        few, many = CORNERS
        if beyond[centre] or not few <= len(near) <= many or (eager[near] <= eager[centre]).any():
            continue
        faces = _faces(positions[near])
        if faces:
            found.append((centre, [[near[k] for k in face] for face in faces]))
    return found


def _faces(corners: np.ndarray) -> list[list[int]]:
    """Faces of the convex hull of (n, 3) points, coplanar triangles joined, each as its corners in turn; [] if flat."""
    try:
        hull = ConvexHull(corners)
    except QhullError:
        return []
    faces: list[tuple[np.ndarray, set[int]]] = []
    for equation, triangle in zip(hull.equations, hull.simplices, strict=True):
        same = next((face for plane, face in faces if np.abs(plane - equation).max() < COPLANAR), None)
        if same is None:
            faces.append((equation, same := set()))
        same.update(triangle.tolist())
    return [_in_turn(corners, equation[:3], sorted(face)) for equation, face in faces]


def _in_turn(corners: np.ndarray, normal: np.ndarray, face: list[int]) -> list[int]:
    """Corners of one face in their order about its normal."""
    from_middle = corners[face] - corners[face].mean(axis=0)
    across = np.cross(normal, from_middle[0])
    angles = np.arctan2(from_middle @ across / np.linalg.norm(across), from_middle @ from_middle[0])
    return [face[k] for k in np.argsort(angles)]
