"""Predictions of a trained model: predict_zoo.py MODEL CRYSTALS SIZE...; a pass is all crystals, SIZE at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flops import matmul_flops
from pymatgen.core import Structure
from serve import serve

from zoo.inference.predictor import Predictor

folder, crystals, *sizes = sys.argv[1:]
predictor = Predictor.load(Path(folder))
structures = [
    Structure(c["cell"], c["numbers"], c["positions"], coords_are_cartesian=True)
    for c in json.loads(Path(crystals).read_text())
]


def ask(size: int) -> None:
    for start in range(0, len(structures), size):
        predictor.predict(structures[start : start + size])


passes = {size: (lambda size=size: ask(int(size))) for size in sizes}
about = {"items": len(structures), "atoms": sum(map(len, structures))}
serve(passes, {order: about | {"flops": matmul_flops(one_pass)} for order, one_pass in passes.items()})
