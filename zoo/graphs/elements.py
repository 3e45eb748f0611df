"""Atomic numbers and symbols; crystals that hold an element which an encoder does not know."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from pymatgen.core import Element

from zoo.contract.plugin import Encoder
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import CrystalGraph


@cache
def _table() -> dict[int, str]:
    return {number: Element.from_Z(number).symbol for number in range(1, 119)}


def symbols(numbers: np.ndarray) -> list[str]:
    """Return the symbols of atomic numbers (N,): `["Na", "Cl"]`."""
    table = _table()
    return [table[number] for number in numbers.tolist()]


def symbols_of(numbers: Iterable[int]) -> frozenset[str]:
    """The elements of these atomic numbers."""
    table = _table()
    return frozenset(table[number] for number in numbers if number in table)


def refuse_unknown_elements(encoder: Encoder, keys: Iterable[str], graphs: Iterable[CrystalGraph | Crystal]) -> None:
    """Check that the encoder knows every element, before anything is computed.

    Args:
        encoder: asked for its elements.
        keys: what the crystals are called, in the error.
        graphs: the crystals, or what graphs are made of.

    Raises:
        ZooError: it lacks some; elements and crystals are named.
    """
    known = encoder.elements()
    if known is None:
        return
    unknown: set[int] = set()
    crystals: list[str] = []
    for key, graph in zip(keys, graphs, strict=True):
        missing = set(np.unique(graph.numbers).tolist()) - known
        if missing:
            unknown |= missing
            crystals.append(key)
    if crystals:
        lacking = ", ".join(symbols(np.array(sorted(unknown))))
        names = ", ".join(crystals[:5]) + (f" and {len(crystals) - 5} more" if len(crystals) > 5 else "")
        raise ZooError(
            f"the encoder {type(encoder).__name__} does not know {lacking} (in {names}): "
            "take these crystals out or choose another encoder"
        )
