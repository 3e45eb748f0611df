"""Errors of crystals that are warned of, and of the others: `python scripts/warned.py RUN ... --out FILE.csv`.

Each RUN is an ensemble on a split of its own ('seeds=[0,1,2,3,4]' split.seed=S). Its test crystals are asked for, as
`zoo predict` does; a row a crystal goes to FILE, with a column for each kind of warning, the comparison to standard
output: errors of those with each kind, with any and with none, the ratio of the two, and the share of the worst
twentieth of all test crystals that is warned of.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

import zoo
from zoo.config.recipe import Recipe
from zoo.contract.plugin import Record
from zoo.data.subset import dataset_of
from zoo.errors import ZooError
from zoo.inference.answering import doubts_of_crystal
from zoo.inference.doubt import KINDS

COVERAGE = 0.9
OF_CRYSTALS = tuple(kind for kind in KINDS if kind not in ("not projected", "no intervals"))
"""Kinds of warnings that are no matter of how one asks."""


def rows_of(run: Path) -> list[dict[str, object]]:
    """A row a test crystal."""
    predictor = zoo.load(run)
    config: Recipe = predictor.card.recipe
    split = json.loads(next(run.glob("seed_*/split.json")).read_text())
    records = {one.key: one for one in dataset_of(config.dataset).records() if isinstance(one, Record)}
    chosen = [records[key] for key in split["test"]]
    out = []
    for record, raw in zip(chosen, predictor.ask([one.structure for one in chosen], keep=True), strict=True):
        if isinstance(raw, ZooError):
            raise raw
        warned = {one.kind for one in doubts_of_crystal(record.structure, raw, predictor.card, predictor.reference)}
        row: dict[str, object] = {"split": split["seed"], "key": record.key}
        row["formula"] = record.structure.composition.reduced_formula
        for target in predictor.card.target.parts or (predictor.target,):
            members, true = raw.tensors[target.name].astype(np.float64), np.asarray(record.targets[target.name])
            gap = (members.mean(0) - true).flatten()[list(target.independent)]
            intervals, _ = predictor.card.calibrations[target.name].intervals(members, target, COVERAGE)
            low, high = intervals["polycrystalline"]
            row[f"{target.name}_error"] = np.abs(gap).mean()
            row[f"{target.name}_spread"] = np.trace(members, axis1=1, axis2=2).std(ddof=1) / 3
            row[f"{target.name}_within"] = int(low <= np.trace(true) / 3 <= high)
        row |= {kind: int(kind in warned) for kind in OF_CRYSTALS}
        out.append(row)
    return out


def told(table: pd.DataFrame, part: str) -> str:
    """Lines of Markdown: errors and coverage with each warning, with any, and without."""
    error, within = table[f"{part}_error"], table[f"{part}_within"]
    worst = error >= error.quantile(0.95)
    lines = [
        f"| {part} | crystals | MAE_ten | median | of the worst twentieth | within the 90 % interval |",
        "|---|---|---|---|---|---|",
    ]
    any_of = table[list(OF_CRYSTALS)].any(axis=1)
    groups = {**{kind: table[kind] == 1 for kind in OF_CRYSTALS}, "any of these": any_of, "none": ~any_of}
    for name, chosen in groups.items():
        if chosen.any():
            lines.append(
                f"| {name} | {100 * chosen.mean():.1f} % ({chosen.sum()}) | {error[chosen].mean():.2f} "
                f"| {error[chosen].median():.2f} | {100 * (chosen & worst).sum() / worst.sum():.0f} % "
                f"| {100 * within[chosen].mean():.0f} % |"
            )
    if any_of.any() and not any_of.all():
        mean, median = (getattr(error[any_of], name)() / getattr(error[~any_of], name)() for name in ("mean", "median"))
        lines.append(
            f"\nerrors of the warned: {mean:.1f} times those of the others (median: {median:.1f} times); "
            f"{100 * (any_of & worst).sum() / worst.sum():.0f} % of the worst twentieth is warned of, "
            f"{100 * any_of.mean():.0f} % of all"
        )
    spread = table[f"{part}_spread"]
    rank = np.corrcoef(error.rank(), spread.rank())[0, 1]
    lines.append(f"\nrank correlation of the error and the members' spread: {rank:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Ask, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    table = pd.DataFrame([row for run in chosen.runs for row in rows_of(run)])
    table.to_csv(chosen.out, index=False, float_format="%.4f")
    for part in ("electronic", "ionic", "total"):
        if f"{part}_error" in table:
            print(told(table, part) + "\n")


if __name__ == "__main__":
    main()
