"""The picture is of this crystal and this tensor, in one frame."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import from_voigt

pytest.importorskip("plotly")

from zoo.ui.shapes import rod, sphere

from zoo.ui.scene import bonds, drawn_atoms, per_angstrom, scene
from zoo.ui.surface import caption, surface_of, young_modulus

TOTAL = TensorTarget("total", quantity="dielectric")
STIFFNESS = TensorTarget("stiffness", "ijkl=jikl=klij", unit="GPa", quantity="elastic stiffness")
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
MONOCLINIC = Structure(Lattice.monoclinic(5.1, 6.2, 7.3, 99), ["Zr", "O"], [[0.1, 0.2, 0.3], [0.4, 0.3, 0.2]])


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    matrix = np.diag([c11] * 3 + [c44] * 3)
    matrix[:3, :3] += c12 * (1 - np.eye(3))
    return from_voigt(matrix)


def parts(figure, meta: str, kind: str = "mesh3d") -> list:
    return [trace for trace in figure.data if trace.meta == meta and trace.type == kind]


def points(trace) -> np.ndarray:
    return np.stack([trace.x, trace.y, trace.z], axis=1).astype(float)


def test_atoms_on_faces_edges_and_corners_are_drawn_on_all_of_them() -> None:
    atoms = drawn_atoms(SALT)
    assert len(atoms.sites) == 27, "14 Na on corners and faces, 12 Cl on edges, 1 in the centre"
    assert np.bincount(atoms.numbers)[[11, 17]].tolist() == [14, 13]
    assert len(bonds(atoms)) == 54, "the nearest neighbours in 3×3×3 places"


def test_metals_are_joined_to_metals_only_where_there_is_nothing_else() -> None:
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]])
    assert bonds(drawn_atoms(copper))
    anatase = Structure.from_spacegroup(
        "I4_1/amd", Lattice.tetragonal(3.785, 9.514), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]]
    )
    atoms = drawn_atoms(anatase)
    found = {frozenset(atoms.numbers[list(pair)].tolist()) for pair in bonds(atoms)}
    assert found == {frozenset({22, 8})}


def test_atoms_far_outside_the_cell_are_drawn_in_it() -> None:
    moved = SALT.copy()
    moved.translate_sites(range(len(moved)), [3, -2, 1], to_unit_cell=False)
    places = {tuple(place) for place in drawn_atoms(moved).positions.round(6) + 0.0}
    assert places == {tuple(place) for place in drawn_atoms(SALT).positions.round(6) + 0.0}


def test_the_ellipsoid_is_the_tensor_about_the_centre_of_the_cell_in_the_frame_of_the_crystal() -> None:
    turn = Rotation.from_euler("xyz", [20, 40, 60], degrees=True).as_matrix()
    tensor = turn @ np.diag([2.0, 3.0, 7.0]) @ turn.T
    surface = surface_of(tensor, TOTAL)
    (drawn, axes) = parts(scene(MONOCLINIC, [surface]), "surface")
    centre = MONOCLINIC.lattice.matrix.sum(0) / 2
    scale = per_angstrom(MONOCLINIC, [surface])
    relative = (points(drawn) - centre) * scale
    # r = T·n with |n| = 1
    np.testing.assert_allclose(np.linalg.norm(np.linalg.solve(tensor, relative.T), axis=0), 1, rtol=1e-4)
    lengths = np.linalg.norm(relative, axis=1)
    assert lengths.max() == pytest.approx(7, rel=1e-3)
    assert lengths.min() == pytest.approx(2, rel=1e-2)
    assert abs(relative[lengths.argmax()] @ turn[:, 2]) == pytest.approx(7, rel=1e-3), "along the third principal axis"
    assert 2 * lengths.max() / scale == pytest.approx(MONOCLINIC.volume ** (1 / 3), rel=1e-3)
    reach = np.abs((points(axes) - centre) @ turn).max(0) * scale
    np.testing.assert_allclose(reach, [2, 3, 7], rtol=0.03)


def test_two_surfaces_are_drawn_to_one_scale() -> None:
    surfaces = [surface_of(np.diag(values), TOTAL) for values in ([4.0, 4, 8], [2.0, 2, 2])]
    drawn = [trace for trace in parts(scene(SALT, surfaces), "surface") if trace.opacity]
    first, second = (np.ptp(points(trace), axis=0) for trace in drawn)
    np.testing.assert_allclose(first / second, [2, 2, 4], rtol=1e-2)
    assert drawn[0].color != drawn[1].color


def test_young_modulus_of_silicon_and_of_an_isotropic_solid() -> None:
    # Hopcroft, Nix, Kenny, J. Microelectromech. Syst. 19, 229 (2010): 130, 169 and 188 GPa
    directions = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]]) / np.sqrt([[1], [2], [3]])
    np.testing.assert_allclose(young_modulus(cubic(165.7, 63.9, 79.6), directions), [130, 169, 188], atol=0.6)
    bulk, shear = 100.0, 40.0
    isotropic = cubic(bulk + 4 / 3 * shear, bulk - 2 / 3 * shear, shear)
    expected = 9 * bulk * shear / (3 * bulk + shear)
    lengths = np.linalg.norm(surface_of(isotropic, STIFFNESS).shape.points, axis=1)
    np.testing.assert_allclose(lengths, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("tensor", "target", "words"),
    [
        (cubic(100.0, 150.0, 50.0), STIFFNESS, "not positive definite"),
        (np.ones((3, 3, 3)), TensorTarget("piezoelectric", "ijk=ikj"), "no ellipsoid"),
        (np.ones((2, 3, 3)), TensorTarget("born", "ij", per_atom=True), "per atom"),
    ],
)
def test_what_has_no_surface_says_why(tensor: np.ndarray, target: TensorTarget, words: str) -> None:
    assert surface_of(tensor, target) is None
    assert words in caption(target, None)


@pytest.mark.parametrize("values", [[0, 0, 0], [0, 0, 5], [-1, 2, 3], [1e-9, 1, 1], [1e6, 1, 1]])
def test_no_tensor_breaks_the_picture(values: list[float]) -> None:
    surface = surface_of(np.diag(values).astype(float), TOTAL)
    figure = scene(SALT, [surface])
    assert bool(parts(figure, "surface")) == any(values)
    assert ("negative" in caption(TOTAL, surface)) == (min(values) < 0)
    for trace in figure.data:
        assert np.isfinite(points(trace)).all() or trace.mode == "lines"


def test_all_that_is_drawn_is_within_the_axes() -> None:
    slab = Structure(Lattice.hexagonal(3.2, 25), ["Mo", "S", "S"], [[1 / 3, 2 / 3, 0.5], [0, 0, 0.56], [0, 0, 0.44]])
    figure = scene(slab, [surface_of(np.diag([15.0, 15, 2]), TOTAL)])
    low, high = zip(*(figure.layout.scene[f"{axis}axis"].range for axis in "xyz"), strict=True)
    everything = np.concatenate([points(trace) for trace in figure.data])
    assert (np.nanmin(everything, axis=0) >= low).all() and (np.nanmax(everything, axis=0) <= high).all()
    lengths = np.subtract(high, low) / list(figure.layout.scene.aspectratio.to_plotly_json().values())
    assert np.ptp(lengths) == pytest.approx(0, abs=1e-9), "1 Å is as long in all directions"


def test_a_large_crystal_stays_small_enough_for_a_browser() -> None:
    large = SALT * (5, 5, 5)
    figure = scene(large)
    assert len(large) == 1000
    assert sum(len(trace.x) for trace in parts(figure, "atoms")) < 60_000
    assert len(figure.to_json()) < 12_000_000


def test_faces_look_outward() -> None:
    for shape, centre in ((sphere(200), np.zeros(3)), (rod(np.array([1.0, 2, 3]), np.array([2.0, 4, 3]), 0.1), None)):
        a, b, c = shape.points[shape.faces].swapaxes(0, 1)
        middle = (a + b + c) / 3
        if centre is None:
            along = np.array([1.0, 2, 0]) / 5**0.5
            from_start = middle - [1, 2, 3]
            outward = from_start - np.outer(from_start @ along, along)
        else:
            outward = middle
        assert (np.einsum("mi,mi->m", np.cross(b - a, c - a), outward) > 0).all()
