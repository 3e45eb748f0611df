"""Crystals that are not in the running: they have been calculated, or asked for."""

from __future__ import annotations

from dataclasses import dataclass

from pymatgen.core import Structure

from zoo.contract.plugin import Record
from zoo.data.duplicates import Identity, KnownCrystals


@dataclass(frozen=True)
class Taken:
    """See the module.

    Attributes:
        keys: theirs.
        crystals: they themselves: a candidate may be one of them under another key; None: that is not looked for.
    """

    keys: frozenset[str] = frozenset()
    crystals: KnownCrystals | None = None

    def twin_of(self, key: str, structure: Structure) -> str | None:
        """The key under which a candidate is known already: same formula, space group, volume within 2 %."""
        return None if self.crystals is None else self.crystals.same_as(identity_of(key, structure))


def identity_of(key: str, structure: Structure) -> Identity:
    """What of a crystal is compared."""
    return Identity.of(Record(key, structure, {}))
