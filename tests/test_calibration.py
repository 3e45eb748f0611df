"""Intervals hold the truth as often as they promise, on crystals like those they were calibrated on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from zoo.contract.target import TensorTarget
from zoo.evaluation import derived
from zoo.evaluation.calibration import LEVELS, Calibration
from zoo.evaluation.quantities import quantities

TOTAL = TensorTarget("total", quantity="total dielectric")
INDEX = TensorTarget("electronic", quantity="electronic dielectric")
IONIC = TensorTarget("ionic", quantity="ionic dielectric")
STRAIN = TensorTarget("strain")
ELASTIC = TensorTarget("elastic", formula="ijkl=jikl=klij", unit="GPa", quantity="elastic")


def ensemble(n: int, seed: int, members: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """(members, n, 3, 3) and true (n, 3, 3): errors of each crystal's own size, which its members' spread tells of."""
    random = np.random.default_rng(seed)

    def symmetric(*shape: int) -> np.ndarray:
        one = random.normal(size=(*shape, 3, 3))
        return (one + one.swapaxes(-1, -2)) / 2

    size = random.lognormal(-1, 1, size=(n, 1, 1))
    true = 10 * np.eye(3) + symmetric(n)
    return true + size * symmetric(n) + 0.6 * size * symmetric(members, n), true


@pytest.mark.parametrize("target", [TOTAL, INDEX], ids=lambda target: target.name)
def test_the_promised_share_is_within(target: TensorTarget) -> None:
    calibration = Calibration.fit(*ensemble(20_000, 0), target)
    measured = calibration.coverage(*ensemble(20_000, 1), target)
    assert measured.keys() == quantities(target, calibration.kind).keys()
    assert ("refractive_index" in measured) == (target is INDEX)
    for name, found in measured.items():
        for level in LEVELS:
            covered = found["levels"][str(level)]["covered"]
            assert covered == pytest.approx(level, abs=0.02), (name, level)  # four standard deviations
        widths = [found["levels"][str(level)]["width"] for level in LEVELS]
        assert widths == sorted(widths)


def test_where_members_disagree_the_interval_is_wider() -> None:
    calibration = Calibration.fit(*ensemble(500, 0), TOTAL)
    base = 10 * np.eye(3)
    near, far = (np.stack([base + step * k * np.eye(3) for k in range(-2, 3)]) for step in (0.01, 1.0))
    (narrow, small), (wide, large) = (calibration.intervals(members, TOTAL, 0.9) for members in (near, far))
    assert np.diff(narrow["polycrystalline"]) < np.diff(wide["polycrystalline"])
    assert small is not None and large is not None and small < large
    assert np.sqrt(np.prod(narrow["polycrystalline"])) == pytest.approx(10)


def test_one_crystal_s_intervals_are_those_that_were_measured() -> None:
    """`coverage` counts what `intervals` says, one crystal after another."""
    calibration = Calibration.fit(*ensemble(200, 0), TOTAL)
    members, true = ensemble(100, 1)
    within: dict[str, list[bool]] = {"polycrystalline": [], "anisotropy": [], "eigenvalues": [], "tensor": []}
    for k in range(100):
        found, radius = calibration.intervals(members[:, k], TOTAL, 0.8)
        assert radius is not None
        within["tensor"].append(np.linalg.norm(true[k] - members[:, k].mean(0)) <= radius)
        ends = np.array(found["eigenvalues"])
        values = np.linalg.eigvalsh(true[k])
        within["eigenvalues"].append(bool(((ends[:, 0] <= values) & (values <= ends[:, 1])).all()))
        for name, value in (("polycrystalline", np.trace(true[k]) / 3), ("anisotropy", values[2] / values[0])):
            within[name].append(found[name][0] <= value <= found[name][1])
        assert found["anisotropy"][0] >= 1
    measured = calibration.coverage(members, true, TOTAL)
    for name, each in within.items():
        assert np.mean(each) == pytest.approx(measured[name]["levels"]["0.8"]["covered"]), name


@pytest.mark.parametrize(("target", "bound"), [(TOTAL, 1.0), (INDEX, 1.0), (IONIC, 0.0)], ids=lambda x: str(x)[:20])
def test_no_interval_of_a_dielectric_tensor_ends_below_what_is_possible(target: TensorTarget, bound: float) -> None:
    """Nor does one of a crystal for which some or all members answer with less."""
    calibration = Calibration.fit(*ensemble(500, 0), target)
    near = bound * np.eye(3) + ensemble(1, 2)[0][:, 0] - 10 * np.eye(3)
    for members in (near, near - 3 * np.eye(3), bound * np.ones((2, 1, 1)) * np.eye(3)):
        found, radius = calibration.intervals(members, target, 0.95)
        ends = np.array([found["polycrystalline"], *found["eigenvalues"]])
        assert (ends >= bound).all() and (ends[:, 1] > ends[:, 0]).all() and radius is not None and radius > 0
        if target is INDEX:
            assert np.square(found["refractive_index"]) == pytest.approx(found["polycrystalline"])


def test_the_bound_follows_from_the_quantity() -> None:
    for quantity, name, bound in (
        ("total dielectric", "any", 1.0),
        ("ionic dielectric", "any", 0.0),
        ("dielectric", "electronic", 1.0),
        ("dielectric", "any", 0.0),
        ("", "total", None),
        ("elastic", "total", None),
    ):
        assert derived.lower_bound(TensorTarget(name, quantity=quantity)) == bound
    assert Calibration.fit(*ensemble(50, 0), STRAIN).kind == "linear"


def test_where_errors_are_factors_small_values_get_narrow_intervals() -> None:
    """Each third of the crystals by size has the promised share, which differences of one width would not give."""

    def factors(seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        true = 1 + random.lognormal(1.5, 1, size=(6000, 1, 1)) * np.eye(3)
        common, own = random.normal(size=(1, 6000, 1, 1)), random.normal(size=(5, 6000, 1, 1))
        return np.eye(3) * np.exp(np.log(true[:, :1, :1]) + 0.1 * common + 0.05 * own), true

    members, true = factors(1)
    sizes = np.argsort(true[:, 0, 0])
    for kind, off in (("log", 0.03), ("linear", np.inf)):
        calibration = Calibration.fit(*factors(0), TOTAL, kind)  # type: ignore[arg-type]
        shares = [
            calibration.coverage(members[:, third], true[third], TOTAL)["polycrystalline"]["levels"]["0.8"]["covered"]
            for third in np.split(sizes, 3)
        ]
        if kind == "log":
            assert shares == pytest.approx([0.8] * 3, abs=off)
        else:
            assert shares[0] > 0.85 and shares[2] < 0.77


def test_few_crystals_promise_little() -> None:
    """Nine crystals cannot tell what 95 % are within."""
    calibration = Calibration.fit(*ensemble(9, 0), TOTAL)
    assert set(calibration.scales["polycrystalline"].quantiles) == {0.5, 0.68, 0.8, 0.9}
    members, _ = ensemble(1, 1)
    assert calibration.intervals(members[:, 0], TOTAL, 0.95) == ({}, None)


def test_what_is_undefined_has_no_interval() -> None:
    members, true = ensemble(50, 0)
    members[:, 0] = -np.eye(3)  # no anisotropy ratio
    calibration = Calibration.fit(members, true, TOTAL)
    found, radius = calibration.intervals(members[:, 0], TOTAL, 0.8)
    assert "anisotropy" not in found and "polycrystalline" in found and radius is not None
    assert calibration.coverage(members, true, TOTAL)["anisotropy"]["n"] == 49


def test_moduli_have_intervals_of_a_factor() -> None:
    random = np.random.default_rng(0)
    stiffness = np.einsum("ik,jl->ijkl", np.eye(3), np.eye(3))
    stiffness = 100 * (stiffness + stiffness.swapaxes(2, 3)) / 2
    true = stiffness * random.uniform(0.5, 2, size=(60, 1, 1, 1, 1))
    members = true * random.lognormal(0, 0.1, size=(4, 60, 1, 1, 1, 1))
    calibration = Calibration.fit(members, true, ELASTIC)
    found, _ = calibration.intervals(members[:, 0], ELASTIC, 0.9)
    low, high = found["bulk_modulus"]
    assert 0 < low < derived.describe(members[:, 0].mean(0), ELASTIC)["bulk_modulus"] < high
    assert "anisotropy" not in found


def test_it_survives_json() -> None:
    calibration = Calibration.fit(*ensemble(50, 0), TOTAL)
    again = Calibration.from_dict(json.loads(json.dumps(calibration.as_dict())), TOTAL)
    assert again == calibration and again.kind == "log"
    with pytest.raises(ValueError, match="bogus"):
        Calibration.from_dict({**calibration.as_dict(), "kind": "bogus"}, TOTAL)
    with pytest.raises(ValueError, match="polycrystalline"):
        Calibration.from_dict({**calibration.as_dict(), "kind": "linear"}, ELASTIC)
    with pytest.raises(ValueError, match="lower bound"):
        Calibration.from_dict(calibration.as_dict(), ELASTIC)


def test_intervals_that_were_saved_without_a_kind_are_differences() -> None:
    """Models of format 4 and before: the value ± quantile · (spread + floor), and a factor for the refractive index."""
    scale = {"floor": 0.1, "quantiles": {"0.9": 2.0}}
    names = ("polycrystalline", "eigenvalues", "tensor", "refractive_index")
    old = Calibration.from_dict({"n": 100, "scales": dict.fromkeys(names, scale)}, INDEX)
    assert Calibration.from_dict(json.loads(json.dumps(old.as_dict())), INDEX) == old
    members = np.array([1.0, 1.2])[:, None, None] * np.eye(3)
    spread = np.std([1.0, 1.2], ddof=1)
    found, radius = old.intervals(members, INDEX, 0.9)
    half = 2 * (spread + 0.1)
    assert found["polycrystalline"] == pytest.approx([1.1 - half, 1.1 + half])
    assert found["eigenvalues"][0] == pytest.approx([1.1 - half, 1.1 + half])
    assert radius == pytest.approx(2 * (3**0.5 * spread + 0.1))
    factor = np.exp(2 * (np.log([1.0, 1.2]).std(ddof=1) / 2 + 0.1))
    assert found["refractive_index"] == pytest.approx([1.1**0.5 / factor, 1.1**0.5 * factor])
