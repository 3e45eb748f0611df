"""The conformance suite: every check as a pytest test."""
# ruff: noqa: D102 (each test is documented by its check)

from __future__ import annotations

from typing import ClassVar

from zoo.testing import behaviour, symmetry
from zoo.testing.pair import Pair


class ConformanceTests:
    """What every pair of encoder and readout must pass; subclass it, name the pair, and pytest runs all.

    from zoo.testing import ConformanceTests, Pair

    class TestMyReadout(ConformanceTests):
        pair = Pair("nequip", MyReadout, readout_hypers={"width": 8})
    """

    pair: ClassVar[Pair]

    def test_hypers(self) -> None:
        behaviour.check_hypers(self.pair)

    def test_contract(self) -> None:
        behaviour.check_contract(self.pair)

    def test_equivariance(self) -> None:
        symmetry.check_equivariance(self.pair)

    def test_permutation(self) -> None:
        symmetry.check_permutation(self.pair)

    def test_origin_shift(self) -> None:
        symmetry.check_origin_shift(self.pair)

    def test_lattice_shift(self) -> None:
        symmetry.check_lattice_shift(self.pair)

    def test_supercell(self) -> None:
        symmetry.check_supercell(self.pair)

    def test_self_images(self) -> None:
        symmetry.check_self_images(self.pair)

    def test_point_groups(self) -> None:
        symmetry.check_point_groups(self.pair)

    def test_zero_pattern(self) -> None:
        symmetry.check_zero_pattern(self.pair)

    def test_anisotropy(self) -> None:
        symmetry.check_anisotropy(self.pair)

    def test_one_atom(self) -> None:
        behaviour.check_one_atom(self.pair)

    def test_batching(self) -> None:
        behaviour.check_batching(self.pair)

    def test_input_not_mutated(self) -> None:
        behaviour.check_input_not_mutated(self.pair)

    def test_gradients_flow(self) -> None:
        behaviour.check_gradients_flow(self.pair)

    def test_gradients_finite(self) -> None:
        behaviour.check_gradients_finite(self.pair)

    def test_save_and_load(self) -> None:
        behaviour.check_save_and_load(self.pair)

    def test_float32(self) -> None:
        behaviour.check_float32(self.pair)

    def test_smooth_at_cutoff(self) -> None:
        behaviour.check_smooth_at_cutoff(self.pair)
