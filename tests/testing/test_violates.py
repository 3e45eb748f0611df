"""What a readout says that it violates must fail, by the check itself and in its own tests alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from zoo.testing import ConformanceTests, Pair
from zoo_dtnet import DTNetSimple

FILE = """
from zoo.testing import ConformanceTests, Pair
from zoo_dtnet import DTNetSimple

class Wrong(DTNetSimple):
    violates = {"hypers": "a slander", "contract": "it breaks", "supercell": "a sum"}

class TestWrong(ConformanceTests):
    pair = Pair("nequip", Wrong)

    def test_contract(self):
        raise ValueError("broken")

    def test_supercell(self):
        raise AssertionError("twice as much")
"""


@pytest.mark.extended
def test_expected_failures_are_strict(tmp_path: Path) -> None:
    """A check that passes is a failure, and so is an error that is not the check's."""
    (tmp_path / "test_it.py").write_text(FILE)
    chosen = ["-k", "hypers or contract or supercell"]
    command = [sys.executable, "-m", "pytest", "-q", "-rx", "-p", "no:cacheprovider", "test_it.py", *chosen]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 failed, " in result.stdout and "1 xfailed" in result.stdout, result.stdout + result.stderr
    assert "[XPASS(strict)] a slander" in result.stdout
    assert "ValueError: broken" in result.stdout
    assert "XFAIL test_it.py::TestWrong::test_supercell - a sum" in result.stdout


def test_other_pairs_are_not_touched() -> None:
    class Wrong(DTNetSimple):
        violates: ClassVar = {"supercell": "a sum"}

    class Suite(ConformanceTests):
        pair = Pair("nequip", Wrong)

    marks = Suite.test_supercell.pytestmark
    assert [(m.name, m.kwargs["reason"], m.kwargs["strict"]) for m in marks] == [("xfail", "a sum", True)]
    assert not hasattr(ConformanceTests.test_supercell, "pytestmark")
    assert Suite.test_permutation is ConformanceTests.test_permutation


def test_a_check_that_there_is_not() -> None:
    class Wrong(DTNetSimple):
        violates: ClassVar = {"superstition": "no"}

    with pytest.raises(TypeError, match="no test_superstition"):

        class Suite(ConformanceTests):
            pair = Pair("nequip", Wrong)
