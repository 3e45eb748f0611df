"""Irreps that follow from others by tensor products of features with themselves."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations_with_replacement

from e3nn.o3 import Irrep

Path = tuple[Irrep, Irrep, Irrep]
"""Left factor, right factor, product."""


def paths(given: Iterable[Irrep], wanted: Iterable[Irrep]) -> list[Path]:
    """All products of two of the given irreps, each pair in one order, that are wanted."""
    targets = set(wanted)
    pairs = combinations_with_replacement(sorted(set(given)), 2)
    return [(left, right, made) for left, right in pairs for made in left * right if made in targets]


def products_to_reach(given: Iterable[Irrep], wanted: Iterable[Irrep]) -> int | None:
    """Return how many products in a row lead from the given irreps to all the wanted ones; None where none do."""
    levels = _levels(set(given), set(wanted))
    return len(levels) - 1 if set(wanted) <= levels[-1] else None


def plan(given: Iterable[Irrep], wanted: Iterable[Irrep], products: int) -> list[set[Irrep]]:
    """The irreps before each of some products in a row and, last, behind them: the wanted ones.

    Each set is made of the one before by products, or handed on. It holds of the given irreps those that something
    comes of, and no others but those without which a wanted one is out of reach: nothing is made in vain.

    Args:
        given: what there is.
        wanted: reachable, see `products_to_reach`.
        products: at least as many as that says, and at least one.
    """
    start = set(given)
    levels = _levels(start, set(wanted))
    sets = [set(wanted)]
    for step in range(products - 1, -1, -1):
        within = set(start)
        for irrep in sorted(sets[0]):
            if irrep not in within and not paths(within, [irrep]):
                reachable = levels[min(step, len(levels) - 1)]
                left, right, _ = min(paths(reachable, [irrep]), key=lambda path: (path[0].l + path[1].l, path))
                within |= {left, right}
        sets.insert(0, {irrep for irrep in within if _leads_somewhere(irrep, within, sets[0])})
    return sets


def _leads_somewhere(irrep: Irrep, among: set[Irrep], wanted: set[Irrep]) -> bool:
    # Invariants gate all the others, so they always do.
    return irrep == Irrep("0e") or irrep in wanted or any(irrep in path[:2] for path in paths(among, wanted))


def _levels(given: set[Irrep], wanted: set[Irrep]) -> list[set[Irrep]]:
    """Return the irreps that zero, one, two, ... products in a row reach, until all are there or nothing new comes.

    Products of a higher degree than is wanted are left out: what they lead to, the factors lead to as well.
    """
    highest = max(irrep.l for irrep in wanted)
    levels = [given]
    while not wanted <= levels[-1]:
        pairs = combinations_with_replacement(sorted(levels[-1]), 2)
        more = {made for left, right in pairs for made in left * right if made.l <= highest}
        if more <= levels[-1]:
            break
        levels.append(levels[-1] | more)
    return levels
