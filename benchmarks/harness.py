"""Measure cases side by side: each in a process of its own, passes interleaved A B A B ..., same threads, same input.

    python benchmarks/THIS.py [--quick] [--threads 1]

A benchmark is a file with a `main` and, for each side, a worker script in `workers/` that ends in `serve(one_pass)`:

    def main(options: Options) -> Section:
        python = environment("nequip", "nequip==0.19.1")                  # a Python of the peer's own, made once
        cases = [Case("zoo", worker("ours.py", "arg")), Case("peer", worker("theirs.py", "arg", python=python))]
        measured = measure(cases, repeats=options.repeats, threads=options.threads, memory=True)
        goal = Goal("time against the peer's", measured.ratio("zoo", "peer"), at_most=0.5)
        return Section("What is measured", measured.table(against="peer"), [goal], [measured])

    if __name__ == "__main__":
        command(main)

`Options`, `Section`, `Goal` and `command` are those of report.py: `command` reads the options, prints the section and
keeps it as JSON, from which `make bench` (all.py) writes docs/benchmarks.md.
All processes live through the whole measurement and take turns, so that whatever else the machine does meets all alike;
two more measure the machine's memory bandwidth and FLOP/s in the same turns. `Case(..., cold=True)` is any command,
started anew for every pass and timed from start to end.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

HERE = Path(__file__).parent
PASS_LIMIT = 900  # s; a pass that takes longer has failed
LIMITS = {"bandwidth": "bytes", "flops": "flops"}  # the limits of the machine, and what a worker says of its passes

# Memory is measured with an allocator that gives back what is freed: what a pass adds is then what it needs at once.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}


class Failed(Exception):
    """A process ended, or did not answer in time; the text is the end of what it said."""


@dataclass(frozen=True)
class Case:
    """One side of a comparison.

    Attributes:
        name: in tables.
        argv: the command; `worker` makes that of a worker script. Cases with the same command share its process.
        order: which of the passes that the worker serves.
        env: environment variables beside those of the threads.
        cold: a pass is the whole command, from its start to its end; the last line of its stdout is kept if it is a
            JSON object.
        peer: if it fails, this is reported and the others go on. Else the failure is raised.
    """

    name: str
    argv: Sequence[str]
    order: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cold: bool = False
    peer: bool = False


def worker(script: str, *args: object, python: Path | str = sys.executable) -> list[str]:
    """The command of a worker script (in workers/) with its arguments."""
    return [str(python), "-W", "ignore", str(HERE / "workers" / script), *map(str, args)]


@dataclass
class Passes:
    """Measurements of one case.

    Attributes:
        about: what the worker said of itself, once: `flops`, `bytes`, `items` of a pass, versions, ...
        each: what it said of every pass: seconds, cpu, ...
        memory_mb: resident memory that a pass adds at its peak; of a cold case, its whole peak.
    """

    about: dict[str, Any] = field(default_factory=dict)
    each: list[dict[str, Any]] = field(default_factory=list)
    memory_mb: float | None = None

    @property
    def seconds(self) -> list[float]:
        return [p["seconds"] for p in self.each]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.each) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


@dataclass
class Measured:
    """All cases that were measured together.

    Attributes:
        passes: by case.
        failed: why, by case, for peers that failed.
        limits: FLOP/s and bytes/s of the machine with this many threads (median over the same turns).
        others: processor cores that others kept busy meanwhile: 0 on a quiet machine.
    """

    threads: int
    passes: dict[str, Passes]
    failed: dict[str, str]
    limits: dict[str, float]
    others: float

    def ratio(self, case: str, against: str) -> float | None:
        """Time of `case` over that of `against`: the median of the ratios turn by turn. None if one failed."""
        if not {case, against} <= self.passes.keys():
            return None
        pairs = zip(self.passes[case].seconds, self.passes[against].seconds, strict=True)
        return statistics.median(a / b for a, b in pairs)

    def memory_ratio(self, case: str, against: str) -> float | None:
        """Memory of `case` over that of `against`; None if one failed or was not measured."""
        pair = [self.passes[name].memory_mb if name in self.passes else None for name in (case, against)]
        return pair[0] / pair[1] if pair[0] is not None and pair[1] else None

    def share(self, case: str, limit: str) -> float | None:
        """Share of the machine's `limit` ("flops" or "bandwidth") that a case reaches; None if it does not count."""
        passes = self.passes[case]
        if limit not in self.limits or LIMITS[limit] not in passes.about:
            return None
        return passes.about[LIMITS[limit]] / passes.median / self.limits[limit]

    def table(self, against: str, cases: Mapping[str, str] | None = None, item: str = "item") -> str:
        """Markdown, a row a case, relative to the case `against`.

        Args:
            against: a case.
            cases: the cases to show, by what to call them there; default: all.
            item: what throughput counts.
        """
        named = cases or {name: name for name in [*self.passes, *self.failed]}
        shown = {label: self.passes[name] for label, name in named.items() if name in self.passes}
        throughput = any("items" in p.about for p in shown.values())
        memory = any(p.memory_mb is not None for p in shown.values())
        counted = [k for k in LIMITS if k in self.limits and any(LIMITS[k] in p.about for p in shown.values())]
        head = ["", "median s", "quartiles", "relative time"]
        head += [f"{item}s/s"] * throughput + ["memory MB", "relative memory"] * memory
        head += [f"share of {'FLOP/s' if k == 'flops' else k}" for k in counted]
        rows = [head, ["---"] * len(head)]
        for label, p in shown.items():
            name = named[label]
            row = [label, f"{p.median:.3g}", "{:.3g} – {:.3g}".format(*p.quartiles), _number(self.ratio(name, against))]
            row += [_number(p.about["items"] / p.median if "items" in p.about else None)] * throughput
            row += [_number(p.memory_mb), _number(self.memory_ratio(name, against))] if memory else []
            row += [_percent(self.share(name, k)) for k in counted]
            rows.append(row)
        for label, name in named.items():
            if name in self.failed:
                rows.append([label, f"failed: {self.failed[name]}", *[""] * (len(head) - 2)])
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        passes = {k: {"about": p.about, "memory_mb": p.memory_mb, "each": p.each} for k, p in self.passes.items()}
        return {**vars(self), "passes": passes}


