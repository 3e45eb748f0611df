"""Prediction in a process of its own, which is killed where it takes too long."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from zoo.errors import ZooError
from zoo.inference.prediction import Prediction
from zoo.inference.predictor import Predictor
from zoo.runtime.worker_process import end_with_parent, process_of, worker_process


class TookTooLong(Exception):
    """No answer came within the time limit; the sentence is for the client."""


class PredictionWorker:
    """Predictor in a process of its own.

    Args:
        load: gives the predictor; it is called in the process, and can be pickled.
        seconds: time limit of a call; the process is then killed and another one started.
    """

    def __init__(self, load: Callable[[], Predictor], seconds: float) -> None:
        self._load, self._seconds = load, seconds
        self._start()

    def _start(self) -> None:
        self._pool = worker_process(partial(_begin, self._load))
        self._pool.submit(_predict, [], {}).result()  # the time that it takes to load is nobody's

    def predict_each(self, structures: Sequence[Structure], **options: Any) -> list[Prediction | ZooError]:
        """Predict as `Predictor.predict_each` does, in the process.

        Raises:
            TookTooLong: it took longer than the limit, or the process has died over it.
            ZooError: an option that makes no sense for this model.
        """
        future = self._pool.submit(_predict, list(structures), options)
        try:
            return future.result(self._seconds)
        except TimeoutError:
            why = f"no answer within {self._seconds:g} s"
        except BrokenExecutor:
            why = "the process that predicts has died of it (is memory short?)"
        process_of(self._pool).kill()
        self._pool.shutdown()
        self._start()
        raise TookTooLong(f"{why}: ask for fewer crystals at a time, or smaller ones")


_predictor: Predictor
"""The predictor of a worker process."""


def _begin(load: Callable[[], Predictor]) -> None:
    global _predictor
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the server ends in order, and this one with it
    end_with_parent()
    _predictor = load()


def _predict(structures: list[Structure], options: dict[str, Any]) -> list[Prediction | ZooError]:
    return _predictor.predict_each(structures, **options)


def load(folder: Path, max_atoms: int, max_edges: int) -> Predictor:
    """Load a model folder on the best device, as a served model is."""
    return Predictor.load(folder, "auto", max_atoms, max_edges)
