"""Forty seconds of `make torture`: nothing becomes wrong without a word."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.extended
@pytest.mark.slow
def test_nothing_fails_in_forty_seconds(tmp_path: Path) -> None:
    """In a process of its own, which forks: it must have no threads."""
    command = [sys.executable, "-m", "torture", "--seed", "0", "--seconds", "40", "--out", str(tmp_path / "table.csv")]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1800)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    assert (tmp_path / "table.csv").read_text().count("\n") > 10


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="each fault has a mount of its own, for which one has to be root")
def test_every_write_fsync_and_rename_of_a_screening_may_fail(tmp_path: Path) -> None:
    """The kill, the error and the full disk; `make torture-every` does that to a run and a search in rounds, too."""
    table = tmp_path / "faults.csv"
    command = [
        sys.executable,
        "-m",
        "torture",
        "--only",
        "kills",
        "--every",
        "--work",
        "screening",
        "--out",
        str(table),
    ]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = {row["operation"] for row in rows}
    assert len(points) > 50 and len(rows) == 3 * len(points)
    assert {row["outcome"] for row in rows} == {"survived"}
