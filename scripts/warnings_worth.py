"""Worth of each kind of warning: `python scripts/warnings_worth.py docs/results/box_warned.csv`.

The file is one of scripts/warned.py. For each kind of warning by itself: how many rows have it, their mean error of ε
and that of the rows without it, for each tensor the ratio of the two, and its 95 % interval by a bootstrap over
crystals, whose rows, one for each split that tested it, are drawn together. A tensor is worse with the warning where
the whole interval is above one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

PARTS = {"electronic": "ε∞", "ionic": "ε0", "total": "ε"}
NO_KINDS = {"split", "key", "formula"}
RESAMPLES = 9999


def ratio_of(error: np.ndarray, warned: np.ndarray, crystal: np.ndarray) -> tuple[float, float, float]:
    """Mean error of the warned over that of the others, and the ends of its 95 % interval.

    Args:
        error: (n,) of each row.
        warned: (n,) whether it is warned of.
        crystal: (n,) number of its crystal, from 0 on.
    """
    sums = np.zeros((crystal.max() + 1, 4))  # of each crystal: errors and rows with the warning, and without
    for column, values in enumerate((error * warned, warned, error * ~warned, ~warned)):
        np.add.at(sums[:, column], crystal, values)
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES) @ sums
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1] / (drawn[:, 2] / drawn[:, 3]), [0.025, 0.975])
    return float(error[warned].mean() / error[~warned].mean()), float(low), float(high)


def worth(table: pd.DataFrame) -> pd.DataFrame:
    """A row a kind of warning that any crystal has: how many, mean errors of ε, ratios with their intervals."""
    crystal = table["key"].factorize()[0]
    rows = []
    for kind in [
        name for name in table if name not in NO_KINDS and not name.endswith(("_error", "_spread", "_within"))
    ]:
        warned = table[kind].to_numpy() == 1
        if not warned.any():
            continue
        error = table["total_error"]
        row = {"warning": kind, "tested": warned.sum(), "crystals": len(set(crystal[warned]))}
        row |= {"MAE_ten of ε": f"{error[warned].mean():.2f}", "without it": f"{error[~warned].mean():.2f}"}
        worse = []
        for part, symbol in PARTS.items():
            found, low, high = ratio_of(table[f"{part}_error"].to_numpy(), warned, crystal)
            row[f"ratio, {symbol}"] = f"{found:.1f} ({low:.1f}–{high:.1f})"
            worse += [symbol] if low > 1 else []
        rows.append(row | {"worse with it": ", ".join(worse) or "not shown"})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    found = worth(pd.read_csv(parser.parse_args().table))
    for cells in (found.columns, ["---"] * len(found.columns), *found.itertuples(index=False)):
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
