"""Throughput of predictions by a trained model, structures in memory to answers, by how many are asked at once."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Case, measure, worker
from inputs import crystals, write_crystals
from report import Options, Section, command

from zoo.storage.run_folder import RunFolder


def main(options: Options) -> Section:
    sizes = [1, 2] if options.quick else [1, 8, 64]
    structures = crystals(sizes[-1], seed=1)
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        small = ["data.limit=40", "training.max_epochs=1", "tracking.enabled=false"]
        argv = [sys.executable, "-m", "zoo", "run", "dtnet_total", *small, "--out", str(run)]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        asked = write_crystals(Path(name) / "crystals.json", structures)
        command_line = worker("predict_zoo.py", RunFolder(run).model, asked, *sizes)
        cases = [Case(f"{size} at a time", command_line, str(size)) for size in sizes]
        measured = measure(cases, repeats=options.repeats, threads=options.threads)
    about = measured.passes[cases[0].name].about
    body = (
        "The model of `dtnet_total` (SevenNet-0, layer 4, and DTNet; how long it was trained does not matter here) "
        f"asked about {about['items']} crystals, {about['atoms']} atoms: graphs, encoder, readout, and what is derived "
        f"of each tensor.\n\n{measured.table(cases[0].name, item='crystal')}"
    )
    return Section("Predictions", body, (), [measured])


if __name__ == "__main__":
    command(main)
