"""The harness of the benchmarks; what they measure is no business of the tests."""

import importlib
import json
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

WORKER = """
import sys, time
sys.path.insert(0, {workers!r})
from serve import serve
kept = []
def one_pass():
    block = bytearray(int({megabytes} * 2**20))
    time.sleep({sleep})
    return {{"answer": 42, **{says!r}}}
serve(one_pass, {{"items": 10}})
"""


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("harness")
    for name in ("harness", "report", "environment"):
        sys.modules.pop(name, None)


@pytest.fixture
def report(harness):
    return importlib.import_module("report")


def sleeper(tmp_path, name, sleep=0.0, megabytes=0, **says):
    """The command of a worker whose passes sleep and allocate; `says` stands in place of what was measured of them."""
    script = tmp_path / f"{name}.py"
    workers = str(BENCHMARKS / "workers")
    script.write_text(WORKER.format(workers=workers, sleep=sleep, megabytes=megabytes, says=says))
    return [sys.executable, str(script)]


def test_passes_take_turns_and_are_compared_turn_by_turn(harness, tmp_path):
    slow = harness.Case("slow", sleeper(tmp_path, "slow", seconds=0.2))
    fast = harness.Case("fast", sleeper(tmp_path, "fast", seconds=0.05))
    measured = harness.measure([slow, fast], repeats=3, limits=False)
    assert [len(p.each) for p in measured.passes.values()] == [3, 3]
    assert measured.ratio("slow", "fast") == pytest.approx(4)
    assert measured.passes["fast"].each[0]["answer"] == 42
    assert "| slow |" in measured.table(against="fast", item="crystal")


def test_a_pass_is_timed_in_its_process(harness, tmp_path):
    start = time.perf_counter()
    measured = harness.measure([harness.Case("waits", sleeper(tmp_path, "waits", 0.1))], repeats=1, limits=False)
    assert 0.1 <= measured.passes["waits"].median < time.perf_counter() - start


def test_memory_is_what_a_pass_adds(harness, tmp_path):
    exact = harness.Case("exact", sleeper(tmp_path, "exact", before_mb=100, peak_mb=150))
    real = harness.Case("real", sleeper(tmp_path, "real", megabytes=50))
    measured = harness.measure([exact, real], repeats=1, limits=False, memory=True)
    assert measured.passes["exact"].memory_mb == 50
    kept = measured.passes["real"].each[0]  # the first pass has made what lasts
    assert kept["peak_mb"] - kept["before_mb"] > 45 and measured.passes["real"].memory_mb > 45
    assert kept["peak_mb"] < 2 * (kept["before_mb"] + 50), "the peak is that of the pass, in MB"


def test_a_command_is_timed_from_start_to_end(harness):
    argv = [sys.executable, "-c", "import time; time.sleep(0.1); print('{\"seen\": 3}')"]
    start = time.perf_counter()
    measured = harness.measure([harness.Case("whole", argv, cold=True)], repeats=2, limits=False)
    passed = time.perf_counter() - start
    passes = measured.passes["whole"].each
    assert all(p["seconds"] > 0.1 and p["seen"] == 3 for p in passes) and sum(p["seconds"] for p in passes) < passed


def test_a_peer_that_fails_is_reported_and_ours_is_not_stopped(harness, tmp_path):
    ours = harness.Case("ours", sleeper(tmp_path, "ours"))
    broken = [sys.executable, "-c", "raise OSError('no such weights')"]
    measured = harness.measure([ours, harness.Case("theirs", broken, peer=True)], repeats=2, limits=False)
    assert measured.failed == {"theirs": "OSError: no such weights"}
    assert measured.ratio("ours", "theirs") is None
    assert "failed: OSError" in measured.table(against="ours")
    with pytest.raises(harness.Failed, match="no such weights"):
        harness.measure([harness.Case("ours", broken)], repeats=1, limits=False)


def test_the_page_says_what_is_met_and_what_is_missed(report, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "KEPT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/made_up.py"])
    goals = [
        report.Goal("half the time", 0.4, at_most=0.5),
        report.Goal("three times as fast", 2.0, at_least=3),
        report.Goal("of a peer that failed", None, at_least=3),
    ]
    report.command(lambda options: report.Section("Made up", "| a table |", goals))
    assert "(goal ≤ 0.5): met" in capsys.readouterr().out
    page = report.page(["made_up", "gone", "later"], {"gone": "exit code 1"})
    assert "| three times as fast | ≥ 3 | 2 | **missed** |" in page
    assert "| of a peer that failed | ≥ 3 |  | not measured |" in page
    assert "`benchmarks/later.py`" in page
    assert "`benchmarks/gone.py`: exit code" in page
    assert json.loads((tmp_path / "made_up.json").read_text())["machine"]["cores"] > 0


def test_all_of_them_are_run(harness):
    written = {path.stem for path in BENCHMARKS.glob("*.py") if "    command(main)" in path.read_text().splitlines()}
    assert set(importlib.import_module("all").BENCHMARKS) == written
