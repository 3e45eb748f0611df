"""Duplicate crystals: same reduced formula, same space group, volume of the formula unit within 2 %."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zoo.contract.plugin import Record
from zoo.data.symmetry import space_group

VOLUME_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """The quantities by which duplicates are recognised.

    Attributes:
        key: name of the crystal.
        formula: reduced formula.
        volume: Å³ per formula unit.
        space_group: number of the space group; None where spglib finds none: such a crystal equals no other.
    """

    key: str
    formula: str
    volume: float
    space_group: int | None

    @classmethod
    def of(cls, record: Record) -> Identity:
        """Return the identity of a record; its space group is the one that it holds, else spglib's."""
        formula, units = record.structure.composition.get_reduced_formula_and_factor()
        return cls(record.key, formula, record.structure.volume / units, space_group(record))


class KnownCrystals:
    """Set of crystals in which duplicates of another crystal are looked up."""

    def __init__(self, crystals: Iterable[Identity] = ()) -> None:
        self._alike: dict[tuple[str, int], list[Identity]] = defaultdict(list)
        for crystal in crystals:
            self.add(crystal)

    def add(self, crystal: Identity) -> None:
        """Add a crystal."""
        if crystal.space_group is not None:
            self._alike[crystal.formula, crystal.space_group].append(crystal)

    def discard(self, crystal: Identity) -> None:
        """Remove a crystal."""
        if crystal.space_group is not None:
            self._alike[crystal.formula, crystal.space_group].remove(crystal)

    def twins(self, crystal: Identity) -> Iterator[str]:
        """Return the keys of the crystals of which this is a duplicate, in the order in which they were added."""
        if crystal.space_group is None:
            return
        for known in self._alike.get((crystal.formula, crystal.space_group), ()):
            volumes = (crystal.volume, known.volume)
            if max(volumes) - min(volumes) <= VOLUME_TOLERANCE * max(volumes):
                yield known.key

    def same_as(self, crystal: Identity) -> str | None:
        """Return the key of the first crystal added of which this is a duplicate, else None."""
        return next(self.twins(crystal), None)
