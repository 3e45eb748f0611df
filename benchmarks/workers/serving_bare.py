"""The predictor without a server: serving_bare.py MODEL_FOLDER QUESTIONS SIZE...; a pass is all, SIZE at a time."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from serve import serve

from zoo.data.structures import structure_from_dict
from zoo.inference.predictor import Predictor

folder, questions, *sizes = sys.argv[1:]
predictor = Predictor.load(Path(folder))
asked = [question["structure"] for question in json.loads(Path(questions).read_text())]


def ask(size: int) -> dict[str, float]:
    times = []
    for start in range(0, len(asked), size):
        began = time.perf_counter()
        structures = [structure_from_dict(one) for one in asked[start : start + size]]
        for answer in predictor.predict(structures):
            json.dumps(answer.as_dict())
        times.append(time.perf_counter() - began)
    low, high = np.quantile(times, (0.5, 0.99))
    return {"p50_ms": 1e3 * float(low), "p99_ms": 1e3 * float(high)}


predictor.predict([structure_from_dict(one) for one in asked[:20]])  # what is made at the first call
serve({size: partial(ask, int(size)) for size in sizes}, {size: {"items": len(asked)} for size in sizes})
