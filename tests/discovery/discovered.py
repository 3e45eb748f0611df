"""A discovery that takes seconds: made crystals with made labels, a small network, labels replayed."""

from __future__ import annotations

import csv
import json
import multiprocessing
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from cli import zoo
from quick import no_pictures
from screened import crystal

from zoo.storage.run_folder import read_json

if TYPE_CHECKING:
    from mlflow.entities import Run

KNOWN, HIDDEN = 24, 30
MODEL = {
    "name": "small",
    "dataset": {"name": "file", "path": "known.json"},
    "target": "total",
    "data": {"deduplicate": False},
    "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
    "readout": {"name": "dtnet", "width": 8, "blocks": 1},
    "training": {"max_epochs": 2, "batch_size": 8, "learning_rate": 0.01},
}


def tensor(number: int) -> list[list[float]]:
    """A label that follows from the number of a made crystal."""
    random = np.random.default_rng(1000 + number)
    part = random.normal(size=(3, 3))
    return ((3 + number % 11) * np.eye(3) + 0.2 * (part + part.T)).tolist()


def labelled(numbers: range) -> dict[str, Any]:
    """What the dataset `file` reads."""
    return {
        f"c-{i:04d}": {"structure": crystal(i).as_dict(), "total": tensor(i), "band_gap": 1.0 + i % 3} for i in numbers
    }


def write_discovery(folder: Path, **changes: Any) -> Path:
    """find.yaml, and all that it needs."""
    (folder / "known.json").write_text(json.dumps(labelled(range(KNOWN))))
    (folder / "all.json").write_text(json.dumps(labelled(range(KNOWN + HIDDEN))))
    (folder / "small.yaml").write_text(yaml.safe_dump(MODEL))
    everything = {"name": "file", "path": "all.json"}
    recipe = {
        "name": "find",
        "model": {"recipe": "small.yaml", "members": 2},
        "candidates": {"dataset": everything},
        "oracle": {"name": "replay", "dataset": everything},
        "filters": {"min_band_gap": 0.01},
        "rounds": 2,
        "top": 4,
        "device": "cpu",
        "tracking": {"enabled": False},
    }
    path = folder / "find.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


def asked(folder: Path) -> list[dict[str, str]]:
    """The rows of asked.csv."""
    with (folder / "asked.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def started(*arguments: str, cwd: Path) -> BaseProcess:
    """`zoo ARGUMENTS...` in a process of its own, which has torch and the zoo from the start: it is forked from one.

    That one has done nothing but import them, so no thread and no lock of torch is missed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["zoo.cli.discover_command", "zoo.cli.report", "zoo.discovery.rounds.loop", "zoo_nequip", "zoo_dtnet"]
    )
    process = context.Process(target=_command, args=(arguments, cwd))
    process.start()
    return process


def _command(arguments: tuple[str, ...], cwd: Path) -> None:
    with no_pictures():
        sys.exit(zoo(*arguments, cwd=cwd).returncode)


def parent_of(folder: Path, uri: str) -> Run:
    """The run of the whole discovery."""
    from mlflow import MlflowClient

    return MlflowClient(uri).get_run(read_json(folder / "mlflow.json")[uri]["runs"]["parent"])
