"""The folder of a sweep, and the locks by which processes share its cells."""

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
from zoo.storage.work_folder import WorkFolder
from zoo.sweep.cells import Cell, one_line


@dataclass(frozen=True)
class SweepFolder(WorkFolder):
    """Names of the files in a sweep's folder.

    sweep.yaml      the resolved recipe with its sweep section
    study.journal   the Optuna study, unless a database holds it
    cells/SLUG/     a run folder for each cell; cell.json holds the choices, failed.json the reason of a failure
    table.csv       a row for each cell and crystal system: mean and standard deviation over the seeds
    seeds.csv       a row for each cell, seed and crystal system
    table.md        the table in Markdown
    figure.png      the figure
    mlflow.json     id of the sweep's own MLflow run, by tracking URI
    """

    # It has no result that is written last: failed cells can be tried again at any time.
    KIND = "sweep"
    RECIPE = "sweep.yaml"

    @property
    def journal(self) -> Path:
        """The journal of the Optuna study."""
        return self.path / "study.journal"

    @property
    def table(self) -> Path:
        """CSV with a row for each cell and crystal system."""
        return self.path / "table.csv"

    @property
    def seeds(self) -> Path:
        """CSV with a row for each cell, seed and crystal system."""
        return self.path / "seeds.csv"

    @property
    def markdown(self) -> Path:
        """The table in Markdown."""
        return self.path / "table.md"

    @property
    def figure(self) -> Path:
        """The figure, PNG."""
        return self.path / "figure.png"

    def cell(self, slug: str) -> CellFolder:
        """The folder of one cell."""
        return CellFolder(self.path / "cells" / slug)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the files that all processes write. Nobody holds it for long."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield


@dataclass(frozen=True)
class CellFolder:
    """The run folder of a cell, with the files that a sweep adds to it."""

    path: Path

    @property
    def run(self) -> RunFolder:
        """The ordinary run folder: `zoo predict` and `zoo evaluate` take it."""
        return RunFolder(self.path)

    @property
    def facts(self) -> Path:
        """JSON: labels of the choices, and the seconds spent on training so far."""
        return self.path / "cell.json"

    @property
    def failed(self) -> Path:
        """JSON: reason of the last attempt's failure; missing if it did not fail."""
        return self.path / "failed.json"

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Hold the cell's lock if it is free: True; False while another process trains the cell.

        The operating system frees the lock when its process ends, however it ends.
        """
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
        """Write down the choices, at the first attempt."""
        if not self.facts.is_file():
            write_json(self.facts, {"labels": cell.labels, "seconds": 0.0})

    def spend(self, seconds: float) -> None:
        """Add to the seconds spent on training."""
        facts = read_json(self.facts)
        write_json(self.facts, {**facts, "seconds": facts["seconds"] + seconds})

    @property
    def seconds(self) -> float | None:
        """Seconds spent on training, over all attempts; None before the first."""
        return float(read_json(self.facts)["seconds"]) if self.facts.is_file() else None

    def fail(self, error: BaseException) -> None:
        """Write down why an attempt failed, with the traceback unless the error is one of the user's."""
        content: dict[str, Any] = {"reason": one_line(error), "time": datetime.now(UTC).isoformat(), "at": time.time()}
        if not isinstance(error, ZooError):
            content["traceback"] = "".join(traceback.format_exception(error))
        write_json(self.failed, content)

    @property
    def failure(self) -> dict[str, Any] | None:
        """Content of `failed.json`; None if the last attempt did not fail."""
        return read_json(self.failed) if self.failed.is_file() else None
