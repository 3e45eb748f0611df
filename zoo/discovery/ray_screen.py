"""A screening on a Ray cluster: a task reads and sifts, models predict, we get the chunks in their order."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zoo.discovery import ray_cluster
from zoo.discovery.candidates import source_of
from zoo.discovery.chunks import predict, sifted
from zoo.discovery.filters import CandidateFilter
from zoo.discovery.rows import Row
from zoo.discovery.scoring import Scoring
from zoo.discovery.screen_config import Screen
from zoo.errors import ZooError
from zoo.inference.predictor import Predictor
from zoo.runtime.timing import Stopwatch

LOSSES = 3
"""So often in a row workers may be lost before a chunk comes."""


@dataclass(frozen=True)
class Chunk:
    """Unit of work that passes through the cluster.

    Attributes:
        seconds: what it has taken, by the kind of work.
        refused: the ZooError that ends all, if there is one.
    """

    rows: list[Row]
    seconds: dict[str, float]
    refused: str = ""


Batch = dict[str, Any]
"""A batch of Ray Data: the column `chunk` holds one Chunk."""


def judged(
    config: Screen, judge: Scoring, sieve: CandidateFilter, start: int, folder: Path, watch: Stopwatch
) -> Iterator[list[Row]]:
    """All candidates from number `start` on, in their order, predicted.

    Args:
        config: the recipe.
        judge: ours; those of the workers are made after it.
        sieve: leaves out.
        start: counted from 0.
        folder: of the screening.
        watch: takes the times of all workers.

    Raises:
        ZooError: no cluster, or not one that can do it; as source and judge.
    """
    with ray_cluster.joined(config.workers):
        import ray

        assert judge.predictor.folder is not None
        model = judge.predictor.folder.resolve()
        candidates = [] if config.candidates.path is None else [Path(config.candidates.path)]
        config = config.model_copy(update={"model": str(model), "best": judge.best})
        lost = 0
        while True:
            # After a loss too: what does not answer is then known to be gone, and is not given work again.
            ray_cluster.check(folder, [model, *candidates])
            try:
                for chunk in _chunks(config, folder, sieve, start):
                    for name, seconds in chunk.seconds.items():
                        watch.seconds[name] += seconds
                    if chunk.refused:
                        raise ZooError(chunk.refused)
                    yield chunk.rows
                    start += len(chunk.rows)
                    lost = 0
                return
            except ray.exceptions.RayTaskError:
                raise  # a bug
            except ray.exceptions.RayError as error:
                # A worker or a machine: begin anew with what is left, from where we are.
                lost += 1
                if lost == LOSSES:
                    why = str(error).strip().splitlines()[0]
                    raise ZooError(
                        f"the Ray cluster loses the workers that predict candidates from number {start + 1:,} on "
                        f"({why}); if memory is short, let fewer work at the same time (workers.count)"
                    ) from error


def _chunks(config: Screen, folder: Path, sieve: CandidateFilter, start: int) -> Iterator[Chunk]:
    """From candidate `start` on, with as many models as there is room for now."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    models = min(config.workers.count, ray_cluster.processors() - 1)
    if models < 1:
        raise ZooError("the Ray cluster has one CPU: one that reads and one that predicts are the least")
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # a block for each chunk: it goes on as soon as it is there
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    with DataContext.current(context), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of max_restarts, which has no other name yet
        # A CPU is left for the one that reads, but it claims none: where its machine is lost and the models hold all
        # that are left, it would wait for ever to be begun anew.
        read = ray.data.from_items([start]).map_batches(
            partial(_read, config=config, folder=folder.resolve(), sieve=sieve), batch_size=1, num_cpus=0
        )
        predicted = read.map_batches(
            Model,
            fn_constructor_args=(config,),
            batch_size=1,
            compute=ActorPoolStrategy(size=models),
            num_cpus=1,
            num_gpus=_gpus(config.device, models),
            max_restarts=0,  # else, where a machine is lost and no room is left, Ray Data would wait for ever
        )
        for row in predicted.iter_rows():
            yield row["chunk"]


def _gpus(device: str, models: int) -> float:
    """Return the GPUs for each model: a whole one where there are enough, else a share such that all models fit."""
    import ray

    there = int(ray.cluster_resources().get("GPU", 0))
    return 1 / math.ceil(models / there) if there and not device.startswith("cpu") else 0


def _read(batch: Batch, config: Screen, folder: Path, sieve: CandidateFilter) -> Iterator[Batch]:
    """Runs on the cluster. Begun anew after its death it gives the same; what was given is not asked for again."""
    start, watch = int(batch["item"][0]), Stopwatch()
    try:
        for rows in sifted(source_of(config.candidates, folder).found(start), start, config.chunk, sieve, watch):
            yield _batch(Chunk(rows, _taken(watch)))
    except ZooError as error:
        yield _batch(Chunk([], _taken(watch), str(error)))


class Model:
    """Predicts; an actor of the cluster. Ray gives it as many threads (OMP_NUM_THREADS) as CPUs, one."""

    def __init__(self, config: Screen) -> None:
        self._refused = ""
        try:
            self._judge = Scoring.of(config, Predictor.load(Path(config.model), config.device))
        except ZooError as error:
            self._refused = str(error)

    def __call__(self, batch: Batch) -> Batch:
        """The chunk with its outcomes."""
        chunk: Chunk = batch["chunk"][0]
        if chunk.refused:
            return batch
        if self._refused:
            return _batch(replace(chunk, refused=self._refused))
        watch = Stopwatch()
        watch.seconds.update(chunk.seconds)
        try:
            predict(chunk.rows, self._judge, watch)
        except ZooError as error:
            return _batch(replace(chunk, refused=str(error)))
        return _batch(replace(chunk, seconds=_taken(watch)))


def _batch(chunk: Chunk) -> Batch:
    column = np.empty(1, dtype=object)
    column[0] = chunk
    return {"chunk": column}


def _taken(watch: Stopwatch) -> dict[str, float]:
    """The times, which begin anew."""
    seconds = dict(watch.seconds)
    watch.seconds.clear()
    return seconds
