"""The closing line of CI is the sum of those of its runs of pytest."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "pytest_summary.py"))
FIRST = """
FAILED tests/test_a.py::test_a - assert 1 == 2
==== 1 failed, 2500 passed, 3 skipped, 900 deselected, 1 xfailed, 2 warnings in 240.50s (0:04:00) ====
"""
SECOND = "==== 900 passed, 70 skipped, 2500 deselected, 48 xfailed, 1 error in 500.25s (0:08:20) ====\n"


def test_counts_and_times_are_added() -> None:
    line = SCRIPT["combined"]([FIRST, SECOND])
    expected = "1 failed, 3400 passed, 73 skipped, 49 xfailed, 2 warnings, 1 error in 740.75s (0:12:20)"
    assert line.strip("=") == f" {expected} "
    assert SCRIPT["failures"]([FIRST, SECOND]) == ["FAILED tests/test_a.py::test_a - assert 1 == 2"]


def test_a_run_that_was_killed_is_an_error() -> None:
    assert "900 passed, 70 skipped, 48 xfailed, 2 errors in" in SCRIPT["combined"](["collected 3 items\n", SECOND])


def test_plain_closing_lines_are_read() -> None:
    assert SCRIPT["combined"](["===== 3 passed in 1.20s =====", ""]).strip("=") == " 3 passed, 1 error in 1.20s "
    assert "no tests ran" in SCRIPT["combined"](["==== 7 deselected in 0.10s ===="])
