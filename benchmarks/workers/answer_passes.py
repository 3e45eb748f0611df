"""Crystals that a model answers in a second, on the clock and of processor time: `python answer_passes.py MODEL COUNT`.

Prints a JSON object of what is measured so far after each pass: the last line has all. Of a model that needs force
constants, those of the crystals should not be in the cache yet (ZOO_CACHE).
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

AT_ONCE = 100  # crystals, as a screening asks


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
        print(json.dumps(found), flush=True)

    def told() -> None:
        for answer in predictor.predict_each(asked):
            if not isinstance(answer, Exception):
                answer.as_dict()  # some of an answer is made only when it is told

    def kept() -> None:
        for start in range(0, len(asked), AT_ONCE):
            predictor.ask(asked[start : start + AT_ONCE], keep=True)

    if predictor.potentials:
        measure("force constants kept, cold", kept)
        measure("force constants kept, warm", kept)
    measure("predict", told)


if __name__ == "__main__":
    main(*sys.argv[1:])
