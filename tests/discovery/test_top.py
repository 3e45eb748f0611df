"""The best of many candidates, each crystal once."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.duplicates import Identity, KnownCrystals
from zoo.discovery.scoring import Rejected
from zoo.discovery.screen import _second
from zoo.discovery.top_k import Best, Member


def gone_through(members: list[Member], size: int, chunk: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Keys of the best, and (place, place of who was replaced), as a screening finds them in chunks."""
    best, replaced = Best(size), []
    for start in range(0, len(members), chunk):
        for one in sorted(members[start : start + chunk], key=lambda one: (-one.score, one.index)):
            if not best.takes(one.score, one.index):
                break
            twins = best.twins(one.key, one.identity)
            if isinstance(_second(one.key, one.score, twins), Rejected):
                continue
            best.add(one, twins[0] if twins else None)
            replaced += [(one.index, twin.index) for twin in twins]
    return [best._keys[index] for index in best._top.indices], replaced


@pytest.mark.parametrize("seed", range(20))
def test_of_the_same_crystal_the_best_one_is_chosen_in_whatever_order_they_come(seed: int) -> None:
    random = np.random.default_rng(seed)
    crystals = random.integers(0, 40, 120)
    scores = random.permutation(120).astype(float)
    members = [
        Member(index, scores[index], f"c{index}", Identity(f"c{index}", f"A{crystal}", 10.0, 1))
        for index, crystal in enumerate(crystals)
    ]
    by_crystal: dict[int, Member] = {}
    for one in sorted(members, key=lambda one: -one.score):
        by_crystal.setdefault(int(crystals[one.index]), one)
    expected = [one.key for one in by_crystal.values()][:8]
    for chunk in (1, 7, 120):
        found, replaced = gone_through(members, 8, chunk)
        assert found == expected
        assert all(crystals[new] == crystals[old] and scores[new] > scores[old] for new, old in replaced)


def test_one_that_has_left_the_best_bars_nobody() -> None:
    alike = [Member(n, score, key, Identity(key, "A", 10.0, 1)) for n, (score, key) in enumerate([(1, "a"), (3, "c")])]
    other = Member(2, 2.0, "b", Identity("b", "B", 10.0, 1))
    assert gone_through([alike[0], other, alike[1]], 1, 1)[0] == ["c"]
    same_key = [Member(0, 1.0, "a", None), Member(1, 3.0, "a", None), Member(2, 2.0, "a", None)]
    assert gone_through(same_key, 3, 1) == (["a"], [(1, 0)])


def test_two_twins_of_one_stay() -> None:
    """A volume between two that are no twins of each other."""
    low, high, between = (
        Member(n, score, key, Identity(key, "A", volume, 1))
        for n, (score, key, volume) in enumerate([(1.0, "low", 100.0), (2.0, "high", 103.0), (3.0, "between", 101.5)])
    )
    assert gone_through([low, high, between], 3, 1) == (["high", "low"], [])


def test_what_is_discarded_is_known_no_longer() -> None:
    a, b = (Identity(key, "A", 10.0, 1) for key in "ab")
    known = KnownCrystals([a, b])
    assert list(known.twins(a)) == ["a", "b"]
    known.discard(a)
    assert known.same_as(a) == "b"
