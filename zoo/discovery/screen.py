"""Candidates are gone through, the best of them chosen, and what became of each is written down."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pymatgen.core import Structure
from tqdm import tqdm

import zoo
from zoo.data.duplicates import Identity
from zoo.data.structures import structure_from_dict
from zoo.discovery import screen_results
from zoo.discovery.candidate_source import Found, Source
from zoo.discovery.candidates import source_of
from zoo.discovery.chunks import filtered, score
from zoo.discovery.filters import CandidateFilter
from zoo.discovery.known_crystals import KnownOrChosen, identity_of
from zoo.discovery.molecular import is_molecular
from zoo.discovery.rows import Row, table_of
from zoo.discovery.scoring import Rejected, Scored, Scoring
from zoo.discovery.screen_config import Screen, parse
from zoo.discovery.screen_folder import ScreenFolder
from zoo.discovery.top_k import Best, Member
from zoo.errors import ZooError, clear_disk_errors
from zoo.runtime.timing import Stopwatch
from zoo.storage.cache import content_key
from zoo.storage.weights import sha256_of
from zoo.workflows.provenance import begin

Echo = Callable[[str], None]


def screen(config: Screen, folder: ScreenFolder, echo: Echo, known: KnownOrChosen | None = None) -> dict[str, Any]:
    """Screen what a recipe describes, or go on where an earlier call in the same folder was stopped.

    Args:
        config: the recipe.
        folder: where everything goes.
        echo: takes the lines that tell what is going on.
        known: candidates that are not in the running.

    Returns:
        The content of summary.json.

    Raises:
        ZooError: something that the user can put right.
    """
    # With Ray the models that predict are elsewhere: ours only says what it is.
    predictor = zoo.load(config.model, "cpu" if config.workers.kind == "ray" else config.device)
    scoring = Scoring.of(config, predictor)
    source = source_of(config.candidates, folder.path)
    members, names = len(predictor.members), [one.name for one in scoring.target.parts]
    said = f"{', '.join(names)}, chosen by {scoring.part.name}" if names else f"{scoring.part.name} tensor"
    echo(f"model     {config.model}: {said}, {members} member{'s' if members > 1 else ''}")
    if scoring.acquisition.needs_best:
        echo(
            f"best      {scoring.best:.4g} so far"
            + ("" if config.best is not None else ", among the training crystals")
        )
    assert predictor.folder is not None
    with clear_disk_errors(folder.path), folder.alone():
        facts = {"model": fingerprint(predictor.folder), "best so far": scoring.best}
        if known is not None:
            facts["set of known crystals"] = content_key(sorted(known.keys))
        begin(folder, config, parse, facts)
        started = time.perf_counter()
        walk = Walk(config, folder, scoring, source, known or KnownOrChosen())
        done = walk.go_on()
        speed = {
            "candidates": done,
            "predicted": walk.predicted,
            "seconds": time.perf_counter() - started,
            "of_which": dict(walk.watch.seconds),
        }
        threshold = None if predictor.reference is None else predictor.reference.threshold
        return screen_results.conclude(config, folder, scoring.target, scoring.part, threshold, speed)


def fingerprint(model: Path) -> str:
    """Hash of a model folder's weights and card."""
    digest = hashlib.sha256()
    for path in sorted([model / "model.json", *model.glob("*.safetensors")]):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


