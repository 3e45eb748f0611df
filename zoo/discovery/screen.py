"""Candidates are read, predicted, judged and written down, a chunk at a time."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

import zoo
from zoo.contract.discovery import Candidate
from zoo.discovery import results
from zoo.discovery.candidates import Found, Source, source_of
from zoo.discovery.filters import Sieve
from zoo.discovery.folder import ScreenFolder
from zoo.discovery.judge import Judge, Judged, Left
from zoo.discovery.molecular import is_molecular
from zoo.discovery.rows import Row, table_of
from zoo.discovery.section import Screen
from zoo.discovery.top import Top
from zoo.errors import ZooError, clear_disk_errors
from zoo.stopwatch import Stopwatch
from zoo.weights import sha256_of

ATOMS_AT_ONCE = 10_000  # a chunk of large crystals ends here

Echo = Callable[[str], None]


def screen(made: Screen, folder: ScreenFolder, echo: Echo) -> dict[str, Any]:
    """Screen what a recipe describes, or go on where an earlier call in the same folder was stopped.

    Args:
        made: the recipe.
        folder: where everything goes.
        echo: takes the lines that tell what is going on.

    Returns:
        The content of summary.json.

    Raises:
        ZooError: something that the user can put right.
    """
    predictor = zoo.load(made.model, made.device)
    judge = Judge.of(made, predictor)
    source = source_of(made.candidates)
    members, target = len(predictor.members), predictor.card.target
    echo(f"model     {made.model}: {target.name} tensor, {members} member{'s' if members > 1 else ''}")
    if judge.acquisition.needs_best:
        echo(f"best      {judge.best:.4g} so far" + ("" if made.best is not None else ", among the training crystals"))
    assert predictor.folder is not None
    with clear_disk_errors(folder.path), folder.alone():
        folder.begin(made, {"model": fingerprint(predictor.folder), "best so far": judge.best})
        begin = time.perf_counter()
        walk = Walk(made, folder, judge, source)
        done = walk.go_on()
        speed = {
            "candidates": done,
            "predicted": walk.predicted,
            "seconds": time.perf_counter() - begin,
            "of_which": dict(walk.watch.seconds),
        }
        threshold = None if predictor.reference is None else predictor.reference.threshold
        return results.conclude(made, folder, target, threshold, speed)


def fingerprint(model: Path) -> str:
    """Hash of a model folder's weights and card."""
    digest = hashlib.sha256()
    for path in sorted([model / "model.json", *model.glob("*.safetensors")]):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


class Walk:
    """One way through all candidates; what is behind is in the folder.

    Attributes:
        watch: where the time goes.
        predicted: how many candidates were.
    """

    def __init__(self, made: Screen, folder: ScreenFolder, judge: Judge, source: Source) -> None:
        self.watch = Stopwatch()
        self.predicted = 0
        self._made, self._folder, self._judge, self._source = made, folder, judge, source
        self._sieve = Sieve(made.filters, judge.objective, judge.predictor)
        wanted = made.filters.non_molecular
        self._non_molecular = judge.objective.non_molecular if wanted is None else wanted
        self._top = Top(made.top)

    def go_on(self) -> int:
        """From where the parts in the folder end to the last candidate.

        Returns:
            How many were gone through now.

        Raises:
            ZooError: the candidates are not those that the parts were made of; or as the source.
        """
        rows, last = self._behind()
        entries = self._source.found(max(rows - 1, 0))
        if rows:
            first = next(entries, None)
            if first is None or first.key != last:
                instead = "there are fewer now" if first is None else f"now it is '{first.key}'"
                raise ZooError(
                    f"the candidates have changed since {self._folder.path} was begun: number {rows:,} was '{last}', "
                    f"{instead}; bring them back, or start anew in another folder"
                )
        start = rows
        with tqdm(
            total=self._source.total(), initial=rows, desc="screening", unit=" crystals", disable=None, leave=False
        ) as bar:
            for number in itertools.count(len(self._folder.parts())):
                chunk = self._next(entries, rows)
                if not chunk:
                    return rows - start
                self._decide(chunk)
                with self.watch("writing"):
                    self._folder.add(number, table_of(chunk, self._judge.predictor.card.target))
                rows += len(chunk)
                bar.update(len(chunk))
        raise AssertionError("count() does not end")

    def _behind(self) -> tuple[int, str]:
        """How many candidates the parts hold, and the key of the last one; the best of them are remembered."""
        rows, last = 0, ""
        for table in self._folder.tables(("index", "key", "status", "score")):
            part = table.to_pydict()
            for index, status, score in zip(part["index"], part["status"], part["score"], strict=True):
                if status == "predicted":
                    self._top.push(score, index)
            rows += table.num_rows
            last = part["key"][-1]
        return rows, last

    def _next(self, entries: Iterator[Found], index: int) -> list[Row]:
        """The next candidates, sifted, in their order; none at the end."""
        rows: list[Row] = []
        atoms = 0
        while len(rows) < self._made.chunk and atoms < ATOMS_AT_ONCE:
            with self.watch("reading"):
                found = next(entries, None)
            if found is None:
                break
            row = Row(index + len(rows), found.key, found.properties)
            self._sift(row, found)
            if row.outcome is None and row.structure is not None:
                atoms += len(row.structure)
            rows.append(row)
        return rows

    def _sift(self, row: Row, found: Found) -> None:
        with self.watch("filters"):
            reason = self._sieve.before_reading(row.key, row.properties)
        if reason is None:
            try:
                with self.watch("reading"):
                    row.structure = found.read()
            except ZooError as error:
                row.outcome = Left("failed", "not readable", str(error))
                return
            with self.watch("filters"):
                reason = self._sieve.of_structure(row.structure)
        if reason is not None:
            row.outcome = Left("filtered", reason)

    def _decide(self, rows: list[Row]) -> None:
        """What becomes of those that are through the sieve."""
        asked = [row for row in rows if row.outcome is None]
        candidates = [Candidate(row.key, row.structure, row.properties) for row in asked if row.structure is not None]
        for row, outcome in zip(asked, self._judge.judge(candidates, self.watch), strict=True):
            row.outcome = outcome
        self.predicted += len(asked)
        judged = [(row.outcome.score, row) for row in asked if isinstance(row.outcome, Judged)]
        for score, row in sorted(judged, key=lambda pair: (-pair[0], pair[1].index)):
            if not self._top.takes(score, row.index):
                break  # nor would those after it be
            # Asked last, and of these few: it takes longer than all else together.
            if self._non_molecular and self._molecular(row):
                row.outcome = Left("filtered", "molecular")
                continue
            self._top.push(score, row.index)
            row.keep = True

    def _molecular(self, row: Row) -> bool:
        assert row.structure is not None
        with self.watch("dimensionality"):
            return is_molecular(row.structure)
