"""Errors of one member and of an ensemble, over splits: `python scripts/collect_ensembles.py runs/NAME_split_*`.

    for s in 0 1 2 3 4; do zoo run dielectric 'seeds=[0,1,2,3,4]' split.seed=$s --out runs/dielectric_split_$s; done
    python scripts/collect_ensembles.py runs/dielectric_split_* > docs/results/dielectric_ensembles.csv

A row a split and tensor: MAE_ten of the test part by one member (the mean over the members), by the ensemble, and by
the mean of the training part. Means over the splits go to standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml


def rows_of(run: Path) -> list[dict[str, Any]]:
    """A row a tensor."""
    content = json.loads((run / "metrics.json").read_text())
    config = yaml.safe_load((run / "recipe.yaml").read_text())
    main = "total" if "parts" in content else content["target"]
    start = {"recipe": config["name"], "split": config["split"]["seed"], "members": len(content["seeds"])}
    return [
        {
            **start,
            "tensor": name,
            "member": found["test"]["mae_ten"]["mean"],
            "ensemble": found["ensemble_test"]["mae_ten"],
            "mean_baseline": found["test_mean_baseline"]["mae_ten"]["mean"],
            "validation": found["val"]["mae_ten"]["mean"],
        }
        for name, found in {**content.get("parts", {}), main: content}.items()
    ]


def main() -> None:
    """Write the rows, and their means."""
    table = pd.DataFrame([row for run in map(Path, sys.argv[1:]) for row in rows_of(run)])
    table.to_csv(sys.stdout, index=False, float_format="%.4f")
    numbers = table.groupby(["recipe", "tensor"], sort=False)[["member", "ensemble", "mean_baseline", "validation"]]
    print(numbers.agg(["mean", "std"]).round(3).to_string(), file=sys.stderr)


if __name__ == "__main__":
    main()
