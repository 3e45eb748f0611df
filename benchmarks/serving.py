"""A served model asked by four clients at a time, beside the bare predictor, on the same crystals in the same run.

    python benchmarks/serving.py [MODEL] [--quick] [--threads 1]

MODEL is a run folder, a registered name or an MLflow URI; default: `dtnet_total`, trained for one epoch.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Case, Measured, measure, worker
from inputs import crystals
from report import ROOT, Goal, Options, Section, command

from zoo.inference.predictor import Predictor
from zoo.model.checkpoint import read_card
from zoo.registry.fetch import model_folder_of

COUNT, QUICK = 1_000, 40
CLIENTS = 4
SIZES = (1, 10)  # crystals of a request
TABLE = ROOT / "docs" / "results" / "serving.csv"


def main(options: Options) -> Section:
    asked = crystals(QUICK if options.quick else COUNT, seed=2)
    with tempfile.TemporaryDirectory() as name, the_model(Path(name)) as model:
        folder = model_folder_of(model)
        expected = [answer.tensor.tolist() for answer in Predictor.load(folder).predict(asked)]
        questions = [
            {"structure": structure.as_dict(), "tensor": t} for structure, t in zip(asked, expected, strict=True)
        ]
        path = Path(name) / "questions.json"
        path.write_text(json.dumps(questions))
        bare = worker("serving_bare.py", folder, path, *SIZES, 64)
        served = worker("serving_http.py", model, path, CLIENTS, *SIZES)
        cases = [Case(f"Python, {size} at a time", bare, str(size)) for size in (*SIZES, 64)]
        cases += [Case(f"HTTP, requests of {size}", served, str(size)) for size in SIZES]
        measured = measure(cases, repeats=1, threads=options.threads, warmup=0, limits=False)
        card = read_card(folder)
    if not options.quick:
        write(measured, card.recipe.name, len(card.members))
    found = [measured.passes[case.name].each[0] for case in cases]
    errors = sum(one.get("errors", 0) for one in found)
    difference = max(one.get("difference", 0.0) for one in found)
    goals = [
        Goal("errors of requests", errors, at_most=0),
        Goal("largest difference of a component from Python's, relative to its tensor", difference, at_most=1e-5),
    ]
    body = (
        f"The model of `{card.recipe.name}` ({len(card.members)} members) asked about {len(asked):,} crystals of "
        f"petousis2017, {sum(map(len, asked)):,} atoms, as pymatgen dicts: by {CLIENTS} clients at a time over HTTP "
        "(`zoo serve`, one worker), and in Python without a server.\n\n" + table(measured, cases)
    )
    return Section("Serving", body, goals, [measured])


@contextmanager
def the_model(place: Path) -> Iterator[str]:
    """The one that was named, or one that is made."""
    if MODEL is not None:
        yield MODEL
        return
    small = ["data.limit=40", "training.max_epochs=1", "tracking.enabled=false"]
    argv = [sys.executable, "-m", "zoo", "run", "dtnet_total", *small, "--out", str(place / "run")]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    yield str(place / "run")


def rows(measured: Measured) -> Iterator[dict[str, object]]:
    """Yield the reported numbers of each case."""
    for name, passes in measured.passes.items():
        one = passes.each[0]
        yield {
            "case": name,
            "crystals": passes.about["items"],
            "seconds": round(one["seconds"], 2),
            "crystals_per_second": round(passes.about["items"] / one["seconds"], 1),
            "p50_ms": round(one["p50_ms"], 1),
            "p99_ms": round(one["p99_ms"], 1),
            "errors": one.get("errors", 0),
            "largest_relative_difference": f"{one['difference']:.1e}" if "difference" in one else "",
        }


def table(measured: Measured, cases: list[Case]) -> str:
    """Markdown."""
    lines = [
        "| | crystals/s | p50 ms | p99 ms | errors | largest difference from Python |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows(measured):
        shown = ("case", "crystals_per_second", "p50_ms", "p99_ms", "errors", "largest_relative_difference")
        lines.append(f"| {' | '.join(str(row[key]) for key in shown)} |")
    return "\n".join(lines)


def write(measured: Measured, recipe: str, members: int) -> None:
    """docs/results/serving.csv."""
    found = [{"recipe": recipe, "members": members, "threads": measured.threads, **row} for row in rows(measured)]
    found = [{**row, "cores_of_others": round(measured.others, 2)} for row in found]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


MODEL = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else None

if __name__ == "__main__":
    command(main)
