"""Errors against numbers worked out by hand; what depends on the frame and what does not; what is undefined."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from zoo.contract.target import TensorTarget
from zoo.data.petousis2017 import Petousis2017
from zoo.data.tensors import DIELECTRIC
from zoo.errors import ZooError
from zoo.evaluation import derived, metrics

ELECTRONIC, IONIC, TOTAL = (DIELECTRIC[name] for name in ("electronic", "ionic", "total"))
FRAME_BOUND = {"mae_ten", "rmse_ten", "mae_diag", "mae_off_diag"}


def symmetric(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 3, 3) positive definite, eigenvalues above 1."""
    root = rng.normal(size=(n, 3, 3))
    return root @ root.transpose(0, 2, 1) + np.eye(3)


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    """The embedded table, cleaned: name -> (1041, 3, 3)."""
    records = [record.targets for record in Petousis2017(Petousis2017.Hypers()).records()]
    kept = [targets for targets in records if targets["total"].min() >= -10 and targets["total"].max() <= 100]
    return {name: np.stack([targets[name] for targets in kept]) for name in ("electronic", "ionic", "total")}


def test_components_by_hand():
    true = np.array([np.diag([4.0, 4.0, 4.0]), np.diag([2.0, 3.0, 9.0])])
    predicted = true + np.array([np.diag([1.0, -2.0, 3.0]), [[0, 0.5, 0], [0.5, 0, -1.0], [0, -1.0, 0]]])
    found = metrics.tensor_metrics(predicted, true, TOTAL)
    assert found["n"] == 2
    assert found["mae_ten"] == pytest.approx((1 + 2 + 3 + 0.5 + 1) / 12)
    assert found["rmse_ten"] == pytest.approx(((1 + 4 + 9 + 0.25 + 1) / 12) ** 0.5)
    assert found["mae_diag"] == pytest.approx(6 / 6)
    assert found["mae_off_diag"] == pytest.approx(1.5 / 6)
    assert found["mae_mean_diag"] == pytest.approx((2 / 3 + 0) / 2)
    # Each off-diagonal component counts twice in the norm.
    assert found["frobenius"] == pytest.approx((14**0.5 + 2.5**0.5) / 2)


def test_derived_errors_by_hand():
    true = np.array([np.diag([2.0, 4.0, 8.0]), np.diag([4.0, 4.0, 4.0])])
    predicted = np.array([np.diag([8.0, 2.0, 5.0]), np.diag([4.3, 4.3, 4.3])])
    found = metrics.tensor_metrics(predicted, true, ELECTRONIC)
    assert found["mae_eigenvalues"] == pytest.approx((0 + 1 + 0 + 3 * 0.3) / 6)  # sorted: 2 5 8 against 2 4 8
    assert found["mae_anisotropy"] == pytest.approx(0, abs=1e-12)
    index = (abs(5**0.5 - (14 / 3) ** 0.5) + abs(4.3**0.5 - 2)) / 2
    assert found["mae_refractive_index"] == pytest.approx(index)
    assert (found["within_25"], found["within_10"], found["within_5"]) == (0.5, 0.5, 0.0)  # 7.5 %, and far off
    assert [found[f"n_{name}_undefined"] for name in ("anisotropy", "relative", "refractive_index")] == [0, 0, 0]


def test_anisotropy_is_that_of_the_eigenvalues():
    rotation = Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix()
    true = (rotation @ np.diag([2.0, 3.0, 6.0]) @ rotation.T)[None]
    predicted = np.diag([2.0, 2.0, 2.5])[None]
    assert metrics.tensor_metrics(predicted, true, TOTAL)["mae_anisotropy"] == pytest.approx(3.0 - 1.25)


def test_only_electronic_tensors_have_a_refractive_index():
    tensors = symmetric(np.random.default_rng(0), 3)
    for quantity in ("", "dielectric", "ionic dielectric", "total dielectric"):
        target = TensorTarget("any", quantity=quantity)
        assert not [name for name in metrics.tensor_metrics(tensors, tensors, target) if "refractive" in name]


def test_perfect_predictions():
    tensors = symmetric(np.random.default_rng(0), 5)
    found = metrics.tensor_metrics(tensors, tensors, ELECTRONIC)
    assert all(value == 0 for name, value in found.items() if name.startswith(("mae", "rmse", "frob")))
    assert [found[f"within_{p}"] for p in (25, 10, 5)] == [1, 1, 1]


