"""The best of very many, of which only these few are kept."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from zoo.data.duplicates import Identity, KnownCrystals


class Top:
    """The `size` highest scores that were pushed; of equal ones the earliest candidates."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int]] = []  # the worst first

    def takes(self, score: float, index: int) -> bool:
        """Whether a candidate would be among them."""
        return len(self._heap) < self._size or (score, -index) > self._heap[0]

    def push(self, score: float, index: int) -> int | None:
        """Take a candidate in, if it is among them; `index` is its place among all. The place of who had to go."""
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (score, -index))
            return None
        return -heapq.heappushpop(self._heap, (score, -index))[1]

    def discard(self, index: int) -> None:
        """Take a candidate out, where it is among them."""
        self._heap = [one for one in self._heap if -one[1] != index]
        heapq.heapify(self._heap)

    @property
    def indices(self) -> list[int]:
        """Places among all, the best first."""
        return [-index for _, index in sorted(self._heap, reverse=True)]


@dataclass(frozen=True)
class Member:
    """One of the best.

    Attributes:
        index: its place among all.
        identity: to know the same crystal under another key by; None where that is not looked for.
    """

    index: int
    score: float
    key: str
    identity: Identity | None


class Best:
    """The candidates of the highest scores, each crystal once: of those that are the same, the one of highest score."""

    def __init__(self, size: int) -> None:
        self._top = Top(size)
        self._keys: dict[int, str] = {}
        self._members: dict[str, Member] = {}
        self._alike = KnownCrystals()

    def takes(self, score: float, index: int) -> bool:
        """Whether a candidate that is none of these crystals would be among them."""
        return self._top.takes(score, index)

    def twins(self, key: str, identity: Identity | None) -> list[Member]:
        """List the members with this key, or of this crystal."""
        keys = {key} if key in self._members else set()
        if identity is not None:
            keys.update(self._alike.twins(identity))
        return [self._members[one] for one in sorted(keys)]

    def add(self, member: Member, replaced: Member | None = None) -> None:
        """Take in one that it `takes`, and that has no twin but the one that it replaces."""
        if replaced is not None:
            self._top.discard(replaced.index)
            self._forget(replaced.index)
        gone = self._top.push(member.score, member.index)
        if gone is not None:
            self._forget(gone)
        self._keys[member.index], self._members[member.key] = member.key, member
        if member.identity is not None:
            self._alike.add(member.identity)

    def _forget(self, index: int) -> None:
        member = self._members.pop(self._keys.pop(index))
        if member.identity is not None:
            self._alike.discard(member.identity)