class Walk:
    """One way through all candidates; what is behind is in the folder.

    Attributes:
        watch: where the time goes; with Ray, that of all processes.
        predicted: how many candidates were.
    """

    def __init__(
        self, config: Screen, folder: ScreenFolder, scoring: Scoring, source: Source, known: KnownOrChosen
    ) -> None:
        self.watch = Stopwatch()
        self.predicted = 0
        self._config, self._folder, self._scoring, self._source = config, folder, scoring, source
        self._candidate_filter = CandidateFilter(config.filters, scoring.objective, scoring.predictor, known.keys)
        self._known = known
        wanted = config.filters.non_molecular
        self._non_molecular = scoring.objective.non_molecular if wanted is None else wanted
        self._best = Best(config.top)

    def go_on(self) -> int:
        """From where the parts in the folder end to the last candidate.

        Returns:
            How many were gone through now.

        Raises:
            ZooError: the candidates are not those that the parts were made of; or as the source, or the workers.
        """
        start, last = self._behind()
        entries = self._source.found(max(start - 1, 0))
        if start:
            first = next(entries, None)
            if first is None or first.key != last:
                instead = "there are fewer now" if first is None else f"now it is '{first.key}'"
                raise ZooError(
                    f"the candidates have changed since {self._folder.path} was begun: number {start:,} was '{last}', "
                    f"{instead}; bring them back, or start anew in another folder"
                )
        done, total = 0, self._source.total()
        bar = tqdm(total=total, initial=start, desc="screening", unit=" crystals", disable=None, leave=False)
        with bar, closing(self._scored(entries, start)) as chunks:
            for number, rows in enumerate(chunks, len(self._folder.parts())):
                self._choose(rows)
                with self.watch("writing"):
                    self._folder.add(number, table_of(rows, self._scoring.target))
                done += len(rows)
                bar.update(len(rows))
        return done

    def _behind(self) -> tuple[int, str]:
        """Return how many candidates the parts hold, and the key of the last one; the best of them are remembered."""
        rows, last = 0, ""
        for table in self._folder.tables(("key",)):
            rows += table.num_rows
            last = table["key"][-1].as_py()
        for row in screen_results.chosen(self._config, self._folder, self._scoring.target) if rows else ():
            structure = structure_from_dict(json.loads(row["structure"]))
            identity = self._identity(row["key"], structure, json.loads(row["properties"]))
            self._best.add(Member(row["index"], row["score"], row["key"], identity))
        return rows, last

    def _scored(self, entries: Iterator[Found], start: int) -> Generator[list[Row], None, None]:
        """Chunks in their order, with all that can be said of each candidate alone: by us, or by the workers."""
        if self._config.workers.kind == "ray":
            from zoo.discovery import ray_screen

            yield from ray_screen.scored(
                self._config, self._scoring, self._candidate_filter, start, self._folder.path, self.watch
            )
            return
        for rows in filtered(entries, start, self._config.chunk, self._candidate_filter, self.watch):
            score(rows, self._scoring, self.watch)
            yield rows

    def _choose(self, rows: list[Row]) -> None:
        """Add the candidates that pass the filters to the best so far."""
        left_out = (isinstance(row.outcome, Rejected) and row.outcome.status == "filtered" for row in rows)
        self.predicted += sum(row.structure is not None and not out for row, out in zip(rows, left_out, strict=True))
        scored = [(row.outcome.score, row) for row in rows if isinstance(row.outcome, Scored)]
        for value, row in sorted(scored, key=lambda pair: (-pair[0], pair[1].index)):
            if not self._best.takes(value, row.index):
                break  # nor would those after it be
            # Asked last, and of these few: it takes longer than all else together.
            identity = self._identity(row.key, row.structure, row.properties)
            twins = self._best.twins(row.key, identity)
            left = self._under_another_key(identity) or _second(row.key, value, twins) or self._molecular(row)
            if left is not None:
                row.outcome = left
                continue
            replaced = twins[0] if twins else None
            self._best.add(Member(row.index, value, row.key, identity), replaced)
            row.keep, row.replaces = True, None if replaced is None else replaced.index

    def _identity(self, key: str, structure: Structure | None, properties: Mapping[str, Any]) -> Identity | None:
        """By which the same crystal is known under another key; None where that is not looked for."""
        if self._known.crystals is None or structure is None:
            return None
        with self.watch("duplicates"):
            return identity_of(key, structure, properties)

    def _under_another_key(self, identity: Identity | None) -> Rejected | None:
        if identity is None or self._known.crystals is None:
            return None
        twin = self._known.crystals.same_as(identity)
        return None if twin is None else Rejected("filtered", "known under another key", twin)

    def _molecular(self, row: Row) -> Rejected | None:
        if not self._non_molecular or row.structure is None:
            return None
        with self.watch("dimensionality"):
            return Rejected("filtered", "molecular") if is_molecular(row.structure) else None


def _second(key: str, score: float, twins: Sequence[Member]) -> Rejected | None:
    """Whether the same one is among the best already, with a score that is not lower."""
    # Of two twins of one crystal, which need not be twins of each other, neither gives way: the best stay as many.
    if not twins or (len(twins) == 1 and twins[0].score < score):
        return None
    if twins[0].key == key:
        return Rejected("filtered", "a second one of this key")
    return Rejected("filtered", "the same crystal as another candidate", twins[0].key)
