"""Wall-clock time by activity."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

STARTED = time.monotonic()
"""When this module was imported: of a command, before all that takes its time to import (`zoo.cli.main`)."""


def since_start() -> float:
    """Return for how many seconds this process has been working, its imports with them."""
    return time.monotonic() - STARTED


class Stopwatch:
    """Adds up the wall clock of what is done `with watch("something"):`.

    Attributes:
        seconds: by name, in the order in which they first came.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time of the block under `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begin
