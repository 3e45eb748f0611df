"""A source of candidates: what every kind of it gives, one candidate after another."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pymatgen.core import Structure

from zoo.errors import ZooError


@dataclass(frozen=True)
class Found:
    """A candidate as it stands in a source; its structure is read only when it is asked for.

    Attributes:
        key: its name, `printable`; a candidate without one cannot be read.
        properties: numbers and texts that are known of it.
        read: gives the structure, or raises the ZooError that says why there is none.
    """

    key: str
    read: Callable[[], Structure]
    properties: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", printable(self.key))
        if not self.key.strip():
            object.__setattr__(self, "read", partial(given_structure, ZooError("has no key")))


def printable(text: str) -> str:
    """A text that can be written down: names of files and strings of JSON need not be valid Unicode.

    What is not becomes `\\udcff` and the like.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def number(properties: Mapping[str, Any], name: str) -> float | None:
    """A property that is a finite number; None where it is not known."""
    value = properties.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return result if math.isfinite(result) else None


class Source(ABC):
    """Candidates in a fixed order, of which only a few are in memory."""

    @abstractmethod
    def found(self, start: int = 0) -> Iterator[Found]:
        """All from number `start` on, counted from 0.

        Raises:
            ZooError: the source as a whole cannot be read.
        """

    def total(self) -> int | None:
        """Return the number of candidates where it is known without reading them, else None."""
        return None


def given_structure(structure: Structure | ZooError) -> Structure:
    """The structure, or raise the error that stands in its place."""
    if isinstance(structure, ZooError):
        raise structure
    return structure
