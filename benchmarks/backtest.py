"""Backtest of the acquisitions: how many of the best of the hidden 80 % of petousis2017 each finds, by replay.

    python benchmarks/backtest.py runs/backtest                 # goes on where it was stopped
    python benchmarks/backtest.py runs/backtest --only-report   # table, CSV and picture of what is there
    python benchmarks/backtest.py runs/joint --recipe backtest_dielectric --tasks anisotropy --acquisitions ucb

The recipe is `backtest_total` (three rounds of 20), or that of `--recipe`. The crystals known at the start, the split
and so the first models are the repeat's: all acquisitions and both tasks share them. Candidates are the usable crystals
of the dataset (in range, no duplicates) that are not known; the true top 20 are among these, molecular crystals aside
where the objective wants it so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config import plugins, recipe
from zoo.config.recipe import Plugin, Recipe
from zoo.contract.discovery import Objective
from zoo.contract.plugin import Record
from zoo.data.subset import dataset_of
from zoo.discovery.molecular import is_molecular
from zoo.discovery.rounds import discovery_config, round_figures
from zoo.discovery.rounds.aim import objective_of
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder
from zoo.discovery.rounds.loop import Loop
from zoo.graphs.store import GraphStore
from zoo.model.tensor_model import build
from zoo.runtime.devices import choose_device
from zoo.storage.run_folder import RunFolder, read_json, read_rows, write_json, write_rows, write_text
from zoo.workflows import train as runs
from zoo.workflows.training_force_constants import force_constants

TASKS = {"constant": {"name": "polycrystalline"}, "anisotropy": {"name": "anisotropy"}}
WORDS = {"constant": "high dielectric constant", "anisotropy": "high anisotropy"}
OBJECTIVE = {"constant": "tr ε/3, total", "anisotropy": "anisotropy of the total tensor"}
ACQUISITIONS = ("ucb", "greedy", "expected-improvement", "random")
TOP = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--recipe", default="backtest_total", help="of zoo discover; all else in OUT is of the same one"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[*TASKS])
    parser.add_argument("--acquisitions", nargs="+", choices=ACQUISITIONS, default=[*ACQUISITIONS])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-report", action="store_true")
    options = parser.parse_args()
    if not options.only_report:
        keep_force_constants(options.recipe)
        for repeat in range(options.repeats):
            for task in options.tasks:
                truth(options.out, repeat, task, options.recipe)
                for acquisition in options.acquisitions:
                    discover(options.out, repeat, task, acquisition, options.rounds, options.recipe)
                    report(options.out)
    report(options.out)


def keep_force_constants(name: str) -> None:
    """Compute those of all crystals, where the models need some: many at the same time, rather than in the rounds."""
    training = discovery_config.read(name).training()
    target = runs.target_of(training)
    model = build(training.encoder, training.readout, target, training.force_constants.potential)
    if model.readout.needs.force_constants:
        crystals = runs.usable(training).crystals
        graphs = GraphStore.build(crystals, model.encoder.cutoff, crystals.keys)
        force_constants(training, graphs, choose_device(training.device), print)


def recipe_of(
    out: Path, repeat: int, task: str, acquisition: str, rounds: int, name: str
) -> discovery_config.Discovery:
    """One cell of the backtest."""
    where = out / f"repeat_{repeat}"
    content, path = recipe.read_content(name)
    hidden = {"name": "subset", "dataset": {"name": "petousis2017"}, "path": str((where / "hidden.txt").resolve())}
    content |= {
        "name": f"backtest_{task}_{acquisition}",
        "candidates": {"dataset": hidden},
        "objective": TASKS[task],
        "acquisition": {"name": acquisition},
        "seed": repeat,
        "rounds": rounds,
        "tracking": {"enabled": False},
    }
    content["start"]["seed"] = repeat
    content["model"] |= {"last": False, "change": {**content["model"]["change"], "split.seed": repeat}}
    if acquisition == "random":  # looks at no model: one that is hardly trained is as good
        content["model"]["members"] = 1
        content["model"]["change"]["training.max_epochs"] = 1
    elif (where / "first").is_dir():
        content["model"]["first"] = str((where / "first").resolve())
    return discovery_config.parse(content, path)


def truth(out: Path, repeat: int, task: str, name: str = "backtest_total") -> dict[str, Any]:
    """Return the hidden crystals and the best of them; the recipe counts where they are not written down yet."""
    where = out / f"repeat_{repeat}"
    path = where / f"truth_{task}.json"
    if path.is_file():
        return read_json(path)
    config = discovery_config.read(name)
    crystals, start = runs.usable(config.training()).crystals, config.start
    assert start.share is not None
    drawn = np.random.default_rng(repeat).permutation(len(crystals))[: round(start.share * len(crystals))]
    known = {crystals.keys[i] for i in drawn}  # as zoo.discovery.rounds.start draws them
    objective = objective_named(TASKS[task])
    records = {r.key: r for r in dataset_of(Plugin(name="petousis2017")).records() if isinstance(r, Record)}
    hidden = sorted(set(crystals.keys) - known)
    values = objective_of(
        objective, np.stack([records[k].targets["total"] for k in hidden]), [records[k].properties for k in hidden]
    )
    best: list[str] = []
    for i in np.argsort(-values, kind="stable"):
        if len(best) == TOP:
            break
        if not (objective.non_molecular and is_molecular(records[hidden[i]].structure)):
            best.append(hidden[i])
    write_text(where / "hidden.txt", "\n".join(hidden) + "\n")
    content: dict[str, Any] = {
        "top": best,
        "values": {k: float(v) for k, v in zip(hidden, values, strict=True)},
        "known": sorted(known),
    }
    write_json(path, content)
    return content


def objective_named(choice: Mapping[str, Any]) -> Objective:
    """An objective with its default settings."""
    objective: Objective = plugins.load("objective", choice["name"])(plugins.hypers("objective", choice["name"], {}))
    return objective


def discover(out: Path, repeat: int, task: str, acquisition: str, rounds: int, name: str) -> None:
    """One cell, from where it was."""
    folder = DiscoveryFolder(out / f"repeat_{repeat}" / task / acquisition)
    if folder.finished:
        return
    first = out / f"repeat_{repeat}" / "first"
    begun = folder.recipe.is_file()
    config = (
        discovery_config.read(str(folder.recipe)) if begun else recipe_of(out, repeat, task, acquisition, rounds, name)
    )
    begin = time.monotonic()

    def train(training: Recipe, place: RunFolder) -> dict[str, Any]:
        return runs.run(training, place, lambda line: None)

    loop = Loop(config, folder, train, lambda line: None)
    with loop.begun():
        loop.go_on(lambda: None)
    known = set(read_json(folder.start)["usable"])
    assert known == set(truth(out, repeat, task)["known"])
    if acquisition != "random" and not first.is_dir():
        first.symlink_to(folder.round(1).model.path.resolve(), target_is_directory=True)
    print(f"repeat {repeat}, {task}, {acquisition}: {time.monotonic() - begin:.0f} s", flush=True)


def cells(out: Path) -> Iterator[tuple[int, str, str, list[dict[str, str]], dict[str, Any]]]:
    """Yield the finished cells: repeat, task, acquisition, evaluated candidates, truth."""
    for repeat in range(100):
        for task in TASKS:
            for acquisition in ACQUISITIONS:
                folder = DiscoveryFolder(out / f"repeat_{repeat}" / task / acquisition)
                if folder.finished:
                    yield repeat, task, acquisition, read_rows(folder.asked), truth(out, repeat, task)


def report(out: Path) -> None:
    """The CSV, the table in Markdown, and the picture."""
    rows: list[dict[str, Any]] = []
    found: dict[str, dict[str, list[np.ndarray]]] = {task: {} for task in TASKS}
    best: dict[str, dict[str, list[np.ndarray]]] = {task: {} for task in TASKS}
    for repeat, task, acquisition, asked, true in cells(out):
        hits = np.cumsum([row["key"] in true["top"] for row in asked])
        values = np.maximum.accumulate([float(row["value"] or "-inf") for row in asked])
        found[task].setdefault(acquisition, []).append(np.concatenate([[0], hits]))
        best[task].setdefault(acquisition, []).append(np.concatenate([[np.nan], values]))
        numbers = [int(row["round"]) for row in asked]
        for number in sorted(set(numbers)):
            last = len(numbers) - 1 - numbers[::-1].index(number)
            rows.append(
                {
                    "task": task,
                    "repeat": repeat,
                    "acquisition": acquisition,
                    "round": number,
                    "calls": last + 1,
                    "found_of_top_20": int(hits[last]),
                    "best_found": f"{values[last]:.4g}",
                    "best_hidden": f"{max(true['values'][key] for key in true['top']):.4g}",
                    "hidden": len(true["values"]),
                }
            )
    if not rows:
        return
    write_rows(out / "backtest.csv", rows)
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task]
        if not mine:
            continue
        rounds = sorted({row["round"] for row in mine})
        print(f"\n{WORDS[task]}: of the true top 20, found after\n")
        print("| acquisition | repeats | " + " | ".join(f"round {n}" for n in rounds) + " | the best one |")
        print("|---" * (3 + len(rounds)) + "|")
        for acquisition in ACQUISITIONS:
            some = [row for row in mine if row["acquisition"] == acquisition]
            if some:
                final = [row for row in some if row["round"] == rounds[-1]]
                got = sum(row["best_found"] == row["best_hidden"] for row in final)
                each = " | ".join(spread([r["found_of_top_20"] for r in some if r["round"] == n]) for n in rounds)
                print(f"| {acquisition} | {len(final)} | {each} | {got} of {len(final)} |")
        chance = TOP * mine[-1]["calls"] / mine[-1]["hidden"]
        print(f"\nexpected of chance after {mine[-1]['calls']} of {mine[-1]['hidden']}: {chance:.2f}", flush=True)
    for task in TASKS:
        round_figures.found(found[task], out / f"backtest_found_{task}.png", TOP)
        round_figures.progress(best[task], out / f"backtest_best_{task}.png", f"{OBJECTIVE[task]}, highest found")


def spread(values: list[int]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]}"


if __name__ == "__main__":
    main()
