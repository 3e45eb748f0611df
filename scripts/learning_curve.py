"""Draw errors against the number of training crystals: `python scripts/learning_curve.py SWEEP... --out OUT`.

Each sweep has an axis `size` whose cells train on nested subsets of the same crystals (docs/results/learning_curve.md
has the commands). A row of OUT.csv is a cell and seed; OUT.png has a line for each seed and their mean.
Of a sweep that is still under way it takes the seeds that are done.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from zoo.report.plots import STYLE

COLUMNS = ["n_train", "seed", "epochs", "best_epoch", "still_improving", "val_mae_ten", "mae_ten", "within_25"]
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def rows_of(sweep: Path) -> pd.DataFrame:
    """Return the errors of all crystals of the test part, a row for each cell and seed."""
    table = pd.read_csv(sweep / "seeds.csv")
    table = table[table["crystal_system"] == "all"].sort_values(["n_train", "seed"])
    return table[COLUMNS].assign(model=sweep.name)[["model", *COLUMNS]]


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the test error of each model against the number of training crystals, on logarithmic axes."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.9), layout="constrained")
        axes = figure.subplots()
        for (model, rows), colour in zip(table.groupby("model", sort=False, observed=True), COLOURS, strict=False):
            by_seed = rows.pivot(index="n_train", columns="seed", values="mae_ten")
            axes.plot(by_seed, "-", linewidth=0.8, alpha=0.4, color=colour)
            axes.plot(by_seed.mean(axis=1), "o-", markersize=4, color=colour, label=f"{model}, mean of the splits")
        sizes = sorted(table["n_train"].unique())
        axes.set(xscale="log", yscale="log", xlabel="training crystals", ylabel="MAE of the total tensor")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_yticks([1, 1.4, 2, 2.8], ["1", "1.4", "2", "2.8"])
        axes.minorticks_off()
        axes.legend(frameon=False)
        figure.savefig(path, format="png")


def main() -> None:
    """Write the table and the picture, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    table = pd.concat([rows_of(sweep) for sweep in options.sweeps])
    table["model"] = pd.Categorical(table["model"], table["model"].unique())  # in the order of the command line
    table = table.sort_values(["model", "n_train", "seed"])
    table.to_csv(options.out.with_suffix(".csv"), index=False, float_format="%.6g", lineterminator="\n")
    draw(table, options.out.with_suffix(".png"))
    print(
        table.groupby(["model", "n_train"], sort=False, observed=True)[["val_mae_ten", "mae_ten"]]
        .agg(["mean", "std", "count"])
        .round(3)
    )


if __name__ == "__main__":
    main()
