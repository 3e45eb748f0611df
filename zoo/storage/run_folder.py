"""The folder that a run writes everything into."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from zoo.errors import ZooError


@dataclass(frozen=True)
class RunFolder:
    """Names of what is in a run folder, and reading and writing of it.

    recipe.yaml         the resolved recipe
    run.json            versions, command, time
    data_report.json    what happened to every record that did not come through
    seed_K/             history.csv, split.json, predictions.csv, checkpoints last.pt and best.pt
    model/              the model that is registered (see zoo.model.checkpoint), and its card.html
    figures/            PNG
    metrics.json        the result: a run with it is finished
    mlflow.json         where the run was sent
    """

    path: Path

    @classmethod
    def new(cls, name: str, parent: Path = Path("runs")) -> RunFolder:
        """A folder under `parent` that does not exist yet, named by recipe and time."""
        stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        for number in count():
            path = parent / (f"{stem}-{number}" if number else stem)
            try:
                path.mkdir(parents=True)
            except FileExistsError:  # another run began within the same second
                continue
            return cls(path)
        raise AssertionError("count() does not end")

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of an earlier run.

        Raises:
            ZooError: it is none.
        """
        if not (path / "recipe.yaml").is_file():
            raise ZooError(f"{path} is no run folder: it holds no recipe.yaml")
        return cls(path)

    @property
    def provenance(self) -> Path:
        """With which code and data the run is made."""
        return self.path / "run.json"

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model"

    @property
    def figures(self) -> Path:
        """The pictures."""
        return self.path / "figures"

    @property
    def metrics(self) -> Path:
        """The result; written last."""
        return self.path / "metrics.json"

    @property
    def tracked(self) -> Path:
        """Where in MLflow the run is."""
        return self.path / "mlflow.json"

    @property
    def finished(self) -> bool:
        """Whether all is done."""
        return self.metrics.is_file()

    def seed(self, seed: int) -> SeedFolder:
        """The part of one seed."""
        return SeedFolder(self.path / f"seed_{seed}")


@dataclass(frozen=True)
class SeedFolder:
    """What one seed's training writes."""

    path: Path

    @property
    def history(self) -> Path:
        """A row an epoch."""
        return self.path / "history.csv"

    @property
    def split(self) -> Path:
        """Keys of the three parts."""
        return self.path / "split.json"

    @property
    def predictions(self) -> Path:
        """True and predicted tensors of validation and test part."""
        return self.path / "predictions.csv"

    @property
    def result(self) -> Path:
        """Written last: a seed with it is done."""
        return self.path / "result.json"

    @property
    def last(self) -> Path:
        """Checkpoint to go on from."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """Weights of the lowest validation error."""
        return self.path / "best.pt"


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all: a kill leaves no half file."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> Any:
    """What `write_json` wrote.

    Raises:
        ZooError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} cannot be read: {error}") from None


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A CSV file with the keys of the first row as its header, whole or not at all, one row after another.

    Raises:
        ValueError: there is no row.
    """
    following = iter(rows)
    first = next(following, None)
    if first is None:
        raise ValueError(f"{path}: no rows")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(following)
    partial.replace(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where it is not there."""
    return list(each_row(path))


def each_row(path: Path) -> Iterator[dict[str, str]]:
    """As `read_rows`, one after another."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one row, and the header before the first."""
    new = not path.is_file() or path.stat().st_size == 0
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def read_history(place: SeedFolder) -> list[dict[str, float]]:
    """The epochs of a seed so far: epoch, train_loss, val_mae_ten, lr."""
    rows = read_rows(place.history)
    if rows and None in rows[-1].values():  # a kill in the midst of the row
        rows.pop()
    return [{key: float(value) for key, value in row.items()} for row in rows]


def keep_history(place: SeedFolder, epochs: int) -> None:
    """Drop the rows after the last checkpoint: a kill can fall between an epoch's row and its checkpoint.

    The epoch comes again when the training goes on.
    """
    rows = [row for row in read_history(place) if row["epoch"] <= epochs]
    if rows:
        write_rows(place.history, rows)
    else:
        place.history.unlink(missing_ok=True)
