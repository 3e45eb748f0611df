"""Memory of `zoo run` against the number of crystals: made ones, 10³ to 10⁵, from the file to the predictions."""

from __future__ import annotations

import csv
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from ase.data import chemical_symbols, covalent_radii
from memory_monitor import MemoryMonitor, finish, start_zoo
from report import ROOT, Goal, Options, Section, command
from tqdm import tqdm

COUNTS = (1_000, 10_000, 100_000)
QUICK = (200, 1_000)
TABLE = ROOT / "docs" / "results" / "memory.csv"

# name -> primitive cell in units of the cube's edge, fractional coordinates, which element sits where, and the edge in
# units of the sum of the first two radii
Prototype = tuple[list[list[float]], list[list[float]], list[int], float]
FACE_CENTRED = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
CUBE = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
PROTOTYPES: dict[str, Prototype] = {
    "rock salt": (FACE_CENTRED, [[0, 0, 0], [0.5, 0.5, 0.5]], [0, 1], 2.0),
    "zinc blende": (FACE_CENTRED, [[0, 0, 0], [0.25, 0.25, 0.25]], [0, 1], 4 / 3**0.5),
    "caesium chloride": (CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], [0, 1], 2 / 3**0.5),
    "fluorite": (FACE_CENTRED, [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]], [0, 1, 1], 4 / 3**0.5),
    "half-Heusler": (FACE_CENTRED, [[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]], [0, 1, 2], 4 / 3**0.5),
    "perovskite": (CUBE, [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], [2, 0, 1, 1, 1], 2.0),
}
ELEMENTS = [z for z in range(1, 84) if z not in (2, 10, 18, 36, 43, 54, 61)]

BASE: dict[str, Any] = {
    "name": "made",
    "target": "total",
    "readout": {"name": "dtnet", "width": 8, "blocks": 1},
    "training": {"max_epochs": 1, "batch_size": 64, "learning_rate": 0.001},
    "device": "cpu",
}
ENCODERS: dict[str, dict[str, Any]] = {
    "trained": {"name": "nequip", "cutoff": 3.5, "layers": 1, "channels": 4, "radial_width": 16},
    "frozen, cached": {"name": "sevennet", "layer": 1},
}
# The line of stdout that ends a stage.
STAGES = {"data": "reading", "graphs": "graphs", "encoder": "embedding", "took": "training", "mlflow": "MLflow"}


def main(options: Options) -> Section:
    counts = QUICK if options.quick else COUNTS
    rows = [row for count in counts for row in measured(count, options.threads)]
    if not options.quick:
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    goals = []
    for kind in ENCODERS:
        for column, what in (("training_mb", "anonymous"), ("resident_mb", "resident")):
            small, large = (row[column] for row in ends(rows, kind))
            what = f"{what} memory of a run, encoder {kind}: {counts[-1]:,} crystals / {counts[0]:,}"
            goals.append(Goal(what, large / small, at_most=1.1))
    return Section("Memory against the number of crystals", body(rows, counts), goals)