def test_frame_free_metrics_under_rotations_proper_and_not():
    rng = np.random.default_rng(1)
    true = symmetric(rng, 40)
    predicted = true + 0.3 * (symmetric(rng, 40) - symmetric(rng, 40))
    before = metrics.tensor_metrics(predicted, true, ELECTRONIC)
    turn = Rotation.random(40, rng=rng).as_matrix() * rng.choice([-1, 1], size=40)[:, None, None]
    back = turn.transpose(0, 2, 1)
    after = metrics.tensor_metrics(turn @ predicted @ back, turn @ true @ back, ELECTRONIC)
    assert before.keys() == after.keys()
    for name, value in before.items():
        if name in FRAME_BOUND:
            assert abs(after[name] - value) > 1e-5, name
        else:
            assert after[name] == pytest.approx(value, abs=1e-10), name


def test_asymmetric_noise_is_averaged_out():
    rng = np.random.default_rng(2)
    true, skew = symmetric(rng, 4), rng.normal(size=(4, 3, 3))
    predicted = true + 0.1
    expected = metrics.tensor_metrics(predicted, true, TOTAL)
    found = metrics.tensor_metrics(predicted + skew - skew.transpose(0, 2, 1), true, TOTAL)
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_undefined_crystals_are_left_out_counted_and_listed():
    good = np.diag([2.0, 2.0, 4.0])
    true = np.stack([good, np.zeros((3, 3)), good, np.diag([0.05, 1.0, 1.0])])
    predicted = np.stack([good * 1.2, 0.01 * np.eye(3), np.diag([-1.0, 2.0, 4.0]), np.diag([0.06, 1.0, 1.0])])
    keys = ["fine", "elemental", "negative", "near-zero"]
    found = metrics.tensor_metrics(predicted, true, IONIC)
    assert metrics.undefined(predicted, true, keys, IONIC) == {
        "anisotropy": ["elemental", "negative", "near-zero"],
        "relative": ["elemental"],
    }
    assert found["n_anisotropy_undefined"] == 3
    assert found["n_relative_undefined"] == 1
    assert found["mae_anisotropy"] == pytest.approx(0)
    assert found["within_25"] == pytest.approx(2 / 3)  # of the three that are defined
    assert found["mae_ten"] == pytest.approx((0.4 + 0.4 + 0.8 + 0.03 + 3 + 0.01) / 24)  # of all four


def test_negative_trace_has_no_refractive_index():
    true, predicted = np.stack([4 * np.eye(3)] * 2), np.stack([9 * np.eye(3), -np.eye(3)])
    found = metrics.tensor_metrics(predicted, true, ELECTRONIC)
    assert (found["mae_refractive_index"], found["n_refractive_index_undefined"]) == (pytest.approx(1.0), 1)
    assert metrics.undefined(predicted, true, ["a", "b"], ELECTRONIC)["refractive_index"] == ["b"]


def test_small_tensors_of_other_quantities_are_not_near_zero():
    true = 1e-3 * np.stack([np.diag([1.0, 2.0, 3.0]), np.zeros((3, 3))])
    found = metrics.tensor_metrics(1.2 * true, true, TensorTarget("expansion", unit="1/K"))
    assert (found["n_relative_undefined"], found["within_25"], found["within_10"]) == (1, 1.0, 0.0)
    assert metrics.tensor_metrics(1.2 * true, true, IONIC)["n_relative_undefined"] == 2


def test_no_crystals():
    none = np.zeros((0, 3, 3))
    found = metrics.tensor_metrics(none, none, ELECTRONIC)
    assert found["n"] == 0
    assert all(value is None for name, value in found.items() if not name.startswith("n"))
    assert all(value == 0 for name, value in found.items() if name.startswith("n_"))
    assert metrics.summarise(none, none, [], TOTAL) == {"all": metrics.tensor_metrics(none, none, TOTAL)}


def test_bad_arrays():
    tensors = symmetric(np.random.default_rng(0), 3)
    broken = tensors.copy()
    broken[1, 0, 2] = np.nan
    with pytest.raises(ZooError, match=r"1 of 3 .*learning_rate"):
        metrics.tensor_metrics(broken, tensors, TOTAL)
    with pytest.raises(ValueError, match="true tensor"):
        metrics.tensor_metrics(tensors, broken, TOTAL)
    with pytest.raises(ValueError, match="shape"):
        metrics.tensor_metrics(tensors[:2], tensors, TOTAL)
    with pytest.raises(ValueError, match="shape"):
        metrics.tensor_metrics(tensors[..., :2, :2], tensors[..., :2, :2], TOTAL)


def test_summary_by_crystal_system():
    true = np.stack([2 * np.eye(3)] * 4)
    predicted = true + np.array([0.0, 0.6, 1.2, 1.8])[:, None, None] * np.eye(3)
    found = metrics.summarise(predicted, true, ["cubic", "trigonal", "cubic", "monoclinic"], TOTAL)
    assert list(found) == ["all", "monoclinic", "trigonal", "cubic"]
    assert {name: (found[name]["n"], round(found[name]["mae_diag"], 9)) for name in found} == {
        "all": (4, 0.9),
        "cubic": (2, 0.6),
        "trigonal": (1, 0.6),
        "monoclinic": (1, 1.8),
    }
    with pytest.raises(ValueError, match="rhombohedral"):
        metrics.summarise(predicted, true, ["cubic", "rhombohedral", "cubic", "cubic"], TOTAL)


