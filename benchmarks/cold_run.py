"""`zoo run dtnet_total` with nothing cached: the present tree against an earlier commit, whole and by phase."""

from __future__ import annotations

import os
import statistics
import sys

from environment import environment
from harness import Case, Measured, measure, worker
from report import ROOT, Goal, Options, Section, command

BEFORE = "1527ae0"  # where the work on speed began
PHASES = {
    "data": "start to data report",
    "graphs": "graphs",
    "encoder": "embedding",
    "training": "training, 80 epochs",
    "end": "test, figures, MLflow, export",
}


def main(options: Options) -> Section:
    before = environment(f"zoo-{BEFORE}", "--no-deps", f"git+file://{ROOT}@{BEFORE}")
    small = ["data.limit=60", "training.max_epochs=2"] if options.quick else []
    cases = [
        Case(name, worker("zoo_run.py", python, *small), cold=True)
        for name, python in ((f"commit {BEFORE}", before), ("now", sys.executable))
    ]
    measured = measure(cases, repeats=min(options.repeats, 3), threads=options.threads, limits=False)
    goals = [Goal("cold zoo run: time / that when the work on speed began", measured.ratio("now", cases[0].name), 0.5)]
    return Section("From data to a trained model", body(measured, cases[0].name), goals, [measured])


def body(measured: Measured, before: str) -> str:
    rows = [f"| {words} | {_seconds(measured, before, name)} | {_seconds(measured, 'now', name)} |"
            for name, words in PHASES.items()]  # fmt: skip
    errors = {name: statistics.median(p["mae_ten"] for p in made.each) for name, made in measured.passes.items()}
    return f"""
`zoo run dtnet_total` with an empty cache on {os.cpu_count()} cores, the number of threads each one's own choice.

{measured.table(before)}

By phase, medians in seconds; test MAE_ten of seed 0: {errors[before]:.2f} before, {errors["now"]:.2f} now (dropout
draws other numbers now: the two differ as two seeds do).

| phase | {before} | now |
|---|---|---|
{chr(10).join(rows)}
"""


def _seconds(measured: Measured, case: str, phase: str) -> str:
    return f"{statistics.median(p[phase] for p in measured.passes[case].each):.1f}"


if __name__ == "__main__":
    command(main)