def measure(
    cases: Sequence[Case],
    *,
    repeats: int,
    threads: int = 1,
    warmup: int = 1,
    memory: bool = False,
    limits: bool = True,
) -> Measured:
    """Run the cases in turns.

    Args:
        cases: names differ.
        repeats: passes of each that count.
        threads: of every process.
        warmup: passes of each before (none of cold cases).
        memory: also measure the memory of a pass, in further processes (of cold cases the peak of all passes).
        limits: also measure what the machine can do.

    Raises:
        Failed: a case that is no peer failed.
    """
    machine = [Case(name, worker("limits.py", name)) for name in LIMITS] if limits else []
    lasting = [case for case in cases if not case.cold]
    passes = {case.name: Passes() for case in [*machine, *cases]}
    failed: dict[str, str] = {}
    bar = tqdm(total=len(passes) * repeats, unit=" passes", disable=None)

    def each(among: Sequence[Case], what: str, act: Callable[[Case], object]) -> None:
        for case in among:
            if case.name not in failed:
                bar.set_description(f"{case.name} {what}")
                try:
                    act(case)
                except Failed as failure:
                    if not case.peer:
                        raise
                    failed[case.name] = str(failure)

    with bar, _Team(threads) as team:

        def start(case: Case) -> None:
            passes[case.name].about = team.start(case)

        def run(case: Case) -> None:
            passes[case.name].each.append(team.turn(case))
            bar.update()

        each([*machine, *lasting], "starts", start)
        for _ in range(warmup):
            each([*machine, *lasting], "warms up", team.turn)
        load = _Load()
        for _ in range(repeats):
            each([*machine, *cases], "runs", run)
        others = load.of_others(sum(p["cpu"] for made in passes.values() for p in made.each))
    if memory:
        with _Team(threads, GIVE_BACK) as team:

            def size(case: Case) -> None:
                if case.cold:
                    passes[case.name].memory_mb = max(p["peak_mb"] for p in passes[case.name].each)
                else:
                    found = team.turn(case)
                    passes[case.name].memory_mb = found["peak_mb"] - found["before_mb"]

            for _ in range(2 if warmup else 1):  # the first pass also makes what lasts
                each(cases, "is sized", size)
    limit = {case.name: passes[case.name].about[LIMITS[case.name]] / passes[case.name].median for case in machine}
    kept = {case.name: passes[case.name] for case in cases if case.name not in failed}
    return Measured(threads, kept, failed, limit, others)


