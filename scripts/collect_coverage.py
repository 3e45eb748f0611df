"""Coverage of the intervals of ensembles on their test parts: one small CSV, or a Markdown table.

for s in 0 1 2 3 4; do zoo run dtnet_total 'seeds=[0,1,2,3,4]' split.seed=$s --out runs/split_$s; done
python scripts/collect_coverage.py runs/split_* > docs/results/calibration.csv
python scripts/collect_coverage.py --markdown runs/split_*
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def rows(folder: Path) -> list[dict[str, Any]]:
    """A row a quantity and level."""
    content = json.loads((folder / "metrics.json").read_text())
    split = json.loads(next(folder.glob("seed_*/split.json")).read_text())["seed"]
    start = {"split": split, "members": len(content["seeds"]), "n_calibration": content["calibration"]["n"]}
    return [
        {**start, "quantity": name, "promised": level, "n_test": found["n"]}
        | {"covered": f"{at['covered']:.4f}", "median_width": f"{at['width']:.4g}"}
        for name, found in content["calibration"]["test"].items()
        for level, at in found["levels"].items()
    ]


def markdown(table: list[dict[str, Any]]) -> str:
    """Mean ± standard deviation over the splits, percent; a row a quantity, a column a level."""
    levels = list(dict.fromkeys(row["promised"] for row in table))
    lines = [f"| | {' | '.join(f'{100 * float(level):.0f} %' for level in levels)} |", "|---|" + "---|" * len(levels)]
    for name in dict.fromkeys(row["quantity"] for row in table):
        cells = []
        for level in levels:
            each = [100 * float(r["covered"]) for r in table if (r["quantity"], r["promised"]) == (name, level)]
            cells.append(f"{np.mean(each):.0f} ± {np.std(each, ddof=1):.0f} ({' '.join(f'{x:.0f}' for x in each)})")
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print what was asked for."""
    table = [row for argument in arguments if argument != "--markdown" for row in rows(Path(argument))]
    if "--markdown" in arguments:
        print(markdown(table))
        return
    writer = csv.DictWriter(sys.stdout, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)


if __name__ == "__main__":
    main(sys.argv[1:])
