"""Memory and speed of `zoo screen` against the number of candidates: made crystals, 10³ to 10⁵, a small ensemble."""

from __future__ import annotations

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from memory import write
from memory_monitor import MemoryMonitor, finish, start_zoo
from pyarrow import parquet
from report import Goal, Options, Section, command

from zoo.data.formats import extxyz_entries

COUNTS = (1_000, 10_000, 100_000)
QUICK = (200, 1_000)
ROWS = 5_000  # in a row group
CHUNK = 32  # where workers are compared
WAYS = {
    "this process": [],
    "Ray, one model": ["workers.kind=ray"],
    "Ray, two models": ["workers.kind=ray", "workers.count=2"],
}
# As fast as one that is trained to the end.
BEST = ("seeds=[0,1,2,3,4]", "split.seed=0", "training.max_epochs=1", "tracking.enabled=false", "device=cpu")

RECIPE: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "petousis2017"},
    "target": "total",
    "data": {"limit": 60},
    "split": {"seed": 0, "val": 0.3},
    "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
    "readout": {"name": "dtnet", "width": 8, "blocks": 1},
    "training": {"max_epochs": 3, "batch_size": 16, "learning_rate": 0.01},
    "seeds": [0, 1, 2, 3, 4],
    "tracking": {"enabled": False},
    "device": "cpu",
}


def main(options: Options) -> Section:
    counts = QUICK if options.quick else COUNTS
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "small.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
        with start_zoo(folder, options.threads, "run", "small.yaml", "--out", "model") as trained:
            finish(trained, folder)
        rows = [measured(folder, count, options.threads) for count in counts]
        many = side_by_side(folder, counts[1], options.threads) if find_spec("ray") else "Ray is not installed."
    names = list(dict.fromkeys(name for row in rows for name in row["shares"]))
    head = [
        "candidates",
        "peak anonymous MB",
        "peak resident MB",
        "candidates a second",
        "bytes each on disk",
        *(f"{n} %" for n in names),
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        numbers = [
            f"{row['candidates']:,}",
            *(f"{row[name]:.0f}" for name in ("anonymous", "resident", "speed", "bytes")),
        ]
        lines.append([*numbers, *(f"{100 * row['shares'].get(name, 0):.0f}" for name in names)])
    body = (
        "`zoo screen` from a Parquet file to the chosen crystals: made crystals (decorated and distorted prototypes of "
        "2 to 5 atoms), an ensemble of five with `nequip` (cutoff 3 Å, one layer, 4 channels), whose encoders run one "
        "after another. Speed and shares are of the way through the candidates, without the start of the program.\n\n"
    ) + "\n".join("| " + " | ".join(line) + " |" for line in lines)
    body += f"\n\n{many}"
    what = f"memory of a screening: {counts[-1]:,} candidates / {counts[0]:,}"
    goals = [Goal(f"{kind} {what}", rows[-1][kind] / rows[0][kind], at_most=1.1) for kind in ("anonymous", "resident")]
    return Section("Screening: memory and speed against the number of candidates", body, goals)


def measured(folder: Path, count: int, threads: int) -> dict[str, Any]:
    """Peaks in MB, candidates a second, and the share of each part of the work."""
    candidates = parquet_file(folder, count)
    arguments = ["model=model", f"candidates={{path: {candidates.name}}}", "device=cpu", "--out", f"screen-{count}"]
    with start_zoo(folder, threads, "screen", "screen_total", *arguments) as process:
        peaks = MemoryMonitor(process)
        finish(process, folder)
    speed = json.loads((folder / f"screen-{count}" / "summary.json").read_text())["speed"]
    shares = {name: seconds / speed["seconds"] for name, seconds in speed["of_which"].items()}
    parts = sum(path.stat().st_size for path in (folder / f"screen-{count}" / "parts").iterdir())
    return {
        "candidates": count,
        "anonymous": peaks.anonymous,
        "resident": peaks.resident,
        "speed": speed["candidates"] / speed["seconds"],
        "bytes": parts / count,
        "shares": shares,
    }


def side_by_side(folder: Path, count: int, threads: int) -> str:
    """This process and Ray on this machine: with an encoder that costs little, and one that costs most of the time."""
    with start_zoo(folder, threads, "run", "best_total", *BEST, "--out", "best") as trained:
        finish(trained, folder)
    small = ["model=model", f"candidates={{path: {count}.parquet}}"]
    large = ["model=best", *(f"filters.{name}" for name in ("unseen=false", "max_energy_above_hull=null"))]
    lines = [
        "| workers | small `nequip`, candidates a second | ratio | `best_total`, candidates a second | ratio |",
        "|---|---|---|---|---|",
    ]
    first: list[float] = []
    for way, settings in WAYS.items():
        speeds = [speed(folder, threads, [*given, *settings]) for given in (small, large)]
        first = first or speeds
        cells = (f"{one:.0f} | {one / before:.2f}" for one, before in zip(speeds, first, strict=True))
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed(folder: Path, threads: int, arguments: list[str]) -> float:
    """Candidates a second between the first and the last part: without the start of a cluster and of its models."""
    out = f"way-{len(list(folder.glob('way-*')))}"
    settings = ["device=cpu", f"chunk={CHUNK}", *arguments]
    with start_zoo(folder, threads, "screen", "screen_total", *settings, "--out", out) as process:
        finish(process, folder)
    written = sorted(path.stat().st_mtime for path in (folder / out / "parts").iterdir())
    return CHUNK * (len(written) - 1) / (written[-1] - written[0])


def parquet_file(folder: Path, count: int) -> Path:
    """A Parquet file of so many crystals, with a band gap each."""
    frames, path = folder / f"{count}.extxyz", folder / f"{count}.parquet"
    with frames.open("w", encoding="utf-8") as file:
        write(file, count)
    schema = pa.schema({"key": pa.string(), "structure": pa.string(), "band_gap": pa.float64()})
    with parquet.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for number, entry in enumerate(extxyz_entries(frames), 1):
            text = json.dumps(entry.structure.as_dict())  # type: ignore[union-attr]
            rows.append({"key": entry.key, "structure": text, "band_gap": 0.1 + number % 70 / 10})
            if len(rows) == ROWS or number == count:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
    return path


if __name__ == "__main__":
    command(main)
