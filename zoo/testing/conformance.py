"""The conformance suite: every check as a pytest test."""
# ruff: noqa: D102 (each test is documented by its check)

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from zoo.testing import behaviour, symmetry_checks
from zoo.testing.pair import Pair


class ConformanceTests:
    """Tests that every pair of encoder and readout must pass; subclass it, name the pair, and pytest runs all.

    from zoo.testing import ConformanceTests, Pair

    class TestMyReadout(ConformanceTests):
        pair = Pair("nequip", MyReadout, readout_hypers={"width": 8})

    What the readout declares in `violates` is a strict expected failure: it must fail, by the check itself.
    """

    pair: ClassVar[Pair]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "pair" not in cls.__dict__:
            return
        for check, reason in cls.pair.readout_class.violates.items():
            name = f"test_{check}"
            if not hasattr(cls, name):
                raise TypeError(f"{cls.pair.readout_class.__name__}.violates names '{check}', but there is no {name}")
            setattr(cls, name, _must_fail(getattr(cls, name), reason))

    def test_hypers(self) -> None:
        behaviour.check_hypers(self.pair)

    def test_citation(self) -> None:
        behaviour.check_citation(self.pair)

    def test_contract(self) -> None:
        behaviour.check_contract(self.pair)

    def test_equivariance(self) -> None:
        symmetry_checks.check_equivariance(self.pair)

    def test_embedding_equivariance(self) -> None:
        symmetry_checks.check_embedding_equivariance(self.pair)

    def test_permutation(self) -> None:
        symmetry_checks.check_permutation(self.pair)

    def test_origin_shift(self) -> None:
        symmetry_checks.check_origin_shift(self.pair)

    def test_lattice_shift(self) -> None:
        symmetry_checks.check_lattice_shift(self.pair)

    def test_supercell(self) -> None:
        symmetry_checks.check_supercell(self.pair)

    def test_self_images(self) -> None:
        symmetry_checks.check_self_images(self.pair)

    def test_point_groups(self) -> None:
        symmetry_checks.check_point_groups(self.pair)

    def test_zero_pattern(self) -> None:
        symmetry_checks.check_zero_pattern(self.pair)

    def test_anisotropy(self) -> None:
        symmetry_checks.check_anisotropy(self.pair)

    def test_one_atom(self) -> None:
        behaviour.check_one_atom(self.pair)

    def test_batching(self) -> None:
        behaviour.check_batching(self.pair)

    def test_precomputed(self) -> None:
        behaviour.check_precomputed(self.pair)

    def test_input_not_mutated(self) -> None:
        behaviour.check_input_not_mutated(self.pair)

    def test_gradients_flow(self) -> None:
        behaviour.check_gradients_flow(self.pair)

    def test_gradients_finite(self) -> None:
        behaviour.check_gradients_finite(self.pair)

    def test_trains_after_inference(self) -> None:
        behaviour.check_trains_after_inference(self.pair)

    def test_save_and_load(self) -> None:
        behaviour.check_save_and_load(self.pair)

    def test_float32(self) -> None:
        behaviour.check_float32(self.pair)

    def test_smooth_at_cutoff(self) -> None:
        behaviour.check_smooth_at_cutoff(self.pair)


def _must_fail(test: Callable[..., None], reason: str) -> Callable[..., None]:
    """A copy of the test, for other pairs share the original, as a strict expected failure."""
    import pytest

    @functools.wraps(test)
    def copy(*arguments: Any, **named: Any) -> None:
        test(*arguments, **named)

    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)(copy)
