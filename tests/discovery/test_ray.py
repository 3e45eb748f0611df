"""ray_tests.py in a process of its own: where something goes wrong within Ray it may end the process that it is in."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.extended

TESTS = Path(__file__).with_name("ray_tests.py")


@pytest.mark.skipif(find_spec("ray") is None, reason='needs pip install "crystal-tensor-zoo[ray]"')
def test_on_a_cluster_of_two_nodes() -> None:
    """Once more where it fails: machines are lost at any time, and Ray 2.60 does not get over that at all times."""
    for attempt in (1, 2):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
        try:
            done = subprocess.run(command, cwd=TESTS.parents[2], capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired as late:
            print(f"attempt {attempt}: {late}")
            continue
        if done.returncode == 0:
            return
        print(f"attempt {attempt}: exit status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    pytest.fail("see above")
