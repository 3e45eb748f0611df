"""The same crystal twice: same reduced formula, same space group, volume of the formula unit within 2 %."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zoo.contract.plugin import Record
from zoo.data.symmetry import space_group

VOLUME_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """What of a crystal is compared.

    Attributes:
        key: its name.
        formula: reduced.
        volume: Å³ a formula unit.
        space_group: its number; None where spglib finds none: such a crystal equals no other.
    """

    key: str
    formula: str
    volume: float
    space_group: int | None

    @classmethod
    def of(cls, record: Record) -> Identity:
        """Of a record; the space group is the one that it holds, else spglib's."""
        formula, units = record.structure.composition.get_reduced_formula_and_factor()
        return cls(record.key, formula, record.structure.volume / units, space_group(record))


class KnownCrystals:
    """Crystals to compare with."""

    def __init__(self, crystals: Iterable[Identity] = ()) -> None:
        self._alike: dict[tuple[str, int], list[Identity]] = defaultdict(list)
        for crystal in crystals:
            self.add(crystal)

    def add(self, crystal: Identity) -> None:
        """Let it be known from now on."""
        if crystal.space_group is not None:
            self._alike[crystal.formula, crystal.space_group].append(crystal)

    def discard(self, crystal: Identity) -> None:
        """Let it be known no longer."""
        if crystal.space_group is not None:
            self._alike[crystal.formula, crystal.space_group].remove(crystal)

    def twins(self, crystal: Identity) -> Iterator[str]:
        """The keys of those that this is a duplicate of, in the order in which they were added."""
        if crystal.space_group is None:
            return
        for known in self._alike.get((crystal.formula, crystal.space_group), ()):
            volumes = (crystal.volume, known.volume)
            if max(volumes) - min(volumes) <= VOLUME_TOLERANCE * max(volumes):
                yield known.key

    def same_as(self, crystal: Identity) -> str | None:
        """The key of the first one added that this is a duplicate of, else None."""
        return next(self.twins(crystal), None)
