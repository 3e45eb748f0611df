"""The same crystal twice: same reduced formula, same space group, volume of the formula unit within 2 %."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from zoo.contract.plugin import Record
from zoo.data.symmetry import space_group

VOLUME_TOLERANCE = 0.02


class KnownCrystals:
    """Crystals to compare with. Space groups are determined only where formula and volume already agree."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._by_formula: dict[str, list[_Crystal]] = defaultdict(list)
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Let it be known from now on."""
        crystal = _Crystal(record)
        self._by_formula[crystal.formula].append(crystal)

    def same_as(self, record: Record) -> Record | None:
        """The first one added that this is a duplicate of, else None. An unknown space group equals none."""
        crystal = _Crystal(record)
        for known in self._by_formula.get(crystal.formula, ()):
            volumes = (crystal.volume, known.volume)
            if max(volumes) - min(volumes) > VOLUME_TOLERANCE * max(volumes):
                continue
            if crystal.space_group is not None and crystal.space_group == known.space_group:
                return known.record
        return None


class _Crystal:
    """What is compared; volume in Å³ a formula unit."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.formula, units = record.structure.composition.get_reduced_formula_and_factor()
        self.volume = record.structure.volume / units

    @cached_property
    def space_group(self) -> int | None:
        return space_group(self.record)
