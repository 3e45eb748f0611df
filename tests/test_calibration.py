"""Intervals hold the truth as often as they promise, on crystals like those they were calibrated on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from zoo.contract.target import TensorTarget
from zoo.evaluation import derived
from zoo.evaluation.calibration import LEVELS, Calibration, quantities

TOTAL = TensorTarget("total", quantity="total dielectric")
INDEX = TensorTarget("electronic", quantity="electronic dielectric")
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
    assert measured.keys() == quantities(target).keys()
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
    assert np.mean(narrow["polycrystalline"]) == pytest.approx(10)


def test_one_crystal_s_intervals_are_those_that_were_measured() -> None:
    """`coverage` counts what `intervals` says, one crystal after another."""
    calibration = Calibration.fit(*ensemble(200, 0), TOTAL)
    members, true = ensemble(100, 1)
    within: dict[str, list[bool]] = {"polycrystalline": [], "anisotropy": [], "eigenvalues": [], "tensor": []}
    for k in range(100):
        found, radius = calibration.intervals(members[:, k], TOTAL, 0.8)
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
    assert again == calibration
    with pytest.raises(ValueError, match="polycrystalline"):
        Calibration.from_dict(calibration.as_dict(), ELASTIC)
