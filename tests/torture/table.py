"""The table that ends it all: a line for each thing that was tried, and how to repeat what failed."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from torture.cases import FAILED, REFUSED, SURVIVED, Tried
from torture.known import reason_of

KNOWN = "known"
COLUMNS = ("kind", "what was tried", "tried", SURVIVED, "refused in one line", KNOWN, "FAILED")


class Table:
    """Counts, and the cases that failed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.notes: list[str] = []
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._failed: list[str] = []
        self._known: dict[str, int] = {}

    def add(self, kind: str, tried: Tried) -> None:
        """A case that is over."""
        verdict = tried.outcome.verdict
        if verdict == FAILED:
            reason = reason_of(kind, tried)
            again = f"--seed {self.seed} --only {kind} --case {tried.number}"
            if reason is None:
                self._failed.append(f"{again}: {tried.what}: {tried.how}: {tried.outcome.why}")
            else:
                verdict = KNOWN
                self._known[f"{kind}: {tried.what}: {reason}"] = (
                    self._known.get(f"{kind}: {tried.what}: {reason}", 0) + 1
                )
        self._counts.setdefault((kind, tried.what), Counter())[verdict] += 1

    @property
    def failed(self) -> int:
        """Number of failures that are not in KNOWN."""
        return len(self._failed)

    @property
    def rows(self) -> list[tuple[str | int, ...]]:
        """The lines, and one for all."""
        found: list[tuple[str | int, ...]] = []
        for (kind, what), counts in sorted(self._counts.items()):
            found.append((kind, what, counts.total(), *(counts[v] for v in (SURVIVED, REFUSED, KNOWN, FAILED))))
        sums = [sum(int(row[i]) for row in found) for i in range(2, len(COLUMNS))]
        return [*found, ("all", "", *sums)]

    def __str__(self) -> str:
        rows = [COLUMNS, *self.rows]
        widths = [max(len(str(row[i])) for row in rows) for i in range(len(COLUMNS))]
        lines = [
            "  ".join(
                str(v).ljust(w) if i < 2 else str(v).rjust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        lines += ["", *self.notes]
        lines += [f"known, {count} times: {text}" for text, count in self._known.items()]
        lines += ["", "failed (python -m torture ...):", *self._failed] if self._failed else []
        return "\n".join(lines).rstrip()

    def write(self, path: Path) -> None:
        """Write the table as a CSV file."""
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *self.rows])
