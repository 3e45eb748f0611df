"""Crystals that are not in the running: they have been calculated, or asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymatgen.core import Structure

from zoo.contract.plugin import Record
from zoo.data.duplicates import Identity, KnownCrystals


@dataclass(frozen=True)
class KnownOrChosen:
    """Crystals that need no calculation, because they are known or have been chosen already.

    Attributes:
        keys: theirs.
        crystals: they themselves: a candidate may be one of them under another key; None: that is not looked for.
    """

    keys: frozenset[str] = frozenset()
    crystals: KnownCrystals | None = None


def identity_of(key: str, structure: Structure, properties: Mapping[str, Any]) -> Identity:
    """Identify a crystal; a space group that its source states goes before spglib's, as in training."""
    return Identity.of(Record(key, structure, {}, properties))
