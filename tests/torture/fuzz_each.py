"""So many changed inputs of each kind: `python -m torture --only fuzz --each 10000 --out fuzz.csv`.

The counts are written as they come. Begun again with the same seed and file, it goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torture.cases import FAILED, REFUSED, SURVIVED
from torture.fuzz import Fuzz, Worker
from torture.inputs import INPUTS
from torture.made import Made

COLUMNS = ("input", "seed", "tried", SURVIVED, REFUSED, FAILED, "longest_seconds", "most_megabytes")
EVERY = 10.0  # s between two writings of the counts


def go(made: Made, chosen: argparse.Namespace) -> int:
    """Go through the kinds, or through one case of one; 1 where any case failed."""
    fuzz = Fuzz(made, chosen.seed)
    fuzz.prepare()
    places = [place for place, one in enumerate(INPUTS) if chosen.input in (None, one.what)]
    if chosen.each is None:
        worker = Worker(made, chosen.seed)
        found = worker.ask(chosen.case or 0, places[0])
        worker.end()
        print(found["how"], f"{found['verdict']}: {found['why']}", sep="\n")
        return int(found["verdict"] == FAILED)
    counts = Counts(chosen.out, chosen.seed)
    for place in places:
        _all_of(made, place, counts, chosen.each)
    return int(any(row[FAILED] for row in counts.rows.values()))


def _all_of(made: Made, place: int, counts: Counts, until: int) -> None:
    worker, what = Worker(made, counts.seed), INPUTS[place].what
    row = counts.row(what)
    with tqdm(total=until, initial=row["tried"], desc=what, unit=" cases", disable=None) as bar:
        for number in range(row["tried"], until):
            found = worker.ask(number, place)
            if not worker.lives:
                worker = Worker(made, counts.seed)
            counts.add(what, found)
            if found["verdict"] == FAILED:
                again = f"--seed {counts.seed} --only fuzz --input '{what}' --case {number}"
                bar.write(f"{again}: {found['how'][:300]}: {found['why']}")
            bar.update()
    worker.end()
    counts.write()


class Counts:
    """The table, as a file that is always whole.

    Attributes:
        seed: of the cases that are counted now.
        rows: by input and seed.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.seed, self._path, self._written = seed, path, time.monotonic()
        self.rows: dict[tuple[str, int], dict[str, Any]] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    numbers = {k: float(v) if "_" in k else int(v) for k, v in row.items() if k != "input"}
                    self.rows[row["input"], int(row["seed"])] = {"input": row["input"], **numbers}

    def row(self, what: str) -> dict[str, Any]:
        """The counts of a kind of input with this seed, so far."""
        return self.rows.setdefault((what, self.seed), dict.fromkeys(COLUMNS, 0) | {"input": what, "seed": self.seed})

    def add(self, what: str, found: dict[str, Any]) -> None:
        """One more case."""
        row = self.row(what)
        row["tried"] += 1
        row[found["verdict"]] += 1
        row["longest_seconds"] = max(row["longest_seconds"], round(found.get("seconds", 0.0), 2))
        row["most_megabytes"] = max(row["most_megabytes"], round(found.get("grown", 0) / 1e6, 1))
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        """Write it down."""
        self._written = time.monotonic()
        partial = self._path.with_name(f"{self._path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows.values())
        partial.replace(self._path)
