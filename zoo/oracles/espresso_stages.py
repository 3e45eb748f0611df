"""The programs of one crystal, one after another, each known again when it has come to its end for the same input."""

from __future__ import annotations

import hashlib
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import CalculationFailed, ZooError
from zoo.oracles import espresso_results as results
from zoo.oracles.espresso_inputs import SCRATCH
from zoo.oracles.external import not_begun, run_program, signal_of
from zoo.storage.run_folder import read_json, write_json, write_text

RECORD = "stages.json"
"""File that records the input of each stage, and whether it has ended."""
ORDER = ("relax", "scf", "ph", "dynmat")
MADE_FOR = "made_for"
"""File in the scratch folder: the key of the ground state that lies in it."""


@dataclass(frozen=True)
class Stage:
    """A program and its input.

    Attributes:
        name: one of `ORDER`; its files are NAME.in and NAME.out.
        program: pw.x, ph.x or dynmat.x.
        command: that starts it.
        text: the input.
        key: hash of this input and all that it builds on.
    """

    name: str
    program: str
    command: str
    text: str
    key: str

    @classmethod
    def after(cls, before: str, name: str, program: str, command: str, text: str) -> Stage:
        """The stage that builds on the one of which `before` is the key."""
        return cls(name, program, command, text, digest(before, text))


def digest(*parts: str) -> str:
    """Hash of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass
class Stages:
    """Runs stages in a folder, one call of them.

    Attributes:
        folder: the crystal's.
        deadline: when all must have ended, in seconds of time.monotonic(); what a stage took in earlier calls is taken
            off when its output is asked for.
        env: environment of the programs.
        seconds: how long each stage took, in earlier calls too.
    """

    folder: Path
    deadline: float
    env: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        """Folder of the wavefunctions."""
        return self.folder / SCRATCH

    def log(self, stage: Stage) -> Path:
        """Return the file that holds what a stage printed."""
        return self.folder / f"{stage.name}.out"

    def output(self, stage: Stage) -> str | None:
        """Return the output of a stage where it has ended for this input, else None."""
        path = self.log(stage)
        record = self._record().get(stage.name, {})
        if record.get("key") != stage.key:
            return None
        self.seconds[stage.name] = float(record["seconds"]) + (0.0 if record["ended"] else self._killed_after(path))
        self.deadline -= self.seconds[stage.name]
        if not record["ended"] or not path.is_file():
            return None
        text = _read(path)
        return text if results.ended(text) else None

    def ground_state(self, stage: Stage) -> str:
        """Run pw.x from an empty scratch folder; what it printed."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        printed = self.run(stage)
        write_text(self.scratch / MADE_FOR, stage.key)
        return printed

    def has_ground_state(self, stage: Stage) -> bool:
        """Whether the wavefunctions of a stage of pw.x are there."""
        path = self.scratch / MADE_FOR
        return path.is_file() and _read(path) == stage.key

    def response(self, stage: Stage, recovering: str) -> str:
        """Run ph.x; go on where an earlier call was interrupted in it. What it printed.

        Args:
            stage: its input.
            recovering: the input that lets it go on.
        """
        halfway = self.scratch / "_ph0"
        if halfway.is_dir() and self._record().get(stage.name, {}).get("key") == stage.key:
            try:
                return self.run(stage, recovering)
            except CalculationFailed:
                if time.monotonic() > self.deadline:
                    raise
        shutil.rmtree(halfway, ignore_errors=True)
        return self.run(stage)

    def run(self, stage: Stage, text: str | None = None) -> str:
        """Run a program; what it printed.

        Args:
            stage: program and input.
            text: another input than the stage's that leads to the same.

        Raises:
            CalculationFailed: it has not come to its proper end.
            ZooError: it cannot be started, or something is wrong with this machine.
        """
        write_text(self.folder / f"{stage.name}.in", text or stage.text)
        before = self.seconds.get(stage.name, 0.0)
        self._note(stage, ended=False, seconds=before)
        began = time.monotonic()
        log = self.log(stage)
        try:
            status = run_program(
                f"{stage.command} -i {stage.name}.in",
                self.folder,
                log=log.name,
                deadline=self.deadline,
                env=self.env,
            )
        finally:
            self.seconds[stage.name] = round(before + time.monotonic() - began, 1)
        printed = _read(log)
        _judge(stage, status, printed, log)
        self._note(stage, ended=True, seconds=self.seconds[stage.name])
        return printed

    def _killed_after(self, log: Path) -> float:
        """Seconds that a stage ran which has not ended: the record was last written when it began."""
        began = (self.folder / RECORD).stat().st_mtime
        return max(0.0, log.stat().st_mtime - began) if log.is_file() else 0.0

    def _record(self) -> dict[str, Any]:
        path = self.folder / RECORD
        return dict(read_json(path)) if path.is_file() else {}

    def _note(self, stage: Stage, *, ended: bool, seconds: float) -> None:
        earlier = ORDER[: ORDER.index(stage.name)]  # what comes later was made of an earlier output: it is made again
        kept = {name: note for name, note in self._record().items() if name in earlier}
        note = {"key": stage.key, "ended": ended, "seconds": seconds}
        write_json(self.folder / RECORD, {**kept, stage.name: note})


def _judge(stage: Stage, status: int, printed: str, log: Path) -> None:
    number, begun = signal_of(status), results.version(printed) is not None
    # Open MPI that finds no program ends with 134, as if of SIGABRT; of a real signal it says a word.
    if number is not None and (begun or status < 0 or str(signal.strsignal(number)) in printed):
        raise CalculationFailed(f"{stage.program} was ended by a signal ({number.name}; end of {log.name})")
    if not begun:
        raise not_begun(stage.command, stage.program, status, log)
    why = results.complaint(printed)
    if why is not None and "namelist" in why:
        raise ZooError(f"{stage.program} cannot read its input: {why}")
    if why is not None or status != 0 or not results.ended(printed):
        raise CalculationFailed(f"{stage.program}: {why or f'has stopped with status {status} (end of {log.name})'}")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
