"""Answers of trained models: from the shell, and many of them in Python. A CSV on standard output.

    python benchmarks/answers.py MODEL... [--count 100] [--starts 5] [--threads 1] [--file FILE] [--against CHECKOUT]

MODEL is a run folder, a registered name or an MLflow URI. A *start* is `zoo predict MODEL FILE`, a process of its own,
in seconds of processor time (user and system), which other programs disturb less than the clock; `import torch` is
measured in the same turns, as a measure of the machine. Crystals a second are of petousis2017, after a first answer. A
model that needs force constants is asked three times: by `predict`, which computes them each time, and as a screening
asks, which keeps them in a cache, here an empty one (*cold*), then with all of them there (*warm*).

With --against another checkout of the zoo takes turns with this one, both by PYTHONPATH.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PREDICT = "import sys; from zoo.cli.main import main; main()"


def environment(checkout: Path, cache: str, threads: int) -> dict[str, str]:
    """Variables of a process that runs a checkout's zoo by so many threads."""
    folders = [checkout, checkout / "encoders", checkout / "readouts"]
    numbers = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **numbers, "PYTHONPATH": os.pathsep.join(map(str, folders)), "ZOO_CACHE": cache}


def processor_seconds(words: list[str], variables: Mapping[str, str]) -> float:
    """Seconds of processor time that a process takes from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], env=variables, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def quartz(folder: Path) -> Path:
    """A CIF of α-quartz, 9 atoms."""
    from force_constants import QUARTZ

    path = folder / "quartz.cif"
    QUARTZ.to(str(path))
    return path


def main() -> None:
    """Measure, and write a row for each measurement as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--count", type=int, default=100, help="crystals, drawn at random; 0: starts alone")
    parser.add_argument("--starts", type=int, default=5, help="starts of each")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--file", type=Path, help="whose answer a start gives; default: α-quartz")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    chosen = parser.parse_args()
    trees = {"now": ROOT} | ({} if chosen.against is None else {"against": chosen.against.resolve()})
    out = csv.writer(sys.stdout)
    out.writerow(["zoo", "model", "what", "median", "lowest", "highest", "of now"])

    def tell(measured: Mapping[tuple[str, str], list[float]], what: str) -> None:
        for (tree, model), values in measured.items():
            pairs = zip(values, measured["now", model], strict=True) if ("now", model) in measured else ()
            ratio = statistics.median([a / b for a, b in pairs] or [float("nan")])
            numbers = (statistics.median(values), min(values), max(values), ratio)
            out.writerow([tree, model, what, *(f"{number:.3g}" for number in numbers)])
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = chosen.file or quartz(folder)
        starts: dict[tuple[str, str], list[float]] = {}
        for turn in range(chosen.starts + 1):  # the first one warms up what the system keeps of files
            for tree, checkout in trees.items():
                variables = environment(checkout, f"{name}/cache", chosen.threads)
                for model in chosen.models:
                    seconds = processor_seconds(["-c", PREDICT, "predict", model, str(file)], variables)
                    starts.setdefault((tree, model), []).extend([seconds] if turn else [])
            seconds = processor_seconds(["-c", "import torch"], environment(ROOT, f"{name}/cache", chosen.threads))
            starts.setdefault(("-", "import torch"), []).extend([seconds] if turn else [])
        tell(starts, "start, s of processor time")
        if not chosen.count:
            return
        speeds: dict[str, dict[tuple[str, str], list[float]]] = {}
        for model in chosen.models:
            for tree, checkout in trees.items():
                variables = environment(checkout, f"{name}/cache-{tree}", chosen.threads)
                words = [sys.executable, str(HERE / "workers" / "answer_passes.py"), model, str(chosen.count)]
                done = subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True, check=True)
                for what, speed in json.loads(done.stdout.splitlines()[-1]).items():
                    speeds.setdefault(what, {}).setdefault((tree, model), []).append(speed)
        for what, measured in speeds.items():
            tell(measured, what)


if __name__ == "__main__":
    main()
