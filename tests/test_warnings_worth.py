"""scripts/warnings_worth.py: what each kind of warning is worth, of a table whose answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from warnings_worth import ratio_of, worth


def test_a_kind_that_tells_of_larger_errors_and_one_that_does_not() -> None:
    rng = np.random.default_rng(1)
    error = rng.uniform(0.5, 1.5, 400)
    good, idle = np.arange(400) < 40, np.arange(400) % 10 == 0
    error[good] *= 3
    columns = {f"{part}_error": error for part in ("electronic", "ionic", "total")}
    table = pd.DataFrame({"key": range(400), "formula": "X", **columns, "good": good * 1, "idle": idle * 1, "never": 0})
    found = worth(table).set_index("warning")
    assert list(found.index) == ["good", "idle"]
    assert found.loc["good", "tested"] == 40 and found.loc["good", "ratio, ε"].startswith("3.")
    assert found.loc["good", "worse with it"] == "ε∞, ε0, ε" and found.loc["idle", "worse with it"] == "not shown"


def test_rows_of_one_crystal_are_drawn_together() -> None:
    """Twice the same rows: as rows they would halve the variance, as crystals they change nothing."""
    rng = np.random.default_rng(2)
    error, warned, crystal = rng.uniform(size=60), np.arange(60) < 20, np.arange(60)
    once = ratio_of(error, warned, crystal)
    np.testing.assert_allclose(ratio_of(*(np.tile(one, 2) for one in (error, warned, crystal))), once)
