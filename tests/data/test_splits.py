import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from zoo.config.dataset_settings import Splitting
from zoo.data.splits import split
from zoo.errors import ZooError


def parted(crystals, splitting, seed):
    """The split of (key, formula) pairs."""
    return split([key for key, _ in crystals], [formula for _, formula in crystals], splitting, seed)


def named(*keys):
    return [(key, "X") for key in keys]


def keys_of(parts):
    return [*parts.train, *parts.val, *parts.test]


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_random_is_the_paper_s(seed):
    keys = [f"mp-{i}" for i in range(5, 400, 3)]
    ordered = sorted(keys)
    train, test = train_test_split(ordered, test_size=0.1, random_state=seed)
    train, val = train_test_split(train, test_size=0.1 / 0.9, random_state=seed)
    parts = parted(named(*reversed(keys)), Splitting(), seed)
    assert (parts.train, parts.val, parts.test) == (train, val, test)


def test_known_split():
    """Frozen, so that results of different versions are of the same split."""
    parts = parted(named(*[f"mp-{i}" for i in range(30)]), Splitting(), 0)
    assert (parts.test, parts.val) == (["mp-10", "mp-8", "mp-20"], ["mp-4", "mp-28", "mp-9"])


def test_own_seed_comes_first():
    records = named(*[str(i) for i in range(50)])
    assert parted(records, Splitting(seed=3), 0) == parted(records, Splitting(), 3) != parted(records, Splitting(), 0)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=12, max_size=60),
    seed=st.integers(0, 100),
    kind=st.sampled_from(["random", "formula"]),
)
def test_every_key_is_in_one_part(sizes, seed, kind):
    records = [(f"{i}-{j}", f"F{i}") for i, size in enumerate(sizes) for j in range(size)]
    parts = parted(records, Splitting(kind=kind), seed)
    assert sorted(keys_of(parts)) == sorted(key for key, _ in records)
    assert parts.train and parts.val and parts.test
    assert parts == parted(records[::-1], Splitting(kind=kind), seed)
    if kind == "formula":
        formulas = [{key.split("-")[0] for key in part} for part in (parts.train, parts.val, parts.test)]
        assert len(set.union(*formulas)) == sum(map(len, formulas))
        reference = parted(records, Splitting(), seed)
        assert abs(len(parts.test) - len(reference.test)) <= 2  # half the largest group
        assert abs(len(parts.val) - len(reference.val)) <= 2


def test_a_formula_stays_together_and_moves_with_the_seed():
    formulas = ("NaCl", "KCl", "LiF", "MgO", "CaO", "SrO", "BaO", "ZnS")
    records = [(f"{formula}-{i}", formula) for formula in formulas for i in (1, 2)]
    tests = []
    for seed in range(4):
        parts = parted(records, Splitting(kind="formula", test=0.25, val=0.25), seed)
        assert len(parts.test) == len(parts.val) == 4
        for part in (parts.train, parts.val, parts.test):
            assert all(f"{key[:-1]}{other}" in part for key in part for other in "12")
        tests.append(tuple(sorted(parts.test)))
    assert len(set(tests)) > 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few(count):
    with pytest.raises(ZooError, match="too few"):
        parted(named(*[str(i) for i in range(count)]), Splitting(), 0)


def test_too_few_formulas():
    with pytest.raises(ZooError, match="few different formulas"):
        parted(named(*[str(i) for i in range(20)]), Splitting(kind="formula"), 0)


def test_parts_must_leave_something():
    with pytest.raises(ValueError, match="less than 1"):
        Splitting(test=0.5, val=0.5)


def test_shares():
    parts = parted(named(*[str(i) for i in range(100)]), Splitting(test=0.2, val=0.3), 0)
    np.testing.assert_array_equal([len(parts.train), len(parts.val), len(parts.test)], [50, 30, 20])


@pytest.mark.parametrize("kind", ["random", "formula"])
@pytest.mark.parametrize("seed", [0, 7])
def test_smaller_training_sets_are_parts_of_larger_ones(kind, seed):
    records = [(f"{i}", f"X{i % 40}") for i in range(200)]
    whole = parted(records, Splitting(kind=kind), seed)
    before = set()
    for train in (1, 20, 0.25, 0.5, 100, 1.0):
        parts = parted(records, Splitting(kind=kind, train=train), seed)
        assert (parts.val, parts.test) == (whole.val, whole.test)
        count = train if isinstance(train, int) else round(train * len(whole.train))
        assert len(parts.train) == len(set(parts.train)) == count
        assert before < set(parts.train) <= set(whole.train)
        before = set(parts.train)
    assert before == set(whole.train)


def test_small_training_sets_are_random_and_follow_the_seed():
    records = named(*[f"{i:03d}" for i in range(200)])
    fixed = Splitting(seed=3, train=20)
    assert parted(records, fixed, 0) == parted(list(reversed(records)), fixed, 1)
    part, whole = parted(records, fixed, 0).train, parted(records, Splitting(seed=3), 0).train
    assert part not in (sorted(whole)[:20], whole[:20])
    assert set(part) != set(parted(records, Splitting(seed=4, train=20), 0).train)


def test_a_training_set_larger_than_there_is():
    with pytest.raises(ZooError, match=r"161 crystals.* 160"):
        parted(named(*[str(i) for i in range(200)]), Splitting(train=161), 0)
    for wrong in (0, -1, 1.5, 0.0):
        with pytest.raises(ValueError, match="train"):
            Splitting(train=wrong)
