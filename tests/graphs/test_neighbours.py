"""Edges of every backend against a brute-force enumeration over images, in float64, that shares nothing with them."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zoo.errors import ZooError
from zoo.graphs import cluster, neighbour_backends
from zoo.graphs.crystal import Crystal
from zoo.graphs.neighbours import neighbour_lists


def neighbours(positions, cell, cutoff, backend=neighbour_backends.DEFAULT):
    crystal = Crystal(positions, np.ones(len(positions), dtype=int), cell)
    return neighbour_lists([crystal], cutoff, backend)[0]


@pytest.fixture(params=neighbour_backends.NAMES)
def backend(request):
    try:
        neighbour_backends.choose(request.param)
    except ZooError as missing:
        pytest.skip(str(missing))
    return request.param


def heights(cell):
    """Distance between opposite faces, for each of the three axes."""
    area = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    return abs(np.linalg.det(cell)) / area


def brute_force(positions, cell, cutoff):
    """{(src, dst, shift): r} of every image within reach, the atom itself excepted."""
    fractional = positions @ np.linalg.inv(cell)
    reach = np.ceil(cutoff / heights(cell) + np.ptp(fractional, axis=0)).astype(int) + 1
    shifts = np.array(list(itertools.product(*[range(-n, n + 1) for n in reach])))
    vectors = positions[:, None, None] + (shifts @ cell)[None, None] - positions[None, :, None]
    distances = np.linalg.norm(vectors, axis=-1)
    found = {}
    for src, dst, image in zip(*np.nonzero(distances <= cutoff), strict=True):
        shift = tuple(shifts[image].tolist())
        if src != dst or any(shift):
            found[(int(src), int(dst), shift)] = distances[src, dst, image]
    return found


def check(positions, cell, cutoff, backend=neighbour_backends.DEFAULT):
    positions, cell = np.asarray(positions, dtype=float), np.asarray(cell, dtype=float)
    src, dst, shift = neighbours(positions, cell, cutoff, backend)
    assert src.dtype == dst.dtype == shift.dtype == np.int64
    assert shift.shape == (len(src), 3)
    edges = list(zip(src.tolist(), dst.tolist(), map(tuple, shift.tolist()), strict=True))
    in_order = sorted(set(edges), key=lambda edge: (edge[1], edge[0], edge[2]))
    assert edges == in_order
    # Only a distance that rounding can put on either side of the cutoff may be told apart.
    expected = brute_force(positions, cell, cutoff + 1e-9)
    clear = {edge for edge, r in expected.items() if r < cutoff - 1e-9}
    assert clear <= set(edges) <= set(expected)
    assert {(d, s, (-x, -y, -z)) for s, d, (x, y, z) in edges} == set(edges)
    vectors = positions[src] + shift @ cell - positions[dst]
    assert (np.linalg.norm(vectors, axis=1) <= cutoff + 1e-9).all()
    return len(edges)


ATOMS = np.array([[0.02, 0.01, 0.03], [0.51, 0.27, 0.74], [0.33, 0.92, 0.55]])
CELLS = {
    "cubic": np.diag([5.1, 5.1, 5.1]),
    "rhombohedral": np.array([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]]),
    "skewed": np.array([[4.0, 0.0, 0.0], [11.3, 3.9, 0.0], [-7.7, 9.1, 4.2]]),
    "tiny": np.diag([1.7, 1.9, 2.3]),
    "left-handed": np.array([[0.3, 4.4, 0.1], [3.8, 0.2, 0.4], [0.5, -0.6, 5.2]]),
    "needle": np.array([[1.6, 0.0, 0.0], [0.2, 1.8, 0.0], [0.3, 0.1, 31.0]]),
    "flat": np.array([[14.0, 0.0, 0.0], [3.0, 13.0, 0.0], [0.7, 0.2, 1.5]]),
    "rotated": np.array([[1.2, 3.1, -2.2], [-3.4, 0.8, 1.9], [2.0, 2.6, 3.3]]),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("cutoff", [4.0, 5.0, 6.0])
def test_cells_of_every_shape(name, cutoff, backend):
    assert check(ATOMS @ CELLS[name], CELLS[name], cutoff, backend) > 0


def test_left_handed_cell_is_left_handed():
    assert np.linalg.det(CELLS["left-handed"]) < 0


@pytest.mark.parametrize("name", CELLS)
def test_one_atom_sees_its_own_images(name, backend):
    src, dst, shift = neighbours(np.array([[0.4, -0.2, 0.1]]), CELLS[name], 6.0, backend)
    assert check(np.array([[0.4, -0.2, 0.1]]), CELLS[name], 6.0, backend) == len(src) > 0
    assert (src == dst).all()
    assert shift.any(axis=1).all()


@pytest.mark.parametrize("name", CELLS)
def test_atoms_written_outside_the_cell(name, backend):
    moves = np.array([[3, 0, -2], [0, -5, 1], [-1, 1, 7]])
    inside, outside = ATOMS @ CELLS[name], (ATOMS + moves) @ CELLS[name]
    assert check(outside, CELLS[name], 5.0, backend) == len(neighbours(inside, CELLS[name], 5.0, backend)[0])


def test_many_atoms_use_the_cell_list(backend):
    rng = np.random.default_rng(0)
    cell = np.diag([19.0, 18.0, 17.0]) + rng.normal(size=(3, 3))
    assert check(rng.random((120, 3)) @ cell, cell, 4.0, backend) > 500


def test_known_coordination():
    rock_salt = np.array([[0.0, 2.82, 2.82], [2.82, 0.0, 2.82], [2.82, 2.82, 0.0]])
    src, dst, _ = neighbours(np.array([[0.0, 0, 0], [2.82, 0, 0]]), rock_salt, 3.0)
    assert (src != dst).all()
    assert np.bincount(dst).tolist() == [6, 6]


def test_a_neighbour_at_the_cutoff_is_left_out(backend):
    # Every length here is exact in binary; what lies at r_c must count for nothing in a model anyhow (its envelope).
    cubic = np.diag([3.0, 3.0, 3.0])
    assert len(neighbours(np.zeros((1, 3)), cubic, 3.0, backend)[0]) == 0
    assert len(neighbours(np.zeros((1, 3)), cubic, np.nextafter(3.0, 4.0), backend)[0]) == 6


def test_two_atoms_at_one_place_are_neighbours(backend):
    positions = np.array([[0.3, 0.2, 0.1], [0.3, 0.2, 0.1], [4.3, 0.2, 0.1]])
    src, dst, _ = neighbours(positions, np.diag([4.0, 7.0, 7.0]), 3.0, backend)
    assert list(zip(src.tolist(), dst.tolist(), strict=True)) == [(1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2)]


def test_several_crystals_in_one_call_are_each_by_itself(backend):
    fractions = [ATOMS, ATOMS[:1], ATOMS + np.array([5, -3, 0]), ATOMS[1:]]
    cells = [CELLS[name] for name in ("skewed", "needle", "cubic", "rotated")]
    crystals = [Crystal(f @ c, np.ones(len(f), dtype=int), c) for f, c in zip(fractions, cells, strict=True)]
    empty = Crystal(np.zeros((1, 3)), np.ones(1, dtype=int), 40 * np.eye(3))
    together = neighbour_lists([empty, *crystals, empty], 5.0, backend)
    assert [len(src) for src, _, _ in (together[0], together[-1])] == [0, 0]
    for crystal, edges in zip(crystals, together[1:-1], strict=True):
        alone = neighbours(crystal.positions, crystal.cell, 5.0)
        for one, other in zip(edges, alone, strict=True):
            np.testing.assert_array_equal(one, other)
    assert neighbour_lists([], 5.0, backend) == []
    assert neighbour_lists([empty], 5.0, backend)[0][2].shape == (0, 3)


def test_all_backends_agree_where_shells_lie_at_the_cutoff(backend):
    """To the last bit: rotated face-centred crystals whose cutoff is the length of a lattice vector."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        cell = 4.05 / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]) @ rotation
        positions = np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]]) @ cell + rng.normal(size=3)
        cutoff = float(np.linalg.norm(cell[0] + cell[1] - cell[2]))
        check(positions, cell, cutoff, backend)
        for one, other in zip(
            neighbours(positions, cell, cutoff, backend), neighbours(positions, cell, cutoff), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_atoms_very_far_outside_the_cell_cost_no_more(backend):
    cell, moves = CELLS["cubic"], np.array([[0, 0, 0], [300_000, 0, 0], [0, -300_000, 300_000]])
    src, dst, shift = neighbours(ATOMS @ cell, cell, 4.0)
    far_src, far_dst, far_shift = neighbours((ATOMS + moves) @ cell, cell, 4.0, backend)
    np.testing.assert_array_equal(far_src, src)
    np.testing.assert_array_equal(far_dst, dst)
    np.testing.assert_array_equal(far_shift, shift + moves[dst] - moves[src])


@st.composite
def crystals(draw):
    number = st.floats(-7.0, 7.0, allow_nan=False, width=32)
    cell = draw(arrays(np.float64, (3, 3), elements=number))
    assume(abs(np.linalg.det(cell)) > 1.0)
    assume(heights(cell).min() > 0.9)
    n = draw(st.integers(1, 4))
    fractional = draw(arrays(np.float64, (n, 3), elements=st.floats(-2.5, 2.5, width=32)))
    return fractional @ cell, cell


@settings(max_examples=150, deadline=None)
@given(crystals(), st.floats(0.5, 4.5))
def test_random_cells(crystal, cutoff):
    check(*crystal, cutoff)


@pytest.mark.parametrize("other", [name for name in neighbour_backends.NAMES if name != neighbour_backends.DEFAULT])
@settings(max_examples=60, deadline=None)
@given(crystals(), st.sampled_from([2.0, 3.0, 4.0, 4.5]))
def test_all_backends_agree_on_random_cells(other, crystal, cutoff):
    try:
        neighbour_backends.choose(other)
    except ZooError as missing:
        pytest.skip(str(missing))
    for one, two in zip(neighbours(*crystal, cutoff), neighbours(*crystal, cutoff, other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_backend_that_there_is_not():
    with pytest.raises(ZooError, match=r"'pymatgn'.* 'pymatgen'"):
        neighbours(ATOMS, CELLS["cubic"], 4.0, "pymatgn")


@pytest.mark.parametrize(
    ("positions", "cell", "said"),
    [
        ([[0.0, 0.0, 0.0]], np.full((3, 3), np.nan), "NaN"),
        ([[0.0, np.inf, 0.0]], np.eye(3) * 4, "infinity"),
        ([[0.0, 0.0, 0.0]], [[4.0, 0, 0], [8.0, 0, 0], [0, 0, 4.0]], "no volume"),
    ],
)
def test_numbers_that_are_no_crystal(positions, cell, said):
    with pytest.raises(ZooError, match=said):
        neighbours(np.array(positions), np.asarray(cell, dtype=float), 4.0)


def test_torch_cluster_that_is_missing_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_cluster", None)
    with pytest.raises(
        ZooError, match=r'not installed: .*--no-build-isolation "crystal-tensor-zoo\[cluster\]"'
    ) as said:
        neighbours(ATOMS, CELLS["cubic"], 4.0, "torch-cluster")
    assert "\n" not in str(said.value)


def test_more_neighbours_than_torch_cluster_is_first_asked_for(monkeypatch):
    pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")
    monkeypatch.setattr(cluster, "FIRST_LIMIT", 3)
    assert check(ATOMS @ CELLS["tiny"], CELLS["tiny"], 5.0, "torch-cluster") > 500
