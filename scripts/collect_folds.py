"""Put the folds of finished `zoo matbench` runs into one CSV, by the name of each run's folder.

python scripts/collect_folds.py runs/matbench/* > docs/results/matbench.csv
python scripts/collect_folds.py --mean runs/matbench/sevennet0 runs/matbench/nequix     # of their predictions
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ERRORS = ("mae", "rmse", "max_error", "val_mae")


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Give a row a fold, and one of the mean over them."""
    content = json.loads((folder / "metrics.json").read_text())
    same = {"run": folder.name, "data": content["data"], "members": content["members"]}
    yield from _with_mean([same | fold | {"n": fold["n_test"]} for fold in content["folds"]])


def rows_of_mean(folders: list[Path]) -> Iterator[dict[str, Any]]:
    """Give the same of the mean of the runs' predictions, which has no validation error."""
    contents = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    same = {"run": f"mean of {' and '.join(folder.name for folder in folders)}", "data": contents[0]["data"]}
    same["members"] = sum(content["members"] for content in contents)
    found = []
    for fold in contents[0]["folds"]:
        tables = [_predictions(folder / f"fold_{fold['fold']}" / "predictions.csv") for folder in folders]
        keys = list(tables[0])
        true = np.array([tables[0][key][0] for key in keys])
        error = np.abs(np.mean([[table[key][1] for key in keys] for table in tables], axis=0) - true)
        errors = {"mae": error.mean(), "rmse": np.sqrt((error**2).mean()), "max_error": error.max()}
        found.append(same | {"fold": fold["fold"], "n": len(keys)} | errors)
    yield from _with_mean(found)


def _predictions(path: Path) -> dict[str, tuple[float, float]]:
    with path.open(newline="") as file:
        return {row["key"]: (float(row["true_n"]), float(row["predicted_n"])) for row in csv.DictReader(file)}


def _with_mean(folds: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    mean = folds[0] | {"fold": "mean", "n": sum(fold["n"] for fold in folds)}
    mean |= {name: float(np.mean([fold[name] for fold in folds])) for name in ERRORS if name in folds[0]}
    for fold in [*folds, mean]:
        yield fold | {name: f"{fold[name]:.4f}" for name in ERRORS if name in fold}


def main() -> None:
    """Write the rows of all folders named."""
    columns = ["run", "data", "members", "fold", "n", *ERRORS]
    writer = csv.DictWriter(sys.stdout, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    folders = [Path(name) for name in sys.argv[1:] if name != "--mean"]
    if "--mean" in sys.argv:
        writer.writerows(rows_of_mean(folders))
    else:
        for folder in folders:
            writer.writerows(rows(folder))


if __name__ == "__main__":
    main()
