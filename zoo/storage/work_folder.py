"""The folder of a long piece of work, be it a run, a sweep, a screening, a discovery or a Matbench."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import ClassVar, Self

from filelock import FileLock, Timeout

from zoo.errors import ZooError
from zoo.storage import checksums

logger = logging.getLogger(__name__)


LOCK = ".lock"
"""File by which a process that works in a folder keeps others out; it stays there."""


def remove_unused(path: Path) -> None:
    """Remove a folder that holds nothing, or a lock alone; it stays where a process works in it, or more is there."""
    with suppress(OSError, Timeout):
        if [one.name for one in path.iterdir()] == [LOCK]:
            with FileLock(path / LOCK, blocking=False):
                (path / LOCK).unlink()
        path.rmdir()


@dataclass(frozen=True)
class WorkFolder:
    """Files that every such folder has; the work is finished when its result is there.

    Attributes:
        path: the folder.
        KIND: what the work is called in messages.
        RECIPE: file name of the resolved recipe, which is written first and tells the kinds of folders apart.
        RESULT: file name of the result, which is written last.
    """

    path: Path
    KIND: ClassVar[str] = "run"
    RECIPE: ClassVar[str] = "recipe.yaml"
    RESULT: ClassVar[str] = "metrics.json"

    @classmethod
    def new(cls, name: str, parent: Path = Path("runs")) -> Self:
        """Create a new folder under `parent`, named by recipe and time."""
        stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        for number in count():
            path = parent / (f"{stem}-{number}" if number else stem)
            try:
                path.mkdir(parents=True)
            except FileExistsError:  # another one began within the same second
                continue
            return cls(path)
        raise AssertionError("count() does not end")

    @classmethod
    def existing(cls, path: Path) -> Self:
        """Return the folder of earlier work.

        Raises:
            ZooError: the path is no such folder.
        """
        if not (path / cls.RECIPE).is_file():
            raise ZooError(f"{path} is no {cls.KIND} folder: it holds no {cls.RECIPE}")
        if not (path / checksums.NAME).is_file():
            logger.warning("%s was begun without checksums: damage of what it holds by now would not be seen", path)
        return cls(path)

    @property
    def recipe(self) -> Path:
        """Resolved recipe."""
        return self.path / self.RECIPE

    @property
    def provenance(self) -> Path:
        """Versions of code and data with which the work was begun and resumed."""
        return self.path / "run.json"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.path / "figures"

    @property
    def result(self) -> Path:
        """Result of the work, which is written last."""
        return self.path / self.RESULT

    @property
    def tracked(self) -> Path:
        """Ids of the work's runs in MLflow, see `zoo.tracking.tracked_runs`."""
        return self.path / "mlflow.json"

    @property
    def finished(self) -> bool:
        """Whether the work is finished."""
        return self.result.is_file()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep two processes from working in one folder, which is made if it is not there.

        Raises:
            ZooError: another process does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / LOCK, blocking=False):
                yield
        except Timeout:
            raise ZooError(f"another process is at work in {self.path}; choose another folder with --out") from None
