"""Twins: crystals that two sources have in common, whatever the volumes and functionals of their calculations.

A model that is tested on a crystal must not have learned from its twin. `zoo.data.duplicates` finds duplicates within
one source, whose volumes agree within 2 %; between functionals they do not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tqdm import tqdm

from zoo.contract.plugin import Record
from zoo.data.symmetry import ENANTIOMORPHS, space_group

_MP_ID = re.compile(r"(mp|mvc)-\d+")


@dataclass(frozen=True)
class Twin:
    """A crystal of one source and the same crystal in another.

    Attributes:
        a, b: their keys.
        by: what tells that they are the same: the Materials Project id, formula and space group, or, where several
            crystals have these, pymatgen's StructureMatcher.
    """

    a: str
    b: str
    by: Literal["id", "space group", "structure"]


def twins(a: Iterable[Record], b: Iterable[Record]) -> list[Twin]:
    """Return all pairs of twins between two sources, in the order of the first.

    Crystals with one Materials Project id are twins. Others are if they have reduced formula and space group in common;
    where that is in doubt (several crystals of a source have these, or both have an id, and not the same), if
    StructureMatcher, which scales the volumes, finds them alike. The space groups are spglib's, with one tolerance;
    mirror images are twins.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher  # half a second to import

    matcher = StructureMatcher()
    first, second = list(a), list(b)
    found = [[Twin(one.key, other.key, "id") for other in others] for one, others in _of_one_id(first, second)]
    place = {id(one): number for number, one in enumerate(first)}
    alike = _of_one_kind(first, second)
    for ours, theirs in tqdm(alike, desc="comparing", unit=" kinds", disable=None, leave=False):
        for one in ours:
            for other in theirs:
                ids = mp_id(one), mp_id(other)
                if None not in ids and ids[0] == ids[1]:
                    continue
                sure = len(ours) == len(theirs) == 1 and None in ids
                if sure or matcher.fit(one.structure, other.structure):
                    found[place[id(one)]].append(Twin(one.key, other.key, "space group" if sure else "structure"))
    return [twin for several in found for twin in several]


def mp_id(record: Record) -> str | None:
    """Return the Materials Project id of a record: its property `mp_id`, else its key where that is one; or None."""
    given = record.properties.get("mp_id")
    if isinstance(given, str) and given:
        return given
    return record.key if _MP_ID.fullmatch(record.key) else None


def _of_one_id(first: Sequence[Record], second: Sequence[Record]) -> list[tuple[Record, list[Record]]]:
    by_id: dict[str, list[Record]] = defaultdict(list)
    for record in second:
        name = mp_id(record)
        if name is not None:
            by_id[name].append(record)
    return [(record, by_id.get(mp_id(record) or "", [])) for record in first]


def _of_one_kind(first: Sequence[Record], second: Sequence[Record]) -> list[tuple[list[Record], list[Record]]]:
    """Return the records that have formula and space group in common; of most crystals the formula says enough."""
    sides = [_by_formula(records) for records in (first, second)]
    common = sides[0].keys() & sides[1].keys()
    wanted = [record for side in sides for formula in common for record in side[formula]]
    numbers = {
        id(record): space_group(record.structure) or 0  # by one tolerance, not the source's own
        for record in tqdm(wanted, desc="space groups", unit=" crystals", disable=None, leave=False)
    }
    groups = {name: ENANTIOMORPHS.get(number, number) for name, number in numbers.items()}
    pairs = []
    for formula in sorted(common):
        for number in sorted({groups[id(record)] for record in sides[0][formula]} - {0}):
            ours, theirs = ([r for r in side[formula] if groups[id(r)] == number] for side in sides)
            if theirs:
                pairs.append((ours, theirs))
    return pairs


def _by_formula(records: Sequence[Record]) -> dict[str, list[Record]]:
    by_formula: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_formula[record.structure.composition.reduced_formula].append(record)
    return by_formula
