"""Put the folds of finished `zoo matbench` runs into one CSV, by the name of each run's folder.

python scripts/collect_folds.py runs/matbench/* > docs/results/matbench.csv
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ERRORS = ("mae", "rmse", "max_error", "mae_of_mean", "val_mae")


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Give a row a fold, and one of the mean over them."""
    content = json.loads((folder / "metrics.json").read_text())
    same = {"run": folder.name, "data": content["data"], "members": content["members"]}
    folds = content["folds"]
    for fold in folds:
        yield {**same, "fold": fold["fold"], "n": fold["n_test"]} | {name: f"{fold[name]:.4f}" for name in ERRORS}
    means = {name: sum(fold[name] for fold in folds) / len(folds) for name in ERRORS}
    count = sum(fold["n_test"] for fold in folds)
    yield {**same, "fold": "mean", "n": count} | {name: f"{mean:.4f}" for name, mean in means.items()}


def main() -> None:
    """Write the rows of all folders named."""
    writer = csv.DictWriter(sys.stdout, ["run", "data", "members", "fold", "n", *ERRORS], lineterminator="\n")
    writer.writeheader()
    for name in sys.argv[1:]:
        writer.writerows(rows(Path(name)))


if __name__ == "__main__":
    main()
