"""The best of very many, of which only these few are kept."""

from __future__ import annotations

import heapq


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

    @property
    def indices(self) -> list[int]:
        """Places among all, the best first."""
        return [-index for _, index in sorted(self._heap, reverse=True)]
