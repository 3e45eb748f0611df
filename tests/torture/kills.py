"""A run, screening or discovery is killed, or its disk fails, at a write, fsync or rename; then it is resumed.

It must end as if nothing had happened. The operations are those of `inject`, of a work that begins with an empty cache;
every third case fails twice. The module `every` goes through all operations.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from torture import inject, works
from torture.cases import FAILED, SURVIVED, Outcome, Tried, difference_of, draws, judged
from torture.child import Ended
from torture.made import Made
from torture.works import WORKS, Untouched, Work

HOW = ("kill", "kill", "kill", "ENOSPC", "EIO")


class Kills:
    """Cases, each a work of its own."""

    def __init__(self, made: Made, seed: int) -> None:
        self.made, self.seed = made, seed
        self._untouched: dict[str, Untouched] = {}

    def run(self, numbers: Iterable[int]) -> Iterator[Tried]:
        """Go through cases by their numbers."""
        for number in numbers:
            random = draws(self.seed, "kills", number)
            work = WORKS[int(random.choice(len(WORKS), p=[one.share for one in WORKS]))]
            operations = self.untouched(work).operations
            at, how = _drawn(random, operations), HOW[int(random.integers(len(HOW)))]
            again = int(random.integers(1, 150)) if number % 3 == 2 else None
            what = f"{work.name}, {'killed' if how == 'kill' else how} at a {operations[at - 1][0]}"
            outcome, told = self.case(work, at, how, again)
            yield Tried(number, what, told, outcome)

    def notes(self) -> list[str]:
        """Tell the number of writes, fsyncs and renames of each work."""
        lines = []
        for name, one in self._untouched.items():
            count = Counter(kind for kind, _ in one.operations)
            each = ", ".join(f"{n} of {kind}" for kind, n in sorted(count.items()))
            lines.append(f"a {name} with an empty cache has {len(one.operations)} operations: {each}")
        return lines

    def untouched(self, work: Work) -> Untouched:
        """The work with no fault, made when it is first asked for."""
        if work.name not in self._untouched:
            self._untouched[work.name] = works.untouched(work, self.made)
        return self._untouched[work.name]

    def case(self, work: Work, at: int, how: str, again: int | None = None) -> tuple[Outcome, str]:
        """Let a work fail at an operation and, with `again`, its resumption at that one of its own; resume it.

        Returns:
            How it ended, and what was done.
        """
        expected, place = self.untouched(work), self.made.case
        kind, path = expected.operations[at - 1]
        told = f"{work.name}, {how} at operation {at}, {kind} of {path}"
        try:
            ended = work.go(self.made, at, how)
            done = inject.operations(place / "operations")
            if done[: at - 1] != expected.operations[: at - 1]:
                return Outcome(FAILED, "its operations are others than before"), told
            fault = fault_of(ended, how)
            if fault is None and again is not None and ended.returncode:
                told += f", then operation {again} of its resumption"
                ended = work.go(self.made, again, how)
                fault = fault_of(ended, how)
            if fault is not None:
                return fault, told
            if ended.returncode:
                ended = work.go(self.made, 0, how)
                outcome = judged(ended, lambda: difference_of(work.found(place), expected.found))
                if outcome.verdict != SURVIVED:
                    outcome = Outcome(FAILED, f"is not resumed: {outcome.why}")
                return outcome, told
            # The fault was in what may be missing.
            return judged(ended, lambda: difference_of(work.found(place), expected.found)), told
        finally:
            shutil.rmtree(place, ignore_errors=True)


def fault_of(ended: Ended, how: str) -> Outcome | None:
    """Judge how the work with the fault ended; None where that is as it should be."""
    if how == "kill" and ended.returncode == -9 and not ended.hung:
        return None
    outcome = judged(ended, lambda: None)
    return outcome if outcome.verdict == FAILED else None


def _drawn(random: np.random.Generator, operations: list[tuple[str, str]]) -> int:
    """One of all or, as often, of those of one kind and file, so that what is written once has its turn."""
    labels = sorted(set(operations))
    label = labels[int(random.integers(len(labels)))]
    alike = [at for at, one in enumerate(operations, 1) if one == label]
    return int(random.choice(range(1, len(operations) + 1) if random.random() < 0.5 else alike))