def ends(rows: list[dict[str, Any]], kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of the fewest and of the most crystals."""
    found = [row for row in rows if row["encoder"] == kind]
    return found[0], found[-1]


def body(rows: list[dict[str, Any]], counts: tuple[int, ...]) -> str:
    """Markdown."""
    head = [
        "encoder",
        "crystals",
        "less duplicates",
        "atoms",
        "edges",
        "peak anonymous MB",
        "reading",
        "graphs",
        "embedding",
    ]
    head += ["training", "MLflow", "peak resident MB", "CPU minutes", "minutes"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row["encoder"], *(f"{row[name]:,}" for name in ("crystals", "used", "atoms", "edges"))]
        cells += [f"{row[name]:.0f}" for name in ("anonymous_mb", *(f"{stage}_mb" for stage in STAGES.values()))]
        lines.append([*cells, f"{row['resident_mb']:.0f}"])
        lines[-1] += [f"{row[name] / 60:.1f}" for name in ("cpu_seconds", "seconds")]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    slopes = []
    for kind in ENCODERS:
        small, large = ends(rows, kind)
        grown = (large["training_mb"] - small["training_mb"]) * 1e6 / (large["crystals"] - small["crystals"])
        slopes.append(f"{grown:.0f} bytes a crystal, encoder {kind}")
    return (
        "`zoo run` from an extxyz file to the predictions, MLflow included, each run a process of its own on an empty "
        "cache: made crystals (decorated and distorted prototypes of 2 to 5 atoms, made tensors), one epoch, with "
        "`nequip` trained (cutoff 3.5 Å, one layer, 4 channels) and with SevenNet-0's first layer frozen and cached. "
        "Anonymous memory (RssAnon, sampled) is what the process itself needs, by the end of each stage the most so "
        "far; resident memory (VmHWM) has beside it the libraries, and of mapped files what is kept of them (some 64 "
        f"MB). From {counts[0]:,} to {counts[-1]:,} crystals anonymous memory by the end of the training grows "
        f"by {' and '.join(slopes)}.\n\n{table}"
    )


def measured(count: int, threads: int) -> Iterator[dict[str, Any]]:
    """A row an encoder, of runs on the same file of `count` crystals."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with (folder / "made.extxyz").open("w", encoding="utf-8") as file:
            write(file, count)
        for kind, encoder in ENCODERS.items():
            dataset = {"name": "file", "path": "made.extxyz", "targets": {"total": {}}}
            recipe = BASE | {"dataset": dataset, "encoder": encoder}
            (folder / "made.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
            yield {"encoder": kind, "crystals": count, **watched_run(folder, f"run-{encoder['name']}", threads)}


def watched_run(folder: Path, out: str, threads: int) -> dict[str, Any]:
    """Peaks of a run in MB (10⁶ bytes), the most so far by the end of each stage, and the seconds that it took."""
    began, used = time.monotonic(), sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    (folder / out).mkdir()
    by_stage: dict[str, float] = {}
    counts: dict[str, int] = {}
    tracking = f"tracking.uri=sqlite:///{folder / out}/mlflow.db"
    arguments = ["run", "made.yaml", tracking, "--out", f"{out}/run"]
    with start_zoo(folder, threads, *arguments, cache=f"{out}/cache") as process:
        peaks = MemoryMonitor(process)
        assert process.stdout is not None
        for line in process.stdout:
            first, *words = line.split() or [""]
            if first in STAGES:
                by_stage[f"{STAGES[first]}_mb"] = round(peaks.anonymous, 1)
            if first == "data":
                counts["used"] = int(words[2])
            if first == "graphs":
                counts |= {"atoms": _number(words[0]), "edges": _number(words[2])}
        finish(process, folder)
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used
    took = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(used, 1)}
    return {
        **counts,
        "anonymous_mb": round(peaks.anonymous, 1),
        "resident_mb": round(peaks.resident, 1),
        **by_stage,
        **took,
    }


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def write(file: IO[str], count: int, seed: int = 0) -> None:
    """`count` frames of extxyz: decorated prototypes, strained by 3 % and displaced by 0.05 Å, with made tensors."""
    random = np.random.default_rng(seed)
    for number in tqdm(range(count), desc="making", unit=" crystals", disable=None):
        vectors, coordinates, sites, edge = list(PROTOTYPES.values())[random.integers(len(PROTOTYPES))]
        elements = random.choice(ELEMENTS, 3, replace=False)
        strain = 0.03 * random.standard_normal((3, 3))
        strain = 0.5 * (strain + strain.T)
        scale = edge * covalent_radii[elements[:2]].sum() * random.uniform(0.95, 1.1)
        cell = scale * np.array(vectors) @ (np.eye(3) + strain)
        positions = np.array(coordinates) @ cell + 0.05 * random.standard_normal((len(sites), 3))
        numbers = elements[sites]
        tensor = (2 + 0.1 * numbers.mean()) * np.eye(3) + 20 * strain
        words = (" ".join(f"{value:.8f}" for value in array.ravel()) for array in (cell, tensor))
        file.write(f'{len(sites)}\nLattice="{next(words)}" total="{next(words)}" pbc="T T T" key=made-{number:06d}\n')
        for z, (x, y, w) in zip(numbers, positions, strict=True):
            file.write(f"{chemical_symbols[z]} {x:.8f} {y:.8f} {w:.8f}\n")


if __name__ == "__main__":
    command(main)
