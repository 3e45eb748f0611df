"""Partition of crystals into batches, and of batches among several processes, by the number of their edges."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np

# How finely crystals are sorted by size before they are batches out: classes a factor of 2, then of 2^(1/8) wide. The
# coarser, the more chance decides who is with whom; the finer, the more alike the batches.
FINENESS = (1, 8)


def partition_in_order(sizes: np.ndarray, order: Iterable[int], count: int) -> list[np.ndarray]:
    """Put each item in turn into that of `count` bins which holds least so far; return each bin's indices into `sizes`.

    In decreasing order of size this is Graham's longest-processing-time rule, SIAM J. Appl. Math. 17, 416 (1969): no
    bin holds more than 4/3 of what the best partition has.
    """
    bins: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for item in order:
        load, number = heap[0]
        bins[number].append(item)
        heapq.heapreplace(heap, (load + int(sizes[item]), number))
    return [np.array(items, dtype=np.int64) for items in bins]


def partition(sizes: np.ndarray, count: int) -> list[np.ndarray]:
    """Partition n items into `count` parts of about equal sums; a part is empty where there are fewer items."""
    sizes = np.maximum(sizes, 1)  # of an isolated atom too
    return partition_in_order(sizes, np.argsort(-sizes, kind="stable").tolist(), count)


class Packing:
    """Crystals in batches of at most `budget` edges, as equal as can be; a crystal that is larger is one by itself.

    The number of batches follows from the sizes alone: it is the same in every epoch, whatever the order.

    Args:
        sizes: (n,) edges of each crystal.
        budget: edges of a batch.
    """

    def __init__(self, sizes: np.ndarray, budget: int) -> None:
        self.sizes = np.maximum(sizes, 1)
        self.budget = budget
        self.alone = np.flatnonzero(self.sizes > budget)
        self.rest = np.flatnonzero(self.sizes <= budget)
        self.largest_first = self.rest[np.argsort(-self.sizes[self.rest], kind="stable")]
        self.bins = -(-int(self.sizes[self.rest].sum()) // budget)
        while self.bins and not self._fits(partition_in_order(self.sizes, self.largest_first.tolist(), self.bins)):
            self.bins += 1

    def __len__(self) -> int:
        return len(self.alone) + self.bins

    def batches(self, random: np.random.Generator | None = None) -> list[np.ndarray]:
        """The crystals of each batch; with `random`, crystals are put together, and the batches ordered, at random."""
        if random is None:
            return [*self.alone[:, None], *partition_in_order(self.sizes, self.largest_first.tolist(), self.bins)]
        batches = [*self.alone[:, None], *self._random_batches(random)]
        return [batches[i] for i in random.permutation(len(batches))]

    def _random_batches(self, random: np.random.Generator) -> list[np.ndarray]:
        shuffled = random.permutation(self.rest)
        for fineness in FINENESS:
            size_class = np.floor(fineness * np.log2(self.sizes[shuffled]))
            order = shuffled[np.argsort(-size_class, kind="stable")]
            batches = partition_in_order(self.sizes, order.tolist(), self.bins)
            if self._fits(batches):
                return batches
        # There is hardly any room to spare: the one way of which it is known that it fits.
        return partition_in_order(self.sizes, self.largest_first.tolist(), self.bins)

    def _fits(self, batches: list[np.ndarray]) -> bool:
        return all(self.sizes[batch].sum() <= self.budget for batch in batches)
