"""Cases of the harness: their random numbers (from seed, kind and number) and the ways in which they can end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from torture.child import Ended

SURVIVED, REFUSED, FAILED = "survived", "refused", "failed"

Facts = Mapping[str, str]
"""Name -> what it holds, in short: two results are the same where these are."""


@dataclass(frozen=True)
class Outcome:
    """Verdict on a case, with its reason."""

    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Tried:
    """A case that is over.

    Attributes:
        number: of the case.
        what: the line of the table that it belongs to.
        how: what exactly was done.
        outcome: how it ended.
    """

    number: int
    what: str
    how: str
    outcome: Outcome


class Kind(Protocol):
    """A kind of torture."""

    def run(self, numbers: Iterable[int]) -> Iterator[Tried]:
        """Go through cases by their numbers."""

    def notes(self) -> list[str]:
        """Lines that the table ends with."""


def draws(seed: int, kind: str, number: int) -> np.random.Generator:
    """The random numbers of one case."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), number])


def judged(ended: Ended, difference: Callable[[], str | None]) -> Outcome:
    """Judge the end of a command; `difference` tells how its result differs from the untouched one, or None."""
    if ended.hung:
        return Outcome(FAILED, f"does not end within {ended.seconds:.0f} s")
    if "Traceback (most recent call last)" in ended.stderr or ended.returncode not in (0, 2):
        return Outcome(FAILED, f"exit code {ended.returncode}: {ended.last_line}")
    if ended.returncode == 2:
        one_line = ended.last_line.startswith("zoo: ")
        return Outcome(REFUSED if one_line else FAILED, ended.last_line)
    found = difference()
    return Outcome(SURVIVED) if found is None else Outcome(FAILED, f"exit code 0, but {found}")


def difference_of(found: Facts, expected: Facts) -> str | None:
    """In a few words, what of one result is not as in the other."""
    missing = sorted(set(expected) - set(found))
    if missing:
        return f"there is no {missing[0]}" + (f" (nor {len(missing) - 1} more)" if missing[1:] else "")
    more = sorted(set(found) - set(expected))
    if more:
        return f"there is {more[0]}, which was not"
    other = [name for name in expected if found[name] != expected[name]]
    return f"another {', '.join(other[:4])}" if other else None


def each(folder: Path, *patterns: str) -> list[Path]:
    """The files below a folder that the patterns match, in order."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
