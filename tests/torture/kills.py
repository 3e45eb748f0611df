"""A run is killed, or its disk fails, at a write, fsync or rename; then it is resumed and must end as if it had not.

The operations are those of `inject`, of a run that begins with an empty cache; every third case fails twice.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from torture import child, facts
from torture.cases import FAILED, SURVIVED, Facts, Outcome, Tried, difference_of, draws, judged
from torture.child import Ended
from torture.made import Made

HOW = ("kill", "kill", "kill", "ENOSPC", "EIO")


class Kills:
    """Cases, each a run of its own."""

    def __init__(self, made: Made, seed: int) -> None:
        self.made, self.seed = made, seed

    def run(self, numbers: Iterable[int]) -> Iterator[Tried]:
        """Go through cases by their numbers."""
        expected = facts.of_files(self.made.run, facts.RUN)
        for number in numbers:
            random = draws(self.seed, "kills", number)
            place = self.made.case
            place.mkdir()
            try:
                yield self._case(number, random, place, expected)
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def notes(self) -> list[str]:
        """Tell the number of writes, fsyncs and renames of a run."""
        count = Counter(kind for kind, _ in self.made.operations)
        each = ", ".join(f"{n} of {kind}" for kind, n in sorted(count.items()))
        return [f"a run with an empty cache has {len(self.made.operations)} operations: {each}"]

    def _case(self, number: int, random: np.random.Generator, place: Path, expected: Facts) -> Tried:
        at, how = _drawn(random, self.made.operations), HOW[int(random.integers(len(HOW)))]
        kind, path = self.made.operations[at - 1]
        what = f"{'killed' if how == 'kill' else how} at a {kind}"
        told = f"operation {at}, {kind} of {path}"
        ended = self._zoo(place, at, how)
        fault = self._fault(ended, how)
        if fault is None and number % 3 == 2 and ended.returncode:
            at = int(random.integers(1, 150))
            told += f", then operation {at} of its resumption"
            ended = self._zoo(place, at, how)
            fault = self._fault(ended, how)
        if fault is not None:
            return Tried(number, what, told, fault)
        if ended.returncode == 0:  # the fault was in what may be missing
            return Tried(number, what, told, judged(ended, lambda: _difference(place, expected)))
        ended = self._zoo(place, 0, how)
        outcome = judged(ended, lambda: _difference(place, expected))
        if outcome.verdict != SURVIVED:
            outcome = Outcome(FAILED, f"is not resumed: {outcome.why}")
        return Tried(number, what, told, outcome)

    @staticmethod
    def _fault(ended: Ended, how: str) -> Outcome | None:
        """Judge how the run with the fault ended; None where that is as it should be."""
        if how == "kill" and ended.returncode == -9 and not ended.hung:
            return None
        outcome = judged(ended, lambda: None)
        return outcome if outcome.verdict == FAILED else None

    def _zoo(self, place: Path, at: int, how: str) -> Ended:
        """Begin the run, or go on with it."""
        begun = (place / "run" / "recipe.yaml").is_file()
        command = ["run", "--resume", "run"] if begun else ["run", str(self.made.place / "small.yaml"), "--out", "run"]
        if not begun:
            shutil.rmtree(place / "run", ignore_errors=True)  # as a user would: nothing is in it to go on with
        if (place / "run" / "metrics.json").is_file():
            return Ended(0, "", "", 0.0, False)  # it is finished: there is nothing to resume
        env = {"ZOO_CACHE": str(place / "cache"), "ZOO_TORTURE_ROOT": str(place)}
        env |= {"ZOO_TORTURE_FAIL_AT": str(at), "ZOO_TORTURE_HOW": how, "ZOO_TORTURE_LOG": str(place / "operations")}
        return child.zoo(*command, cwd=place, log=place / "log", env=env)


def _drawn(random: np.random.Generator, operations: list[tuple[str, str]]) -> int:
    """One of all or, as often, of those of one kind and file, so that what is written once has its turn."""
    labels = sorted(set(operations))
    label = labels[int(random.integers(len(labels)))]
    alike = [at for at, one in enumerate(operations, 1) if one == label]
    return int(random.choice(range(1, len(operations) + 1) if random.random() < 0.5 else alike))


def _difference(place: Path, expected: Facts) -> str | None:
    return difference_of(facts.of_files(place / "run", facts.RUN), expected)
