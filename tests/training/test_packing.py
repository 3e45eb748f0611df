"""Batches by edges, and the shares of several processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.training.packing import Packing, partition

SIZES = np.random.default_rng(0).lognormal(5, 0.8, size=300).astype(np.int64)

some_sizes = st.lists(st.integers(0, 2000), max_size=60).map(lambda sizes: np.array(sizes, dtype=np.int64))


@given(some_sizes, st.integers(1, 1500), st.integers(0, 5))
def test_every_crystal_is_in_one_batch_and_no_batch_is_over_the_budget(
    sizes: np.ndarray, budget: int, seed: int
) -> None:
    packing = Packing(sizes, budget)
    for batches in (packing.batches(), packing.batches(np.random.default_rng(seed))):
        assert len(batches) == len(packing), "the same number in every epoch"
        assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
        assert all(len(batch) == 1 or sizes[batch].sum() <= budget for batch in batches)


def test_the_batches_are_as_equal_as_can_be() -> None:
    packing = Packing(SIZES, 4000)
    loads = [SIZES[batch].sum() for batch in packing.batches(np.random.default_rng(1))]
    assert len(packing) <= 1 + SIZES.sum() / 4000
    assert max(loads) - min(loads) < 0.1 * np.mean(loads)


@pytest.mark.parametrize("budget", [SIZES.max(), 4000, 16000])
def test_chance_decides_who_is_with_whom(budget: int) -> None:
    """The shares of pairs that two epochs have in common is that of independent draws, not more."""
    packing = Packing(SIZES, budget)

    def together(epoch: int) -> set[tuple[int, int]]:
        batches = packing.batches(np.random.default_rng((0, epoch)))
        return {(a, b) for batch in batches for a in batch for b in batch if a < b}

    first, second = together(1), together(2)
    expected = len(first) * len(second) / (len(SIZES) * (len(SIZES) - 1) / 2)
    assert len(first & second) < 1.3 * expected + 10
    assert together(1) == first, "the seed and the epoch alone decide"


@given(some_sizes, st.integers(1, 5))
def test_shares_are_whole_and_balanced(sizes: np.ndarray, count: int) -> None:
    parts = partition(sizes, count)
    assert len(parts) == count
    assert sorted(i for part in parts for i in part) == list(range(len(sizes)))
    loads = [np.maximum(sizes[part], 1).sum() for part in parts]
    assert max(loads) - min(loads) <= max(sizes, default=0) + 1
