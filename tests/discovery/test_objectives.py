"""Objectives and acquisitions on numbers worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from zoo.api import Acquisition, Objective, TensorTarget
from zoo.config import plugins
from zoo.discovery.acquisitions import log_improvement, spread
from zoo.discovery.candidate_source import number
from zoo.errors import ZooError

TENSORS = np.stack([np.diag([3.0, 6.0, 9.0]), np.diag([2.0, 2.0, 2.0]), np.diag([0.5, -1.0, 8.0])])
VALUES = np.array([[1.0, 4.0, 5.0], [3.0, 4.0, 1.0]])  # two members, three candidates


def made(kind: str, name: str, **settings: object) -> Objective | Acquisition:
    return plugins.load(kind, name)(plugins.hypers(kind, name, settings))


def test_polycrystalline_is_a_third_of_the_trace() -> None:
    assert made("objective", "polycrystalline").values(TENSORS, [{}] * 3).tolist() == pytest.approx([6, 2, 2.5])


def test_figure_of_merit_is_the_constant_times_the_gap() -> None:
    gaps = [{"band_gap": gap} for gap in (2.0, 5, 0.0)]
    merit = made("objective", "figure-of-merit")
    assert merit.values(TENSORS, gaps).tolist() == pytest.approx([12, 10, 0])
    assert merit.properties == ("band_gap",)


def test_figure_of_merit_takes_a_gap_for_those_without_one() -> None:
    merit = made("objective", "figure-of-merit", assumed_gap=2.0)
    assert merit.values(TENSORS, [{}, {"band_gap": 5}, {"band_gap": "unknown"}]).tolist() == pytest.approx([12, 10, 5])
    assert merit.required() == () and made("objective", "figure-of-merit").required() == ("band_gap",)
    with pytest.raises(ZooError, match="assumed_gap"):
        made("objective", "figure-of-merit", assumed_gap=0)


def test_anisotropy_is_floored_and_free_of_the_frame() -> None:
    anisotropy = made("objective", "anisotropy")
    assert anisotropy.values(TENSORS, [{}] * 3).tolist() == pytest.approx([3, 1, 8])  # 8 / the vacuum's 1
    assert made("objective", "anisotropy", floor=0.5).values(TENSORS, [{}] * 3)[2] == pytest.approx(16)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = turn @ TENSORS @ turn.T
    np.testing.assert_allclose(anisotropy.values(turned, [{}] * 3), [3, 1, 8])
    assert anisotropy.non_molecular
    with pytest.raises(ZooError, match="floor"):
        made("objective", "anisotropy", floor=0)
    with pytest.raises(ZooError, match=r"floor.*finite"):
        made("objective", "anisotropy", floor=math.inf)


@pytest.mark.parametrize("name", ["polycrystalline", "figure-of-merit", "anisotropy"])
def test_only_tensors_with_eigenvalues_have_these(name: str) -> None:
    objective = plugins.load("objective", name)
    assert objective.cannot_use(TensorTarget("total")) is None
    for other in (TensorTarget("piezo", "ijk=ikj"), TensorTarget("born", "ij", per_atom=True)):
        assert other.name in objective.cannot_use(other)


def test_upper_confidence_bound_greedy_and_random() -> None:
    root = 2**0.5
    ucb = made("acquisition", "ucb").scores(VALUES, None, "abc", 0)
    assert ucb.tolist() == pytest.approx([2 + 1.5 * root, 4, 3 + 3 * root])  # ddof = 1
    assert made("acquisition", "ucb", kappa=0).scores(VALUES, None, "abc", 0).tolist() == [2, 4, 3]
    assert made("acquisition", "greedy").scores(VALUES, None, "abc", 0).tolist() == [2, 4, 3]
    drawn = made("acquisition", "random").scores(VALUES, None, "abc", 0)
    again = made("acquisition", "random").scores(VALUES[:, ::-1], None, "cba", 0)
    assert drawn.tolist() == again[::-1].tolist(), "the order of the candidates must not matter"
    assert drawn.tolist() != made("acquisition", "random").scores(VALUES, None, "abc", 1).tolist()
    assert drawn.min() >= 0 and drawn.max() < 1 and len(set(drawn)) == 3


def test_random_is_uniform() -> None:
    drawn = made("acquisition", "random").scores(np.zeros((1, 4000)), None, [f"mp-{i}" for i in range(4000)], 7)
    assert np.histogram(drawn, 4, (0, 1))[0] == pytest.approx([1000] * 4, abs=120)  # 4 standard deviations


def test_expected_improvement() -> None:
    """At z = 0 it is σ/sqrt(2π); where the members agree, what they are above the best; else the integral."""
    improvement = made("acquisition", "expected-improvement")
    found = np.exp(improvement.scores(VALUES, 3.0, "abc", 0))
    assert found[1:].tolist() == pytest.approx([1.0, 8**0.5 / (2 * np.pi) ** 0.5])
    draws = np.random.default_rng(0).normal(2, 2**0.5, 1_000_000)
    assert found[0] == pytest.approx(np.maximum(draws - 3, 0).mean(), rel=0.01)
    assert np.exp(improvement.scores(VALUES, 5.0, "abc", 0)[1]) == 0
    assert plugins.load("acquisition", "expected-improvement").needs_best


def test_expected_improvement_ranks_as_the_plain_formula_does() -> None:
    values = np.random.default_rng(0).normal(8, 3, (5, 2000))
    mean, sigma = values.mean(0), spread(values)
    for best in (2.0, 9.0, 14.0):
        z = (mean - best) / sigma
        plain = (mean - best) * norm.cdf(z) + sigma * norm.pdf(z)
        scores = made("acquisition", "expected-improvement").scores(values, best, [""] * 2000, 0)
        np.testing.assert_allclose(np.exp(scores), plain, rtol=1e-7)
        assert np.argsort(-scores).tolist() == np.argsort(-plain).tolist()


def test_far_below_the_best_candidates_still_differ() -> None:
    """With the plain formula all of them are 0."""
    mean = np.linspace(10, 17, 100)[np.random.default_rng(0).permutation(100)]
    values = mean + 0.3 * np.array([[-1], [1]]) / 2**0.5
    scores = made("acquisition", "expected-improvement").scores(values, 90.0, [""] * 100, 0)
    assert np.argsort(-scores).tolist() == np.argsort(-mean).tolist()


def test_members_that_agree_are_last_and_in_the_order_of_their_means() -> None:
    values = np.array([[16.0, 3, 17, 90, 10, 91], [16.0, 3, 17, 90, 10.001, 91]])
    scores = made("acquisition", "expected-improvement").scores(values, 90.0, [""] * 6, 0)
    assert np.argsort(-scores).tolist() == [5, 3, 4, 2, 0, 1]
    assert scores[5] == pytest.approx(0)
    assert json.loads(json.dumps(scores.tolist(), allow_nan=False)) == scores.tolist()


@pytest.mark.parametrize("z", [1e100, 9, 0.5, 0, -0.999, -1, -1.001, -5, -38, -999.9, -1000, -1000.1, -1e8, -1e100])
def test_log_improvement_is_the_integral(z: float) -> None:
    """Of t φ(t - z) over t > 0; below -1 of t = s/|z|, with φ(z) taken out."""
    if z > 8:
        expected = math.log(z)
    elif z > -1:
        expected = math.log(quad(lambda t: t * norm.pdf(t - z), 0, np.inf, epsabs=0)[0])
    else:
        taken_out = quad(lambda s: s * math.exp(-s - 0.5 * (s / z) ** 2), 0, np.inf, epsabs=0)[0]
        expected = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 2 * math.log(-z) + math.log(taken_out)
    assert log_improvement(np.array([z]))[0] == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("kappa", [math.nan, math.inf, -math.inf])
def test_kappa_is_a_number(kappa: float) -> None:
    with pytest.raises(ZooError, match=r"kappa.*finite"):
        made("acquisition", "ucb", kappa=kappa)


def test_what_is_no_finite_number_is_not_known() -> None:
    for rubbish in (True, "wide", None, math.nan, math.inf, 10**400):
        assert number({"band_gap": rubbish}, "band_gap") is None
    assert number({"band_gap": 2}, "band_gap") == 2.0
