"""Results of a benchmark: a section with its goals, kept as JSON, and the page that is written from all of them."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import Measured

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".cache" / "benchmarks"
INTRODUCTION = """\
# Benchmarks

Written by `make bench`; nothing here is edited by hand. Each section is one command, named below it, that runs ours
and its peers in turns, in processes of their own, on the same input with the same threads. Times are medians with
quartiles; a ratio is the median of the ratios turn by turn. Memory is what a pass adds to its process at its peak.
FLOP/s are those of the matrix products alone, held against a large float32 product; both limits of the machine were
measured in the same turns."""
BUSY = 0.1  # cores that others may use on a machine that counts as quiet


@dataclass(frozen=True)
class Options:
    """Options of every benchmark.

    Attributes:
        quick: a short check that it works; the numbers say little.
        threads: of every process.
    """

    quick: bool
    threads: int

    @property
    def repeats(self) -> int:
        """Passes of each case."""
        return 2 if self.quick else 7


@dataclass(frozen=True)
class Goal:
    """A figure that is aimed at; `value` is None where a peer failed."""

    what: str
    value: float | None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """None: not measured."""
        if self.value is None:
            return None
        high = self.at_most is None or self.value <= self.at_most
        return high and (self.at_least is None or self.value >= self.at_least)

    def row(self) -> str:
        """Markdown."""
        wanted = f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"
        value = "" if self.value is None else f"{self.value:.3g}"
        met = {True: "met", False: "**missed**", None: "not measured"}[self.met]
        return f"| {self.what} | {wanted} | {value} | {met} |"


@dataclass
class Section:
    """Results of one benchmark.

    Attributes:
        title: of the section.
        body: Markdown.
        goals: held against what was measured.
        measured: everything, kept with it.
    """

    title: str
    body: str
    goals: Sequence[Goal] = ()
    measured: Sequence[Measured] = field(default_factory=list)

    def others(self) -> float:
        """Cores that others kept busy meanwhile."""
        return max((m.others for m in self.measured), default=0.0)


def command(main: Callable[[Options], Section]) -> None:
    """The command line of a benchmark."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="a short check that it works")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    section = main(Options(given.quick, given.threads))
    found = {
        "name": name,
        "title": section.title,
        "body": section.body,
        "goals": [vars(goal) for goal in section.goals],
        "measured": [measured.as_dict() for measured in section.measured],
        "command": " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]]),
        "threads": given.threads,
        "quick": given.quick,
        "others": section.others(),
        "machine": machine(),
    }
    if not given.quick:  # the page has no such numbers
        KEPT.mkdir(parents=True, exist_ok=True)
        path = KEPT / f"{name}.json"
        path.with_suffix(".part").write_text(json.dumps(found, indent=1))
        path.with_suffix(".part").replace(path)
    print(_section(found))


def machine() -> dict[str, Any]:
    """Describe machine, versions and date."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory[1]) / 2**20) if memory else None,
        "python": platform.python_version(),
        "torch": version("torch"),
        "e3nn": version("e3nn"),
        "commit": git.stdout.strip() or "unknown",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def page(names: Sequence[str], failed: dict[str, str]) -> str:
    """docs/benchmarks.md from what is kept of the benchmarks `names`; `failed` says of those that failed why."""
    kept = {name: KEPT / f"{name}.json" for name in names}
    found = [json.loads(path.read_text()) for name, path in kept.items() if path.is_file() and name not in failed]
    missing = [f"`benchmarks/{name}.py`" for name, path in kept.items() if not path.is_file() and name not in failed]
    if not found:
        raise SystemExit("no benchmark has been run: python benchmarks/all.py")
    machines = {json.dumps({k: v for k, v in f["machine"].items() if k not in ("commit", "date")}) for f in found}
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        *(_machine_line(json.loads(m)) for m in sorted(machines)),
        "",
        "## Goals",
        "",
        "| | goal | measured | |",
        "|---|---|---|---|",
        *(Goal(**goal).row() for f in found for goal in f["goals"]),
        "",
        *(_section(f) for f in found),
    ]
    if missing:
        lines += [f"Not run for this page: {', '.join(missing)}.", ""]
    if failed:
        lines += ["## Failed", "", *(f"- `benchmarks/{name}.py`: {why}" for name, why in failed.items()), ""]
    return "\n".join(lines)


def _machine_line(m: dict[str, Any]) -> str:
    return (
        f"Machine: {m['processor']}, {m['cores']} cores, {m['memory_gb']} GB; "
        f"Python {m['python']}, torch {m['torch']}, e3nn {m['e3nn']}."
    )


def _section(found: dict[str, Any]) -> str:
    lines = [f"## {found['title']}", "", found["body"].strip(), ""]
    lines += [_verdict(Goal(**goal)) for goal in found["goals"]]
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    at = found["machine"]
    note = f"`{found['command']}`: {threads}, {at['date']}, commit {at['commit']}"
    for m in found["measured"][:1]:
        if m["limits"]:
            note += f"; limits {m['limits']['flops'] / 1e9:.3g} GFLOP/s, {m['limits']['bandwidth'] / 1e9:.3g} GB/s"
    note += "."
    if found["quick"]:
        note += " **A quick check: the numbers say little.**"
    if found["others"] > BUSY:
        note += f" **The machine was not quiet: others kept {found['others']:.1f} of its {at['cores']} cores busy.**"
    return "\n".join([*lines, "", note, ""])


def _verdict(goal: Goal) -> str:
    _, what, wanted, value, met, _ = (part.strip() for part in goal.row().split("|"))
    return f"- {what}: {value} (goal {wanted}): {met}"
