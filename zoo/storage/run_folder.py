"""Run folder: all files of a run, and reading and writing of JSON and CSV files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from zoo.errors import ZooError
from zoo.storage import checksums
from zoo.storage.csv_cells import csv_row, row_read
from zoo.storage.work_folder import WorkFolder


@dataclass(frozen=True)
class RunFolder(WorkFolder):
    """Paths of the files in a run folder.

    recipe.yaml         the resolved recipe
    run.json            versions, command, time
    data_report.json    every record that was left out, and why
    seed_K/             history.csv, split.json, predictions.csv, checkpoints last.pt and best.pt
    model/              the model that is registered (see zoo.model.checkpoint), and its card.html
    figures/            PNG
    metrics.json        the result: a run with it is finished
    mlflow.json         where the run was sent
    """

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.path / "model"

    def seed(self, seed: int) -> SeedFolder:
        """Return the folder of a seed."""
        return SeedFolder(self.path / f"seed_{seed}")


@dataclass(frozen=True)
class SeedFolder:
    """Paths of the files of one seed in a run folder."""

    path: Path

    @property
    def history(self) -> Path:
        """Training history, a row per epoch."""
        return self.path / "history.csv"

    @property
    def split(self) -> Path:
        """Keys of training, validation and test part."""
        return self.path / "split.json"

    @property
    def predictions(self) -> Path:
        """True and predicted tensors of validation and test part."""
        return self.path / "predictions.csv"

    def predictions_of(self, part: str, main: str) -> Path:
        """The same for a part of a joint target, by its name; the `main` part is in `predictions`."""
        return self.predictions if part == main else self.path / f"predictions_{part}.csv"

    @property
    def result(self) -> Path:
        """Result of the seed, which is written last."""
        return self.path / "result.json"

    @property
    def last(self) -> Path:
        """Checkpoint from which training is resumed."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """Weights of the lowest validation error."""
        return self.path / "best.pt"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically: a kill leaves no partial file."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, creating its folder; its checksum is noted (`zoo.storage.checksums`)."""
    with _partial(path) as file:
        file.write(text)


@contextmanager
def _partial(path: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of `path` when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    checksums.put_in_place(partial, path)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ZooError: the file is missing or damaged.
    """
    checksums.verify(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{path} cannot be read: {error}") from None


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a CSV file atomically and row by row; the keys of the first row are the header.

    Texts that a spreadsheet would run are quoted (`zoo.storage.csv_cells`); `each_row` gives them back as they were.

    Raises:
        ValueError: there are no rows.
    """
    following = map(csv_row, rows)
    first = next(following, None)
    if first is None:
        raise ValueError(f"{path}: no rows")
    with _partial(path) as file:
        writer = csv.DictWriter(file, fieldnames=list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(following)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; an empty list where it does not exist.

    Raises:
        ZooError: the file is damaged.
    """
    return list(each_row(path))


def each_row(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file; none where it does not exist.

    Raises:
        ZooError: the file is damaged.
    """
    if not path.is_file():
        return
    checksums.verify(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from map(row_read, csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ZooError(f"{path} cannot be read: {error}") from None


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a CSV file, after the header if the file is new."""
    row = csv_row(row)
    new = not path.is_file() or path.stat().st_size == 0
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def read_history(folder: SeedFolder) -> list[dict[str, float]]:
    """Return the finished epochs of a seed: epoch, train_loss, val_mae_ten, lr."""
    rows = read_rows(folder.history)
    if rows and None in rows[-1].values():  # a kill in the midst of the row
        rows.pop()
    return [{key: float(value) for key, value in row.items()} for row in rows]


def restart_history(folder: SeedFolder, rows: Iterable[dict[str, Any]]) -> None:
    """Write the history of a seed as its last checkpoint has it: a kill may fall between an epoch's row and that."""
    folder.history.unlink(missing_ok=True)
    for row in rows:
        append_row(folder.history, row)
