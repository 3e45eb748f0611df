"""A prediction in a process of its own: killed at the time limit, and others are answered by the next one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymatgen.core import Lattice, Structure

from zoo.errors import ZooError
from zoo.tracking.prediction_worker import PredictionWorker, TookTooLong
from zoo.tracking.request_batcher import RequestBatcher

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SLOW = Structure(Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
DEADLY = Structure(Lattice.cubic(3.6), ["Au"], [[0, 0, 0]])


class Stub:
    """In place of a Predictor: some crystals never end, or end the process."""

    def predict_each(self, structures: list[Structure], **options: Any) -> list[Any]:
        if options.get("coverage") == 2:
            raise ZooError("coverage is one of 0.5, 0.9")
        for structure in structures:
            if structure == SLOW:
                time.sleep(600)
            if structure == DEADLY:
                os._exit(9)
        return [f"{structure.composition.reduced_formula} {os.getpid()}" for structure in structures]


@pytest.fixture
def worker() -> Iterator[PredictionWorker]:
    made = PredictionWorker(Stub, 3)  # type: ignore[arg-type]
    yield made
    made._pool.shutdown()


def test_it_answers_from_another_process(worker: PredictionWorker) -> None:
    (answer,) = worker.predict_each([SALT])
    formula, process = str(answer).split()
    assert formula == "NaCl" and int(process) != os.getpid()
    with pytest.raises(ZooError, match="coverage"):
        worker.predict_each([SALT], coverage=2)


@pytest.mark.parametrize(("bad", "words"), [(SLOW, "3 s"), (DEADLY, "died")])
def test_the_process_is_replaced(worker: PredictionWorker, bad: Structure, words: str) -> None:
    before = int(str(worker.predict_each([SALT])[0]).split()[1])
    with pytest.raises(TookTooLong, match=words):
        worker.predict_each([SALT, bad])
    after = int(str(worker.predict_each([SALT])[0]).split()[1])
    assert after != before and not psutil.pid_exists(before)


def test_requests_of_its_batch_are_tried_again(worker: PredictionWorker) -> None:
    batcher: RequestBatcher[Structure, Any] = RequestBatcher(lambda _, crystals: worker.predict_each(crystals), 64)
    from zoo.tracking.request_batcher import _Request

    batch = [_Request("a", [SALT]), _Request("a", [SLOW]), _Request("a", [SALT])]
    batcher._serve(batch)
    assert [one.done for one in batch] == [True] * 3
    assert isinstance(batch[1].error, TookTooLong)
    assert [str(one.answers[0]).split()[0] for one in (batch[0], batch[2])] == ["NaCl"] * 2


def test_it_loads_a_model_folder() -> None:
    from functools import partial

    from zoo.inference.predictor import Predictor
    from zoo.tracking.prediction_worker import load

    folder = Path(__file__).parents[1] / "checkpoints" / "format_4"
    worker = PredictionWorker(partial(load, folder, 1000, 200_000), 120)
    (there,), (here,) = worker.predict_each([SALT]), Predictor.load(folder).predict_each([SALT])
    assert there.as_dict() == here.as_dict()  # type: ignore[union-attr]
    worker._pool.shutdown()
