"""Forty seconds of `make torture`: nothing becomes wrong without a word."""

from __future__ import annotations

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
