"""Comparison of results: a hash of each file that must not change, and the numbers that MLflow holds."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import sqlite3
from pathlib import Path

import numpy as np
from pyarrow import parquet

from torture.cases import Facts, each

RUN = (
    "metrics.json",
    "seed_*/history.csv",
    "seed_*/result.json",
    "seed_*/predictions.csv",
    "seed_*/split.json",
    "model/*.safetensors",
    "model/model.json",
    "model/reference.json",
    "model/predictions.csv",
)
SCREENING = ("top.csv", "top/*")
SWEEP = ("table.csv", "seeds.csv", "table.md", "cells/*/metrics.json", "cells/*/seed_*/history.csv")
DISCOVERY = ("asked.csv", "rounds.csv", "round_*/results.json", "round_*/model/metrics.json")
TIMES = {"seconds", "speed", "started", "command"}
"""Keys and columns of results that tell how long something took."""


def digest(data: bytes) -> str:
    """A short hash."""
    return hashlib.sha256(data).hexdigest()[:16]


def of_files(folder: Path, patterns: tuple[str, ...]) -> Facts:
    """Hash of each file that a pattern matches."""
    return {str(path.relative_to(folder)): digest(_content(path)) for path in each(folder, *patterns)}


def _content(path: Path) -> bytes:
    """Read a file, leaving out times, which differ each time that it is made."""
    data = path.read_bytes()
    if path.suffix == ".csv":
        with contextlib.suppress(UnicodeDecodeError):
            rows = list(csv.DictReader(io.StringIO(data.decode())))
            if rows and TIMES & set(rows[0]):
                return json.dumps([{k: v for k, v in row.items() if k not in TIMES} for row in rows]).encode()
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            content = json.loads(data)
            if isinstance(content, dict) and TIMES & set(content):
                return json.dumps({k: v for k, v in content.items() if k not in TIMES}).encode()
    return data


def damaged(folder: Path) -> Facts:
    """Tell what is wrong with the checksums of a folder and of those in it: nothing, after all has been done."""
    from zoo.errors import ZooError
    from zoo.storage import checksums

    found: dict[str, str] = {}
    for path in sorted(folder.rglob(checksums.NAME)):
        try:
            checksums.verify_all(path.parent)
        except ZooError as error:
            found[f"damage below {path.parent.relative_to(folder)}"] = str(error)
    return found


def of_parts(folder: Path) -> Facts:
    """The rows of a screening's parts, read as the zoo reads them: it goes by their index, not by their order."""
    from zoo.discovery.screen_folder import ScreenFolder

    parts = ScreenFolder(folder)
    columns = parquet.read_schema(parts.parts()[0]).names
    rows = (row for table in parts.tables(columns) for row in table.to_pylist())
    return {f"row {row['index']}": digest(repr(row).encode()) for row in rows}


def of_features(folder: Path) -> Facts:
    """Return a hash of each table and array of the embedding files in a folder, read with their checksums verified."""
    found: dict[str, str] = {}
    for path in each(folder, "*.parquet"):
        table = parquet.read_table(path, page_checksum_verification=True)
        found[path.name] = digest(repr(table.to_pydict()).encode())
        found[f"{path.name}: metadata"] = digest((table.schema.metadata or {}).get(b"zoo", b""))
    for path in each(folder, "*.npz"):
        with np.load(path) as arrays:
            for name in arrays.files:
                array = arrays[name]
                found[f"{path.name}: {name}"] = digest(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return found


SAME = ("seed_", "figures/", "metrics.json", "recipe.yaml", "data_report.json", "model/")
CHANGING = ("card.html", "checksums.json", ".lock", "run.json")


def of_mlflow(database: Path, artifacts: Path) -> Facts:
    """Metrics and parameters that MLflow has of each run, by the run's name, and the artifacts that do not change."""
    found: dict[str, str] = {}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        names = dict(connection.execute("SELECT run_uuid, name FROM runs"))
        for table, columns in (("metrics", "key, step, value"), ("params", "key, value")):
            rows: dict[str, list[str]] = {}
            for run, *values in connection.execute(f"SELECT run_uuid, {columns} FROM {table}"):
                rows.setdefault(names[run], []).append(repr(values))
            found |= {f"{table} of {name}": digest("\n".join(sorted(all_)).encode()) for name, all_ in rows.items()}
    artifact: dict[str, list[str]] = {}  # of the same name in several runs
    for path in sorted(artifacts.rglob("*")):
        inner = str(path).rpartition("/artifacts/")[2]
        if path.is_file() and inner.startswith(SAME) and not inner.endswith(CHANGING):
            artifact.setdefault(inner, []).append(digest(path.read_bytes()))
    return found | {f"artifact {name}": " ".join(sorted(all_)) for name, all_ in artifact.items()}