def test_over_seeds():
    seeds = [{"mae_ten": 1.0, "mae_anisotropy": None}, {"mae_ten": 2.0, "mae_anisotropy": 0.5}, {}]
    assert metrics.over_seeds(seeds) == {
        "mae_ten": {"mean": 1.5, "std": pytest.approx(0.5**0.5), "each": [1.0, 2.0, None]},  # ddof = 1
        "mae_anisotropy": {"mean": 0.5, "std": None, "each": [None, 0.5, None]},
    }
    assert metrics.over_seeds([{"mae_ten": None}]) == {"mae_ten": {"mean": None, "std": None, "each": [None]}}
    assert metrics.over_seeds([]) == {}


def test_everything_is_json_without_nan():
    true = np.zeros((1, 3, 3))
    content = [
        metrics.over_seeds([metrics.tensor_metrics(true, true, ELECTRONIC)]),
        derived.describe(true[0], ELECTRONIC),
    ]
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_mean_baseline():
    train = np.stack([np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 4.0, 4.0])])  # mean tr/3: 3
    test = np.stack([np.diag([3.0, 5.0, 3.0])])
    assert metrics.mean_baseline(train, test, TOTAL)["mae_ten"] == pytest.approx(2 / 6)
    assert metrics.mean_baseline(train, test, ELECTRONIC)["mae_mean_diag"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("target", "expected"), [("total", 3.4459), ("ionic", 2.2026), ("electronic", 1.9197)])
def test_mean_baseline_of_the_embedded_table(table, target, expected):
    """The numbers were computed from the table as published (e_total, e_electronic), without this package."""
    assert len(table[target]) == 1041
    assert metrics.mean_baseline(table[target], table[target], DIELECTRIC[target])["mae_ten"] == pytest.approx(
        expected, abs=1e-3
    )


def test_what_is_undefined_in_the_embedded_table(table):
    """Electronic and total tensors exceed the vacuum's; some ionic ones vanish."""
    for target, relative, anisotropy in (("electronic", 0, 0), ("total", 0, 0), ("ionic", 2, 32)):
        found = metrics.tensor_metrics(table[target], table[target], DIELECTRIC[target])
        assert (found["n_relative_undefined"], found["n_anisotropy_undefined"]) == (relative, anisotropy)


def test_description_by_hand():
    found = derived.describe(np.diag([6.0, 2.0, 4.0]), ELECTRONIC)
    assert found["eigenvalues"] == pytest.approx([2, 4, 6])
    np.testing.assert_allclose(found["axes"], [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-12)
    assert (found["polycrystalline"], found["anisotropy"]) == (pytest.approx(4), pytest.approx(3))
    assert found["refractive_index"] == pytest.approx(2)
    assert "refractive_index" not in derived.describe(np.eye(3), TOTAL)
    assert derived.describe(np.diag([-1.0, 2.0, 3.0]), IONIC)["anisotropy"] is None
    assert derived.describe(-np.eye(3), ELECTRONIC)["refractive_index"] is None


def test_axes_of_real_tensors(table):
    """Unit eigenvectors, right-handed, and the tensor comes back from them."""
    for tensor in table["total"]:
        axes, values = derived.principal_axes(tensor), np.linalg.eigvalsh(tensor)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1)
        size = np.abs(values).max()
        np.testing.assert_allclose(axes.T @ np.diag(values) @ axes, tensor, atol=2e-4 * size)


def test_axes_turn_with_the_crystal():
    """Up to sign, where eigenvalues differ."""
    rng = np.random.default_rng(3)
    for turn in Rotation.random(20, rng=rng).as_matrix():
        tensor = symmetric(rng, 1)[0]
        before, after = derived.principal_axes(tensor), derived.principal_axes(turn @ tensor @ turn.T)
        np.testing.assert_allclose(np.abs(np.sum(after * (before @ turn.T), axis=1)), 1, atol=1e-9)


