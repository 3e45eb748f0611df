"""Pieces of work on all cores of this machine, each by one thread, their results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Number of the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield the results of all items in the order of these, which are taken as they are needed.

    With one worker the items are worked on here, one after another. With more, each is worked on by one thread of
    torch: its own threads gain little on matrices of some thousand rows. The first item is worked on alone, for what
    is made once, when it is first needed.

    Args:
        work: a function that may be called by several threads at the same time.
        items: of any number; at most two a worker wait for their turn.
        workers: number of threads.
    """
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[Result]] = deque()
        alone = True
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if alone or len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
                alone = False
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
