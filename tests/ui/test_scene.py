"""The picture is of this crystal and this tensor, in one frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

import zoo.ui
from zoo.contract.target import TensorTarget
from zoo.data.elasticity import from_voigt
from zoo.ui.bonding import coordination, drawn
from zoo.ui.scene import MOST_ATOMS, mean_edge, per_angstrom, scene, surfaces_of
from zoo.ui.surface import COLUMNS, ROWS, caption, surface_of, young_modulus

TOTAL = TensorTarget("total", quantity="dielectric")
STIFFNESS = TensorTarget("stiffness", "ijkl=jikl=klij", unit="GPa", quantity="elastic stiffness")
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
MONOCLINIC = Structure(Lattice.monoclinic(5.1, 6.2, 7.3, 99), ["Zr", "O"], [[0.1, 0.2, 0.3], [0.4, 0.3, 0.2]])


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    matrix = np.diag([c11] * 3 + [c44] * 3)
    matrix[:3, :3] += c12 * (1 - np.eye(3))
    return from_voigt(matrix)


def inside(atoms) -> np.ndarray:
    return atoms.positions[~atoms.beyond]


def inner_bonds(atoms) -> list[frozenset[int]]:
    """Atomic numbers of the bonds that do not leave the cells."""
    return [frozenset(atoms.numbers[pair].tolist()) for pair in atoms.bonds if not atoms.beyond[pair].any()]


def test_atoms_on_faces_edges_and_corners_are_drawn_on_all_of_them() -> None:
    atoms = drawn(SALT)
    assert len(inside(atoms)) == 27, "14 Na on corners and faces, 12 Cl on edges, 1 in the centre"
    assert np.bincount(atoms.numbers[~atoms.beyond])[[11, 17]].tolist() == [14, 13]
    assert len(inner_bonds(atoms)) == 54, "the nearest neighbours in 3×3×3 places"


def test_every_cation_has_all_its_neighbours_beyond_the_cell_and_no_anion_has_more() -> None:
    atoms = drawn(SALT)
    count = np.bincount(atoms.bonds.ravel(), minlength=len(atoms.sites))
    sodium = (atoms.numbers == 11) & ~atoms.beyond
    assert (count[sodium] == 6).all()
    assert set(atoms.numbers[atoms.beyond]) == {17}
    # 8 corners and 6 faces stick out by 3 and by 1; none of these Cl is shared.
    assert atoms.beyond.sum() == 8 * 3 + 6
    assert not drawn(MONOCLINIC).beyond.all()


def test_atoms_of_an_element_have_their_neighbours_and_a_metal_has_none_outside() -> None:
    silicon = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.431), ["Si"], [[0, 0, 0]])
    atoms = drawn(silicon)
    assert len(inside(atoms)) == 18 and atoms.beyond.any()
    assert [len(near) for near in coordination(silicon)] == [4] * 8
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]])
    metal = drawn(copper)
    assert len(metal.bonds) and not metal.beyond.any()


def test_metals_are_joined_to_metals_only_where_there_is_nothing_else() -> None:
    anatase = Structure.from_spacegroup(
        "I4_1/amd", Lattice.tetragonal(3.785, 9.514), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]]
    )
    assert set(inner_bonds(drawn(anatase))) == {frozenset({22, 8})}


def test_neighbours_in_a_cell_of_one_atom_are_its_images() -> None:
    primitive = Structure(
        Lattice([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]), ["Na", "Cl"], [[0] * 3, [0.5] * 3]
    )
    near = coordination(primitive)
    assert [[site for site, _ in one] for one in near] == [[1] * 6, [0] * 6]
    np.testing.assert_allclose([distance for one in near for _, distance in one], 2.82)


def test_atoms_far_outside_the_cell_are_drawn_in_it() -> None:
    moved = SALT.copy()
    moved.translate_sites(range(len(moved)), [3, -2, 1], to_unit_cell=False)
    places = {tuple(place) for place in inside(drawn(moved)).round(6) + 0.0}
    assert places == {tuple(place) for place in inside(drawn(SALT)).round(6) + 0.0}


def test_several_cells_are_a_larger_crystal_of_the_same() -> None:
    assert len(inside(drawn(SALT, 2))) == 5**3
    assert len(inner_bonds(drawn(SALT, 2))) == 3 * 5 * 5 * 4


def test_polyhedra_are_the_hulls_of_what_surrounds_cations() -> None:
    octahedra = drawn(SALT).polyhedra
    atoms = drawn(SALT)
    assert {int(atoms.numbers[centre]) for centre, _ in octahedra} == {11}
    assert len(octahedra) == 14
    assert all(sorted(map(len, faces)) == [3] * 8 for _, faces in octahedra)
    caesium = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0] * 3, [0.5] * 3])
    (first, *_) = drawn(caesium).polyhedra
    assert sorted(map(len, first[1])) == [4] * 6, "a cube has six faces, not twelve triangles"
    for face in first[1]:
        corners = drawn(caesium).positions[face]
        sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
        np.testing.assert_allclose(sides, 4.12, err_msg="in turn, not across")


def test_the_ellipsoid_is_the_tensor_in_the_frame_of_the_crystal() -> None:
    turn = Rotation.from_euler("xyz", [20, 40, 60], degrees=True).as_matrix()
    tensor = turn @ np.diag([2.0, 3.0, 7.0]) @ turn.T
    surface = surface_of(tensor, TOTAL)
    points = surface.points.reshape(-1, 3)
    # r = T·n with |n| = 1
    np.testing.assert_allclose(np.linalg.norm(np.linalg.solve(tensor, points.T), axis=0), 1, rtol=1e-9)
    lengths = np.linalg.norm(points, axis=1)
    assert lengths.max() == pytest.approx(7) and lengths.min() == pytest.approx(2)
    assert abs(points[lengths.argmax()] @ turn[:, 2]) == pytest.approx(7), "along the third principal axis"
    (sent,) = surfaces_of(MONOCLINIC, [surface])
    longest = np.linalg.norm(sent["matrix"], axis=1).max()
    assert longest == pytest.approx(0.5 * mean_edge(MONOCLINIC), rel=1e-3)
    assert per_angstrom(MONOCLINIC, [surface]) == pytest.approx(7 / longest, rel=1e-3)


def test_two_surfaces_are_drawn_to_one_scale() -> None:
    first, second = surfaces_of(SALT, [surface_of(np.diag(values), TOTAL) for values in ([4.0, 4, 8], [2.0, 2, 2])])
    lengths = [np.sort(np.linalg.norm(one["matrix"], axis=1)) for one in (first, second)]
    np.testing.assert_allclose(lengths[0] / lengths[1], [2, 2, 4], rtol=1e-3)
    assert first["colour"] != second["colour"]


def test_young_modulus_of_silicon_and_of_an_isotropic_solid() -> None:
    # Hopcroft, Nix, Kenny, J. Microelectromech. Syst. 19, 229 (2010): 130, 169 and 188 GPa
    directions = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]]) / np.sqrt([[1], [2], [3]])
    np.testing.assert_allclose(young_modulus(cubic(165.7, 63.9, 79.6), directions), [130, 169, 188], atol=0.6)
    bulk, shear = 100.0, 40.0
    isotropic = cubic(bulk + 4 / 3 * shear, bulk - 2 / 3 * shear, shear)
    expected = 9 * bulk * shear / (3 * bulk + shear)
    lengths = surface_of(isotropic, STIFFNESS).lengths
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
    sent = surfaces_of(SALT, [surface])
    assert bool(sent) == any(values)
    assert ("negative" in caption(TOTAL, surface)) == (min(values) < 0)
    json.dumps(sent, allow_nan=False)


def test_the_browsers_grid_is_the_same() -> None:
    script = (Path(zoo.ui.__file__).parent / "assets" / "scene.js").read_text(encoding="utf-8")
    assert f"ROWS = {ROWS}, COLUMNS = {COLUMNS}" in script


def test_twelve_atoms_are_a_few_kilobytes_and_a_large_crystal_is_small_enough() -> None:
    def sent(structure: Structure, cells: int = 1) -> int:
        return len(json.dumps(scene(structure, cells), separators=(",", ":"), allow_nan=False))

    anatase = Structure.from_spacegroup(
        "I4_1/amd", Lattice.tetragonal(3.785, 9.514), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]]
    )
    assert len(anatase) == 12 and sent(anatase) < 5_000
    large = SALT * (5, 5, 5)
    assert len(large) == 1000 and sent(large) < 300_000
    assert len(scene(SALT, 3)["atoms"]) < 2 * MOST_ATOMS
