"""Work on many items at the same time, in processes of this machine: all are done, once, and nothing outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import Job, begun, name, programs, running, until, work

from zoo.discovery.screen_config import Workers
from zoo.discovery.workers import each
from zoo.errors import ZooError

pytestmark = pytest.mark.extended

TWO = Workers(count=2)
START = """
import sys
from pathlib import Path
from jobs import Job, work
from zoo.discovery.screen_config import Workers
from zoo.discovery.workers import each

if __name__ == "__main__":
    folder = Path(sys.argv[2])
    jobs = [Job(folder / str(i), "long") for i in range(3)]
    list(each(Workers(kind=sys.argv[1], count=2), work, jobs))
"""


def test_one_after_another_in_this_process(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "a"), Job(tmp_path / "b", "refuse"), Job(tmp_path / "c")]
    results = each(Workers(), work, jobs)
    assert next(results) == "a"
    assert not (tmp_path / "b").exists(), "before it is asked for"
    with pytest.raises(ZooError, match="b"):
        next(results)
    assert begun(tmp_path / "a") == [os.getpid()]
    assert not (tmp_path / "c").exists()


def test_all_are_done_once_by_two_processes(tmp_path: Path) -> None:
    assert list(each(TWO, work, [])) == []
    found = list(each(TWO, work, [Job(tmp_path / str(i)) for i in range(6)]))
    assert sorted(found) == list("012345")
    assert all(len(begun(tmp_path / one)) == 1 for one in found)
    assert len({begun(tmp_path / one)[0] for one in found} | {os.getpid()}) <= 3


def test_an_error_ends_what_runs_and_nothing_new_begins(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "long", "long"), Job(tmp_path / "bad", "refuse beside 'long'"), Job(tmp_path / "next")]
    with pytest.raises(ZooError, match="bad"):
        list(each(TWO, work, jobs))
    assert (tmp_path / "long" / "ended").is_file()
    assert not programs(tmp_path / "long") and not running(*begun(tmp_path / "long"))
    assert not (tmp_path / "next").exists()


def test_a_bug_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="bad") as caught:
        list(each(TWO, work, [Job(tmp_path / "bad", "break")]))
    assert "jobs.py" in str(caught.value.__cause__)


def test_a_worker_that_dies_costs_nothing(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "a", "die once"), *(Job(tmp_path / one) for one in "bcd")]
    assert sorted(each(TWO, work, jobs)) == list("abcd")
    assert [len(begun(tmp_path / one)) for one in "abcd"] == [2, 1, 1, 1]


def test_one_that_kills_its_workers_is_named(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "good"), Job(tmp_path / "heavy", "die")]
    with pytest.raises(ZooError, match=r"heavy.*SIGKILL.*workers.count"):
        list(each(TWO, work, jobs, name=name))
    assert len(begun(tmp_path / "heavy")) == 2


def test_results_that_are_left_alone_end_the_work(tmp_path: Path) -> None:
    results = each(TWO, work, [Job(tmp_path / "a"), Job(tmp_path / "long", "long")])
    assert next(results) == "a"
    until(lambda: programs(tmp_path / "long"))
    results.close()  # type: ignore[attr-defined]
    assert (tmp_path / "long" / "ended").is_file() and not programs(tmp_path / "long")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("whom", ["the group", "the main process"])
def test_nothing_outlives_us(tmp_path: Path, how: signal.Signals, whom: str) -> None:
    if whom == "the group" and how == signal.SIGKILL:
        pytest.skip("nothing is left that could end the programs: the next call does")
    script = tmp_path / "start.py"
    script.write_text(START)
    out = tmp_path / "out"
    out.mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, str(script), "local", str(out)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        until(lambda: programs(out / "0") and programs(out / "1"))
        (os.killpg if whom == "the group" else os.kill)(run.pid, how)
        said = run.communicate(timeout=300)[1]
    workers = [*begun(out / "0"), *begun(out / "1")]
    until(lambda: not any(running(pid) for pid in workers))
    assert not programs(out / "0") and not programs(out / "1")
    assert (out / "0" / "ended").is_file() and (out / "1" / "ended").is_file()
    assert not (out / "2").exists()
    assert said.count("Traceback") <= 1, said