class _Team:
    """The processes of a measurement: each is started when it is first wanted, all are ended together."""

    def __init__(self, threads: int, extra: Mapping[str, str] | None = None) -> None:
        self.threads, self.extra = threads, extra or {}
        self.processes: dict[tuple[object, ...], _Process] = {}

    def __enter__(self) -> _Team:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes.values():
            process.close()

    def start(self, case: Case) -> dict[str, Any]:
        """Return what the worker reports of the case."""
        return self._process(case).about.get(case.order, {})

    def turn(self, case: Case) -> dict[str, Any]:
        """Run a pass and return what the worker reports of it."""
        return self._process(case).turn(case.order)

    def _process(self, case: Case) -> _Process:
        key = (*case.argv, *sorted(case.env.items()))
        if key not in self.processes:
            self.processes[key] = _Process(case, self.threads, self.extra)
        return self.processes[key]


class _Process:
    """A worker that waits for its turn; of a cold case, the command that each turn starts."""

    def __init__(self, case: Case, threads: int, extra: Mapping[str, str]) -> None:
        self.case = case
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        self.env = {**os.environ, **dict.fromkeys(names, str(threads)), "CUDA_VISIBLE_DEVICES": ""}
        self.env |= {**case.env, **extra}
        self.log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed by `close`
        self.about: dict[str, dict[str, Any]] = {}
        self.process: subprocess.Popen[str] | None = None
        if not case.cold:
            self.process = self._start(stdin=subprocess.PIPE)
            self.about = self._answer()

    def turn(self, order: str) -> dict[str, Any]:
        """Run one pass."""
        if self.case.cold:
            return self._whole_command()
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        return self._answer()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.log.close()

    def _start(self, stdin: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(self.case.argv), stdin=stdin, stdout=subprocess.PIPE, stderr=self.log, text=True, env=self.env
        )

    def _answer(self) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        timer = threading.Timer(PASS_LIMIT, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self.process.wait()
            raise Failed(self._last_words())
        return json.loads(line)

    def _whole_command(self) -> dict[str, Any]:
        start = time.perf_counter()
        process = self._start(stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            raise Failed(self._last_words())
        lines = out.strip().splitlines()
        found = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        times = {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime}
        return {**found, **times, "peak_mb": usage.ru_maxrss / 1024}

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().splitlines() if line.strip()]
        return lines[-1][-300:] if lines else "it ended without a word"


class _Load:
    """Use of the processors by all processes together."""

    def __init__(self) -> None:
        self.start, self.busy = time.perf_counter(), self._busy()

    def of_others(self, ours: float) -> float:
        """Cores that others kept busy since, `ours` being the processor time (s) of the cases."""
        return max((self._busy() - self.busy - ours) / (time.perf_counter() - self.start), 0.0)

    @staticmethod
    def _busy() -> float:
        user, nice, system = Path("/proc/stat").read_text().split()[1:4]
        return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2g} %"
