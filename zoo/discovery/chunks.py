"""Candidates are read and filtered, and what is left is scored, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.contract.discovery import Candidate
from zoo.discovery.candidate_source import Found
from zoo.discovery.filters import CandidateFilter
from zoo.discovery.rows import Row
from zoo.discovery.scoring import Rejected, Scoring
from zoo.errors import ZooError
from zoo.runtime.timing import Stopwatch

ATOMS_AT_ONCE = 10_000  # a chunk of large crystals ends here


def filtered(
    entries: Iterator[Found], start: int, size: int, candidate_filter: CandidateFilter, watch: Stopwatch
) -> Iterator[list[Row]]:
    """Candidates in their order; those without an outcome have passed the filter.

    Args:
        entries: from number `start` of all on.
        size: of a chunk, at most.
        candidate_filter: leaves out.
        watch: takes the times.

    Raises:
        ZooError: as the source.
    """
    while rows := _next(entries, start, size, candidate_filter, watch):
        yield rows
        start += len(rows)


def score(rows: list[Row], scoring: Scoring, watch: Stopwatch) -> None:
    """Give those that have passed the filter their outcome."""
    passed = [row for row in rows if row.outcome is None]
    candidates = [Candidate(row.key, row.structure, row.properties) for row in passed if row.structure is not None]
    for row, outcome in zip(passed, scoring.score(candidates, watch), strict=True):
        row.outcome = outcome


def _next(
    entries: Iterator[Found], start: int, size: int, candidate_filter: CandidateFilter, watch: Stopwatch
) -> list[Row]:
    """One chunk; empty at the end."""
    rows: list[Row] = []
    atoms = 0
    while len(rows) < size and atoms < ATOMS_AT_ONCE:
        with watch("reading"):
            found = next(entries, None)
        if found is None:
            break
        row = Row(start + len(rows), found.key, found.properties)
        _filter(row, found, candidate_filter, watch)
        if row.outcome is None and row.structure is not None:
            atoms += len(row.structure)
        rows.append(row)
    return rows


def _filter(row: Row, found: Found, candidate_filter: CandidateFilter, watch: Stopwatch) -> None:
    with watch("filters"):
        reason = candidate_filter.before_reading(row.key, row.properties)
    if reason is None:
        try:
            with watch("reading"):
                row.structure = found.read()
        except ZooError as error:
            row.outcome = Rejected("failed", "not readable", str(error))
            return
        with watch("filters"):
            reason = candidate_filter.of_structure(row.structure)
    if reason is not None:
        row.outcome = Rejected("filtered", reason)
