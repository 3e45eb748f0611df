"""Put every finished seed of runs of a joint target into one CSV: `python scripts/collect_seeds.py RUN...`.

A row has the run's folder, the seed, the crystals that it was trained on, the epochs, the validation and test error
(MAE_ten) of each tensor and, where there are any, the errors of Born charges of held-out crystals. A run that is still
under way has a row for each seed that is done.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

PARTS = ("electronic", "ionic", "total")


def row_of(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a seed from the content of its result.json."""
    errors = result["parts"] | {"total": result}
    born = result.get("test_labels", {}).get("born", {})
    return {
        "run": folder.name,
        "seed": result["seed"],
        "n_train": result["n_train"],
        "n_auxiliary": result.get("n_auxiliary", 0),
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "val": f"{result['val_error']:.4f}",
        **{f"val_{part}": f"{errors[part]['val']['all']['mae_ten']:.4f}" for part in PARTS},
        **{f"test_{part}": f"{errors[part]['test']['all']['mae_ten']:.4f}" for part in PARTS},
        "born_mae": f"{born['mae']:.4f}" if born else "",
        "born_correlation": f"{born['correlation']:.4f}" if born else "",
    }


def main() -> None:
    """Write the rows to standard output."""
    rows = [
        row_of(folder, json.loads(path.read_text()))
        for folder in map(Path, sys.argv[1:])
        for path in sorted(folder.glob("seed_*/result.json"))
    ]
    writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else ["run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
