"""The command: PYTHONPATH=tests python -m torture --seed 0 --seconds 600 --out table.csv."""

from __future__ import annotations

import argparse
import importlib
import itertools
import logging
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from torture import fuzz_each
from torture.cases import Kind
from torture.corruption import Corruption
from torture.every import every
from torture.fuzz import Fuzz
from torture.inputs import INPUTS
from torture.kills import Kills
from torture.lean import warm
from torture.made import Made
from torture.stores import Stores
from torture.table import Table
from torture.works import WORKS

KINDS = {"corruption": (Corruption, 5), "kills": (Kills, 3), "fuzz": (Fuzz, 1.5), "stores": (Stores, 2.5)}
"""Kinds of torture, and how much of the time each of them gets."""

FORKED_WITH = (
    "ase.visualize.plot",
    "e3nn.o3",
    "pymatgen.io.vasp",
    "sklearn.model_selection",
    "zoo.cli.main",
    "zoo.discovery.rounds.loop",
    "zoo.discovery.screen",
    "zoo.inference.predictor",
    "zoo.report.model_card",
    "zoo.sweep.track_sweep",
    "zoo.tracking.send",
    "zoo.workflows.train",
    "zoo_nequip",
    "zoo_sevennet",
    "zoo_dtnet",
    "zoo_painn",
    "zoo_painn_rank1",
)
"""Modules that are imported once before the forks: else each command would import them again."""


def numbers(made: Made, seconds: float, bar: tqdm) -> Iterator[int]:
    """Count cases until the time is over; what is spent on making the works does not count."""
    began, made_before, shown = time.monotonic(), made.seconds, 0.0
    for number in itertools.count():
        yield number
        used = time.monotonic() - began - (made.seconds - made_before)
        bar.update(min(used, seconds) - shown)
        shown = min(used, seconds)
        if used >= seconds:
            return


def arguments() -> argparse.Namespace:
    """Parse the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600, help="all kinds together, beside what is made first")
    parser.add_argument("--only", choices=KINDS, help="one kind")
    parser.add_argument("--case", type=int, help="one case of it, with all that is said of it")
    parser.add_argument("--every", action="store_true", help="every operation of every work, with --only kills")
    parser.add_argument("--work", choices=[work.name for work in WORKS], help="of this alone, with --every")
    parser.add_argument("--each", type=int, help="so many of each kind of input, with --only fuzz")
    parser.add_argument("--input", choices=[one.what for one in INPUTS], help="of this kind alone, with --only fuzz")
    parser.add_argument("--out", type=Path, help="the table as CSV")
    chosen = parser.parse_args()
    if (chosen.each is not None and (chosen.only != "fuzz" or chosen.out is None)) or (
        chosen.input is not None and chosen.only != "fuzz"
    ):
        parser.error("--each and --input are for --only fuzz, and --each for --out FILE.csv, too")
    if chosen.every and (chosen.only != "kills" or chosen.out is None):
        parser.error("--every is for --only kills --out FILE.csv")
    if chosen.case is not None and chosen.only is None:
        parser.error("--case is one of a kind: say --only, too")
    return chosen


def main() -> int:
    """Go through the kinds; 1 where anything failed."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore")
    logging.captureWarnings(True)
    for module in FORKED_WITH:
        importlib.import_module(module)
    warm()
    if chosen.only == "fuzz" and (chosen.each is not None or chosen.input is not None):
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            return fuzz_each.go(Made(Path(folder).resolve()), chosen)
    if chosen.every:
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            return every(Made(Path(folder).resolve()), chosen.out, chosen.work)
    table = Table(chosen.seed)
    kinds = {name: KINDS[name] for name in ([chosen.only] if chosen.only else KINDS)}
    shares = sum(share for _, share in kinds.values())
    with tempfile.TemporaryDirectory(prefix="torture-") as folder, tqdm(
        total=chosen.seconds, unit=" s", bar_format="{desc} {n:.0f}/{total:.0f} s|{bar}|{postfix}", disable=None
    ) as bar:  # fmt: skip
        made = Made(Path(folder).resolve())
        for name, (make, share) in kinds.items():
            kind: Kind = make(made, chosen.seed)
            bar.set_description(name)
            one = chosen.case is not None
            turn = iter([chosen.case]) if one else numbers(made, chosen.seconds * share / shares, bar)
            for count, tried in enumerate(kind.run(turn), 1):
                table.add(name, tried)
                bar.set_postfix_str(f"{count} cases, {table.failed} failed", refresh=False)
                if one:
                    bar.write(f"{tried.what}\n{tried.how}\n{tried.outcome.verdict}: {tried.outcome.why}")
            table.notes += kind.notes()
    print(table)
    if chosen.out is not None:
        table.write(chosen.out)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
