"""Errors and coverage of the folds of a refit: two small CSVs, and Markdown on standard output.

python scripts/collect_refit.py runs/box/final docs/results/box.csv docs/results/box_coverage.csv
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

KINDS = {"test_members": "single models", "test": "ensembles", "test_mean_baseline": "predicting the mean"}


def main() -> None:
    """Read metrics.json of the folder that is named, write and print."""
    content = json.loads((Path(sys.argv[1]) / "metrics.json").read_text())
    parts = {**content.get("parts", {}), "total": content}
    errors = [
        {"target": target, "of": words, "split": split, "mae_ten": round(error, 4)}
        for target, own in parts.items()
        for key, words in KINDS.items()
        for split, error in enumerate(own[key]["mae_ten"]["each"])
    ]
    table = pd.DataFrame(errors)
    table.to_csv(sys.argv[2], index=False)
    found = table.groupby(["of", "target"]).mae_ten.agg(["mean", "std"])
    words = found.apply(lambda row: f"{row['mean']:.3f} ± {row['std']:.3f}", axis=1).unstack("target")
    print(words.loc[list(KINDS.values()), list(parts)].to_markdown(), "\n")
    coverage = [
        {"target": target, "quantity": name, "promised": float(level), "n": one["n"]}
        | {"covered": round(at["covered"], 4), "median_width": round(at["width"], 3)}
        for target, own in parts.items()
        for name, one in own["calibration"]["test"].items()
        for level, at in one["levels"].items()
    ]
    table = pd.DataFrame(coverage)
    table.to_csv(sys.argv[3], index=False)
    for column in ("covered", "median_width"):
        print(column)
        print(table.pivot(index=["target", "quantity"], columns="promised", values=column).to_markdown(), "\n")


if __name__ == "__main__":
    main()
