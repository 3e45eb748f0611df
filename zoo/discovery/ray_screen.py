"""A screening on a Ray cluster: a task reads and filters, models score, and we get the chunks in their order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.discovery import ray_cluster
from zoo.discovery.candidates import source_of
from zoo.discovery.chunks import filtered, score
from zoo.discovery.filters import CandidateFilter
from zoo.discovery.rows import Row
from zoo.discovery.scoring import Scoring
from zoo.discovery.screen_config import Screen
from zoo.errors import ZooError
from zoo.inference.predictor import Predictor
from zoo.runtime.timing import Stopwatch

LOSSES = 3
"""So often in a row workers may be lost before a chunk comes."""
AHEAD = 4
"""Chunks for each model that may be read or scored and not yet taken: the one to be taken next may be a slow one."""

Chunk = tuple[list[Row], dict[str, float]]
"""Candidates, and the seconds that they have taken by the kind of work."""


def scored(
    config: Screen, scoring: Scoring, candidate_filter: CandidateFilter, start: int, folder: Path, watch: Stopwatch
) -> Iterator[list[Row]]:
    """All candidates from number `start` on, in their order, scored.

    Args:
        config: the recipe.
        scoring: ours; those of the workers are made after it.
        candidate_filter: leaves out.
        start: counted from 0.
        folder: of the screening.
        watch: takes the times of all workers.

    Raises:
        ZooError: no cluster, or not one that can do it; as source and scoring.
    """
    with ray_cluster.joined(config.workers):
        import ray

        assert scoring.predictor.folder is not None
        model = scoring.predictor.folder.resolve()
        candidates = [] if config.candidates.path is None else [Path(config.candidates.path)]
        config = config.model_copy(update={"model": str(model), "best": scoring.best})
        lost = 0
        while True:
            # After a loss too: what does not answer is then known to be gone, and is not given work again.
            ray_cluster.check(folder, [model, *candidates])
            try:
                for rows, seconds in _chunks(config, folder, candidate_filter, start):
                    for name, some in seconds.items():
                        watch.seconds[name] += some
                    yield rows
                    start += len(rows)
                    lost = 0
                return
            except ray.exceptions.RayError as error:
                cause = ray_cluster.cause_of(error)
                if isinstance(cause, ZooError):
                    raise cause from None
                if not isinstance(cause, ray.exceptions.RayError):
                    raise  # a bug
                # A worker or a machine: begin anew with what is left, from where we are.
                lost += 1
                if lost == LOSSES:
                    raise ZooError(
                        f"the Ray cluster loses the workers that predict candidates from number {start + 1:,} on "
                        f"({ray_cluster.first_line(cause)}); if memory is short, let fewer work at the same time "
                        "(workers.count)"
                    ) from error


def _chunks(config: Screen, folder: Path, candidate_filter: CandidateFilter, start: int) -> Iterator[Chunk]:
    """From candidate `start` on, with as many models as there is room for now."""
    import ray

    count = min(config.workers.count, ray_cluster.processors() - 1)
    if count < 1:
        raise ZooError("the Ray cluster has one CPU: one that reads and one that predicts are the least")
    model: Any = ray.remote(num_cpus=1, num_gpus=_gpus(config.device, count), max_restarts=0)(Model)
    # A CPU is left for the one that reads, but it claims none: where its machine is lost and the models hold all that
    # are left, it would wait for ever to be begun anew.
    read: Any = ray.remote(num_cpus=0, max_retries=0)(_read)
    streamed = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD * count}
    entries = read.options(**streamed).remote(config, folder.resolve(), candidate_filter, start)
    models = [model.remote(config) for _ in range(count)]
    free = deque(models * 2)  # while a model is at work on one chunk, the next is on its way to it
    busy: dict[Any, Any] = {}
    ordered: deque[Any] = deque()
    try:
        while True:
            while free and len(ordered) < AHEAD * count and (chunk := next(entries, None)) is not None:
                ordered.append(free[0].score.remote(chunk))
                busy[ordered[-1]] = free.popleft()
            if not ordered:
                return
            for one in ray.wait(list(busy), num_returns=1)[0]:
                free.append(busy.pop(one))
            while ordered and ordered[0] not in busy:
                yield ray.get(ordered.popleft())
    finally:
        ray.cancel(entries)
        for one in models:
            ray.kill(one)


def _gpus(device: str, models: int) -> float:
    """Return the GPUs for each model: a whole one where there are enough, else a share such that all models fit."""
    import ray

    there = int(ray.cluster_resources().get("GPU", 0))
    return 1 / math.ceil(models / there) if there and not device.startswith("cpu") else 0


def _read(config: Screen, folder: Path, candidate_filter: CandidateFilter, start: int) -> Iterator[Chunk]:
    """Runs on the cluster."""
    watch = Stopwatch()
    entries = source_of(config.candidates, folder).found(start)
    for rows in filtered(entries, start, config.chunk, candidate_filter, watch):
        yield rows, dict(watch.seconds)
        watch.seconds.clear()


class Model:
    """Scores; an actor of the cluster. Ray gives it as many threads (OMP_NUM_THREADS) as CPUs, one."""

    def __init__(self, config: Screen) -> None:
        self._config = config

    @cached_property
    def _scoring(self) -> Scoring:
        # Not in __init__: an actor whose __init__ fails counts as lost.
        return Scoring.of(self._config, Predictor.load(Path(self._config.model), self._config.device))

    def score(self, chunk: Chunk) -> Chunk:
        """Return the chunk with its outcomes."""
        rows, seconds = chunk
        watch = Stopwatch()
        watch.seconds.update(seconds)
        score(rows, self._scoring, watch)
        return rows, dict(watch.seconds)