@pytest.mark.parametrize("optic", [[0, 0, 1], [1, 0, 0], [1, 1, 1], [1, -1, 0], [0.2, -0.5, 0.7]])
@pytest.mark.parametrize("values", [(2.0, 2.0, 5.0), (2.0, 5.0, 5.0), (3.0, 3.0, 3.0), (2.0, 3.0, 5.0)])
def test_axes_do_not_follow_rounding(optic, values):
    """Degenerate eigenvalues leave axes to chance; signs always are."""
    optic = np.array(optic) / np.linalg.norm(optic)
    frame = np.linalg.qr(np.column_stack([optic, [0.3, 0.5, -0.4], [0.9, 0.1, 0.6]]))[0].T  # rows, optic axis first
    frame = frame if values[0] != values[1] else frame[[1, 2, 0]]
    tensor = frame.T @ np.diag(values) @ frame
    axes = derived.principal_axes(tensor)
    rng = np.random.default_rng(4)
    for _ in range(20):
        noise = 1e-6 * rng.normal(size=(3, 3))
        np.testing.assert_allclose(derived.principal_axes(tensor + noise + noise.T), axes, atol=1e-4)
    np.testing.assert_allclose(axes.T @ np.diag(values) @ axes, tensor, atol=1e-9)


ELASTICITY = TensorTarget("elasticity", "ijkl=jikl=klij", unit="GPa", quantity="elastic")


def stiffness(*lame: tuple[float, float]) -> np.ndarray:
    """Isotropic stiffnesses of λ and μ: bulk modulus λ + 2 μ / 3, shear modulus μ."""
    d = np.eye(3)
    first = np.einsum("ij,kl->ijkl", d, d)
    second = np.einsum("ik,jl->ijkl", d, d) + np.einsum("il,jk->ijkl", d, d)
    return np.stack([a * first + b * second for a, b in lame])


def test_elastic_stiffnesses_by_hand():
    true, predicted = stiffness((60, 30), (40, 50)), stiffness((63, 30), (40, 44))
    found = metrics.tensor_metrics(predicted, true, ELASTICITY)
    assert found["mae_bulk_modulus"] == pytest.approx((3 + 4) / 2)
    assert found["mae_shear_modulus"] == pytest.approx((0 + 6) / 2)
    # Of 21 components, in the first C11.. and C12.. are off by 3; in the second C11.. by 12 and C44.. by 6.
    assert found["mae_ten"] == pytest.approx((6 * 3 + 3 * 12 + 3 * 6) / 42)
    assert found["frobenius"] == pytest.approx(np.linalg.norm((predicted - true).reshape(2, -1), axis=1).mean())
    assert found["frobenius_0e"] == pytest.approx(found["frobenius"])
    assert found["frobenius_2e"] == pytest.approx(0, abs=1e-9) and found["frobenius_4e"] == pytest.approx(0, abs=1e-9)
    assert "mae_diag" not in found and "mae_anisotropy" not in found
    assert found["within_5"] == 0.5
    answer = derived.describe(true[0], ELASTICITY)
    assert (answer["bulk_modulus"], answer["shear_modulus"]) == (pytest.approx(80), pytest.approx(30))
    np.testing.assert_allclose(np.diag(answer["voigt"]), [120, 120, 120, 30, 30, 30])


def test_unstable_stiffnesses_are_counted():
    true, predicted = stiffness((60, 30), (40, 50)), stiffness((60, -30), (40, 50))
    found = metrics.tensor_metrics(predicted, true, ELASTICITY)
    assert (found["n_bulk_modulus_undefined"], found["mae_bulk_modulus"]) == (1, pytest.approx(0, abs=1e-9))
    assert metrics.undefined(predicted, true, ["a", "b"], ELASTICITY)["shear_modulus"] == ["a"]
    assert derived.describe(predicted[0], ELASTICITY)["bulk_modulus"] is None


def test_parts_of_a_general_tensor():
    """Born charges: trace, antisymmetric part and the rest apart; their squares add up."""
    target = TensorTarget("born", "ij", per_atom=True)
    error = np.random.default_rng(5).normal(size=(1, 3, 3))
    found = metrics.tensor_metrics(error, np.zeros((1, 3, 3)), target)
    skew = (error - error.transpose(0, 2, 1)) / 2
    assert found["frobenius_0e"] == pytest.approx(abs(np.trace(error[0])) / 3**0.5)
    assert found["frobenius_1e"] == pytest.approx(np.linalg.norm(skew))
    assert sum(found[f"frobenius_{ir}"] ** 2 for ir in ("0e", "1e", "2e")) == pytest.approx(found["frobenius"] ** 2)
    assert found["mae_ten"] == pytest.approx(np.abs(error).mean())  # all nine are independent
    assert "mae_eigenvalues" not in found


def test_mean_baseline_keeps_the_invariants_alone():
    train = stiffness((60, 30), (40, 50)) + np.random.default_rng(6).normal(size=(1, 3, 3, 3, 3))
    found = metrics.mean_baseline(train, stiffness((50, 40)), ELASTICITY)
    assert found["frobenius_2e"] == pytest.approx(0, abs=1e-9)
    assert 0 < found["frobenius_0e"] < 10
