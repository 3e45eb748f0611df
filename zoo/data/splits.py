"""Splits into training, validation and test part, by key."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.config.dataset_settings import Splitting
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json


@dataclass(frozen=True)
class Split:
    """Keys of the three parts."""

    train: list[str]
    val: list[str]
    test: list[str]


def split(keys: Sequence[str], formulas: Sequence[str], splitting: Splitting, seed: int) -> Split:
    """Split n records by their keys and reduced formulas; their order does not matter.

    The seed is `splitting.seed` or, where that is None, `seed`.

    random is the DTNet paper's (npj Comput. Mater. 10, 265): keys sorted as strings, then scikit-learn's
    train_test_split twice. formula fills test, then validation, with whole formulas in random order to the same sizes.
    file takes test and validation part from a file; what it does not name is the training part.

    Raises:
        ZooError: so few records that a part would be empty, or fewer in the training part than `splitting.train`; the
            file cannot be read, or names records that are not there.
    """
    chosen = seed if splitting.seed is None else splitting.seed
    if splitting.path is not None:
        parts = _as_in(Path(splitting.path), keys)
        return parts if splitting.train is None else replace(parts, train=_first(parts.train, splitting.train, chosen))
    n_test = math.ceil(splitting.test * len(keys))
    n_val = math.ceil(splitting.val / (1 - splitting.test) * (len(keys) - n_test))
    if n_test + n_val >= len(keys):
        raise ZooError(f"{len(keys)} records are too few to split into training, validation and test part")
    if splitting.kind == "random":
        parts = _random(sorted(keys), splitting, chosen)
    else:
        parts = _by_formula(keys, formulas, n_test, n_val, chosen)
        if not (parts.train and parts.val and parts.test):
            raise ZooError("too few different formulas to split by formula; set split.kind: random")
    return parts if splitting.train is None else replace(parts, train=_first(parts.train, splitting.train, chosen))


def _first(keys: list[str], wanted: int | float, seed: int) -> list[str]:
    """Return the first keys of one shuffled order, so that a smaller set is part of every larger one."""
    count = wanted if isinstance(wanted, int) else max(1, round(wanted * len(keys)))
    if count > len(keys):
        raise ZooError(f"split.train asks for {count} crystals, the training part has {len(keys)}")
    order = np.random.default_rng(seed).permutation(len(keys))
    return [sorted(keys)[i] for i in order[:count]]


def _as_in(path: Path, keys: Sequence[str]) -> Split:
    content = read_json(path)
    try:
        val, test = (list(map(str, content[part])) for part in ("val", "test"))
    except (TypeError, KeyError):
        raise ZooError(f"split.path: {path} is no split: it holds no lists 'val' and 'test'") from None
    missing = sorted({*val, *test} - set(keys))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ZooError(f"split.path: {path} names '{missing[0]}'{more}, which the data have not got")
    if not val or not test or set(val) & set(test):
        raise ZooError(f"split.path: {path}: validation and test part must hold crystals, and none in common")
    train = sorted(set(keys) - {*val, *test})
    if not train:
        raise ZooError(f"split.path: {path} leaves no crystal to train on")
    return Split(train, val, test)


def _random(keys: list[str], splitting: Splitting, seed: int) -> Split:
    from sklearn.model_selection import train_test_split  # half a second to import, and recipes need this module

    rest, test = train_test_split(keys, test_size=splitting.test, random_state=seed)
    train, val = train_test_split(rest, test_size=splitting.val / (1 - splitting.test), random_state=seed)
    return Split(train, val, test)


def _by_formula(keys: Sequence[str], formulas: Sequence[str], n_test: int, n_val: int, seed: int) -> Split:
    test, left = fill(groups_of_formulas(keys, formulas, seed), n_test)
    val, left = fill(left, n_val)
    return Split([key for group in left for key in group], val, test)


def groups_of_formulas(keys: Sequence[str], formulas: Sequence[str], seed: int) -> list[list[str]]:
    """Return the keys of each formula, the formulas in an order that the seed draws."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key, formula in sorted(zip(keys, formulas, strict=True)):
        groups[formula].append(key)
    names = sorted(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    return [groups[names[i]] for i in order]


def fill(groups: list[list[str]], size: int) -> tuple[list[str], list[list[str]]]:
    """Return the keys of the first groups that fit into `size` (or one more, if nearer), and the other groups."""
    chosen: list[str] = []
    left: list[list[str]] = []
    for group in groups:
        if len(chosen) + len(group) <= size:
            chosen += group
        else:
            left.append(group)
    missing = size - len(chosen)
    if missing and left:
        smallest = min(left, key=len)
        if len(smallest) - missing < missing:
            chosen += smallest
            left.remove(smallest)
    return chosen, left
