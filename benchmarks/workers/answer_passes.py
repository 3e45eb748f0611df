"""Crystals that a model answers in a second, on the clock and of processor time: `python answer_passes.py MODEL COUNT`.

Prints a JSON object on its last line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from inputs import crystals

import zoo


def main(model: str, count: str) -> None:
    first, *asked = crystals(int(count) + 1, seed=3)
    predictor = zoo.load(model, "cpu")
    predictor.predict(first)
    found: dict[str, float] = {}

    def measure(what: str, answer: Callable[[], object]) -> None:
        clock, processor = time.perf_counter(), time.process_time()
        answer()
        found[f"{what}, crystals/s"] = len(asked) / (time.perf_counter() - clock)
        found[f"{what}, crystals/s of processor time"] = len(asked) / (time.process_time() - processor)

    def told() -> None:
        for answer in predictor.predict_each(asked):
            if not isinstance(answer, Exception):
                answer.as_dict()  # some of an answer is made only when it is told

    measure("predict", told)
    if predictor.potentials:
        measure("force constants kept, cold", lambda: predictor.ask(asked, keep=True))
        measure("force constants kept, warm", lambda: predictor.ask(asked, keep=True))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
