"""The folder of a sweep, and which process works on which of its cells."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.errors import ZooError
from zoo.storage.run_folder import RunFolder, read_json, write_json
from zoo.sweep.cells import Cell, one_line


@dataclass(frozen=True)
class SweepFolder:
    """Names of what is in a sweep's folder.

    sweep.yaml      the resolved recipe with its sweep section
    cells/SLUG/     a run folder each; cell.json says what was chosen, failed.json why it failed
    table.csv       a row a cell and crystal system: mean and standard deviation over the seeds
    seeds.csv       a row a cell, seed and crystal system
    table.md        the same for people
    figure.png      and as a picture
    study.journal   Optuna's study, where no database holds it
    mlflow.json     the sweep's own MLflow run
    """

    path: Path

    @classmethod
    def existing(cls, path: Path) -> SweepFolder | None:
        """The folder of an earlier sweep, None where it is none."""
        return cls(path) if (path / "sweep.yaml").is_file() else None

    @property
    def plan(self) -> Path:
        """The resolved recipe."""
        return self.path / "sweep.yaml"

    @property
    def table(self) -> Path:
        """CSV, a row a cell and crystal system."""
        return self.path / "table.csv"

    @property
    def seeds(self) -> Path:
        """CSV, a row a cell, seed and crystal system."""
        return self.path / "seeds.csv"

    @property
    def markdown(self) -> Path:
        """The table for people."""
        return self.path / "table.md"

    @property
    def figure(self) -> Path:
        """The picture."""
        return self.path / "figure.png"

    @property
    def tracked(self) -> Path:
        """Run of the sweep in MLflow."""
        return self.path / "mlflow.json"

    def cell(self, slug: str) -> CellFolder:
        """The part of one cell."""
        return CellFolder(self.path / "cells" / slug)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time: for what all of them write. Nobody holds it for long."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield


@dataclass(frozen=True)
class CellFolder:
    """Files of a cell beside those of its run."""

    path: Path

    @property
    def run(self) -> RunFolder:
        """The cell is an ordinary run: `zoo predict` and `zoo evaluate` take it."""
        return RunFolder(self.path)

    @property
    def facts(self) -> Path:
        """Choices of the cell, and the seconds spent on training so far."""
        return self.path / "cell.json"

    @property
    def failed(self) -> Path:
        """Why the last attempt failed; not there if it did not."""
        return self.path / "failed.json"

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Whether this process has the cell for itself; False where another one is at work on it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".claim")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def begin(self, cell: Cell) -> None:
        """Write down what was chosen, at the first attempt."""
        if not self.facts.is_file():
            write_json(self.facts, {"labels": cell.labels, "seconds": 0.0})

    def spend(self, seconds: float) -> None:
        """Add to the time that was spent on training."""
        facts = read_json(self.facts)
        write_json(self.facts, {**facts, "seconds": facts["seconds"] + seconds})

    @property
    def seconds(self) -> float | None:
        """Spent on training, over all attempts."""
        return float(read_json(self.facts)["seconds"]) if self.facts.is_file() else None

    def fail(self, reason: str, error: BaseException | None = None) -> None:
        """Write down why an attempt failed; for a programmer, where in the code it did."""
        content: dict[str, Any] = {"reason": reason, "time": datetime.now(UTC).isoformat(), "at": time.time()}
        if error is not None and not isinstance(error, ZooError):
            content["traceback"] = "".join(traceback.format_exception(error))
        write_json(self.failed, content)

    def fail_with(self, error: BaseException) -> None:
        """The same for an exception."""
        self.fail(one_line(error), error)

    @property
    def failure(self) -> dict[str, Any] | None:
        """Why the last attempt failed."""
        return read_json(self.failed) if self.failed.is_file() else None

    def failed_since(self, begin: float) -> bool:
        """Whether another process has tried and failed meanwhile."""
        failure = self.failure
        return failure is not None and bool(failure["at"] >= begin)
