import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zoo.config.dataset_settings import Cleaning
from zoo.contract.target import TensorTarget
from zoo.data.tensors import DIELECTRIC, range_of, read_tensor
from zoo.errors import ZooError

TOTAL = TensorTarget(name="total")
ELASTIC = TensorTarget(name="elastic", formula="ijkl=jikl=klij", unit="GPa")
BORN = TensorTarget(name="born", formula="ij")


@given(arrays(np.float64, (3, 3), elements=st.floats(-100, 100)))
def test_symmetric_tensors_come_back_as_they_are(matrix):
    symmetric = matrix + matrix.T
    np.testing.assert_array_equal(read_tensor(symmetric.tolist(), TOTAL), symmetric)


def test_flat_lists_are_read_row_by_row():
    np.testing.assert_allclose(read_tensor(list(range(9)), BORN), np.arange(9.0).reshape(3, 3), atol=1e-12)


def test_noise_is_projected_out():
    noisy = np.eye(3) * 5 + np.array([[0, 1e-3, 0], [0, 0, 0], [0, 0, 0]])
    read = read_tensor(noisy, TOTAL)
    assert (read == read.T).all()
    assert read[0, 1] == 5e-4


def test_rank_four():
    rng = np.random.default_rng(0)
    stiffness = rng.normal(size=(3, 3, 3, 3))
    for axes in ((1, 0, 2, 3), (0, 1, 3, 2), (2, 3, 0, 1)):
        stiffness = stiffness + stiffness.transpose(axes)
    np.testing.assert_allclose(read_tensor(stiffness, ELASTIC), stiffness, atol=1e-12)
    np.testing.assert_allclose(read_tensor(stiffness.ravel().tolist(), ELASTIC), stiffness, atol=1e-12)
    with pytest.raises(ZooError, match=r"'elastic' .*ijkl=jikl=klij"):
        read_tensor(rng.normal(size=(3, 3, 3, 3)), ELASTIC)


def test_zero_is_a_tensor():
    assert (read_tensor(np.zeros((3, 3)), TOTAL) == 0).all()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([[1, 2], [3, 4]], "'total' must be 3×3.* 2×2"),
        (5.0, "'total' must be 3×3.* one number"),
        ([1, 2, 3, 4, 5, 6], "'total' must be 3×3.* 6"),
        ([[1, 0, 0], [0, 1], [0, 0, 1]], "'total' .*3×3"),
        ("high", "'total' .*3×3"),
        ([[1, 0, 0], [0, float("nan"), 0], [0, 0, 1]], "'total' .*NaN"),
        ([[1, 0, 0], [0, None, 0], [0, 0, 1]], "'total' .*NaN"),
        ([[1, 0, 0], [0, 10**400, 0], [0, 0, 1]], "'total' is no 3×3"),
        ([[1, 0, 0], [0, 1e308, 0], [0, 0, 1]], "'total' .*infinite"),
        ([[1, 5, 0], [0, 1, 0], [0, 0, 1]], r"'total' .*ij=ji \(67%"),
    ],
)
def test_what_is_no_tensor_is_refused(value, line):
    with pytest.raises(ZooError, match=line):
        read_tensor(value, TOTAL)


def test_the_default_range_is_of_dielectric_tensors_alone() -> None:
    """Elements of an elasticity tensor reach 1242 GPa: a range in another unit must not leave such crystals out."""
    assert range_of(DIELECTRIC["total"], "default") == Cleaning(min=-10, max=100)
    assert range_of(TensorTarget("stiffness", "ijkl=jikl=klij", "GPa", quantity="elastic"), "default") is None
    assert range_of(DIELECTRIC["total"], None) is None
    assert range_of(DIELECTRIC["total"], Cleaning(min=0, max=1)) == Cleaning(min=0, max=1)
