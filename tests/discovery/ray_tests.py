"""The same on a Ray cluster of two nodes as in this process, though one node is killed midway."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock

import psutil
import pytest
from cli import Result, refused, zoo
from discovered import asked, write_discovery
from jobs import Job, begun, name, programs, work
from quick import no_pictures
from screened import save, write_json
from waiting import until

from zoo.config import plugins
from zoo.discovery import ray_cluster
from zoo.discovery.screen_config import Workers
from zoo.discovery.screen_folder import ScreenFolder
from zoo.discovery.workers import each
from zoo.errors import ZooError

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason='needs pip install "crystal-tensor-zoo[ray]"')

SMALL = 100 * 2**20  # bytes of shared memory
TWO = Workers(kind="ray", count=2)
ON_RAY = ("workers.kind=ray", "workers.count=2")


HELD_ORACLE = """
import sys
import time
from zoo.oracles.replay import Replay

class Held(Replay):
    '''Replays labels. On Ray it notes on which node, and in the second round waits for the file `go`.

    On a lost node it waits for ever.
    '''

    def tensors(self, candidate, folder):
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            node = ray.get_runtime_context().get_node_id()
            with (folder / "calls").open("a") as file:
                file.write(node + "\\n")
            go, lost = folder.parent / "go", folder.parent / node
            while "round_2" in folder.parts and (lost.exists() or not go.exists()):
                time.sleep(0.05)
        return super().tensors(candidate, folder)
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oracle `held`, as if it were installed."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "held_oracle.py").write_text(HELD_ORACLE)
    info = folder / "held_oracle-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: held-oracle\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[zoo.oracles]\nheld = held_oracle:Held\n")
    return folder


@pytest.fixture(scope="module")
def cluster(plugin: Path) -> Iterator[Any]:
    """A head of two CPUs, which reads and predicts, and a second node of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 127.0.0.1 alone
        patch.setenv("RAY_worker_niceness", "0")  # 15 else: on a busy machine they would hardly run
        patch.setenv("OMP_NUM_THREADS", "1")
        found = [str(Path(__file__).parents[1]), str(plugin), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(found))
        from ray.cluster_utils import Cluster

        made = Cluster(True, head_node_args={"num_cpus": 2, "object_store_memory": SMALL, "include_dashboard": False})
        made.add_node(num_cpus=1, object_store_memory=SMALL)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def _no_pictures() -> Iterator[None]:
    with no_pictures():
        yield


def files(folder: Path) -> dict[str, bytes]:
    """All that follows from the candidates; not what tells of time."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for place in ("parts", "top")
        for path in sorted((folder / place).iterdir())
    }
    summary = json.loads((folder / "summary.json").read_text())
    del summary["speed"]
    return found | {"top.csv": (folder / "top.csv").read_bytes(), "summary": json.dumps(summary).encode()}


def when(acts: dict[int, Callable[[], None]]) -> Callable[[ScreenFolder, int, Any], None]:
    """Does that before the part of that number is written."""
    add = ScreenFolder.add

    def adding(self: ScreenFolder, number: int, table: Any) -> None:
        if number in acts:
            acts[number]()
        add(self, number, table)

    return adding


def stop() -> None:
    raise KeyboardInterrupt


def processes(title: str) -> list[int]:
    """Worker processes of our cluster with that in their title."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            name = " ".join(process.cmdline())
            if name.startswith("ray::") and title in name:
                found.append(process.pid)
    return found


def test_with_a_killed_model_and_stopped_it_goes_on_here(cluster: Any, recipe: dict, tmp_path: Path) -> None:
    """SIGKILL for one of two workers, then Ctrl-C, then without Ray: all is as it is here.

    Of the candidates some are left out, one cannot be read, some are molecular.
    """
    content = json.loads(write_json(tmp_path / "many.json", 150).read_text())
    content["c-0003"]["band_gap"] = 0.0
    content["c-0090"]["structure"] = {"lattice": 1}
    (tmp_path / "many.json").write_text(json.dumps(content))
    save(recipe | {"objective": {"name": "anisotropy"}, "chunk": 2}, tmp_path)
    assert zoo("screen", "mine.yaml", "--out", "here", cwd=tmp_path).returncode == 0
    workers: list[int] = []

    def kill() -> None:
        workers.extend(processes("Model"))
        os.kill(workers[0], signal.SIGKILL)

    with mock.patch.object(ScreenFolder, "add", when({5: kill, 50: stop})):
        result = zoo("screen", "mine.yaml", *ON_RAY, "--out", "ray", cwd=tmp_path)
    assert len(workers) == 2
    assert result.returncode == 130
    assert "zoo screen --resume ray" in result.stderr.strip().splitlines()[-1]
    assert len(list((tmp_path / "ray" / "parts").iterdir())) == 50
    result = zoo("screen", "--resume", "ray", "workers={kind: local, count: 1}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert files(tmp_path / "ray") == files(tmp_path / "here")


def test_an_error_comes_through_the_tasks_after_it(cluster: Any, tmp_path: Path) -> None:
    """An error of a Ray task is raised where the result of a task that depends on it is fetched."""
    import ray

    with ray_cluster.joined(TWO):
        refusing = ray.remote(work).remote(Job(tmp_path / "bad", "refuse"))
        with pytest.raises(ray.exceptions.RayError) as caught:
            ray.get(ray.remote(name).remote(refusing))
    cause = ray_cluster.cause_of(caught.value)
    assert type(cause) is ZooError and "bad" in str(cause)


def test_tasks_whose_worker_or_node_dies_are_done_again(cluster: Any, tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "a", "die once"), *(Job(tmp_path / one) for one in "bcd")]
    assert sorted(each(TWO, work, jobs)) == list("abcd")
    assert [len(begun(tmp_path / one)) for one in "abcd"] == [2, 1, 1, 1]
    with pytest.raises(ZooError, match=r"heavy.*WorkerCrashedError"):
        list(each(TWO, work, [Job(tmp_path / "heavy", "die")], name=name))


def test_an_error_ends_what_runs(cluster: Any, tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "long", "long"), Job(tmp_path / "bad", "refuse beside 'long'"), Job(tmp_path / "next")]
    with pytest.raises(ZooError, match="bad"):
        list(each(TWO, work, jobs))
    assert (tmp_path / "long" / "ended").is_file() and not programs(tmp_path / "long")
    assert not (tmp_path / "next").exists()


def test_clear_errors(cluster: Any, recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(recipe, tmp_path)

    def said(out: str, *change: str) -> Result:
        return zoo("screen", "mine.yaml", *change, "--out", out, cwd=tmp_path)

    nobody = "workers.address=127.0.0.1:1"
    refused(said("a", *ON_RAY, nobody), "127.0.0.1:1", "ray start")
    refused(said("b", *ON_RAY, "workers.address=ray://head"), "ray://head", "HOST:PORT")
    refused(said("c", nobody), "workers.kind")
    refused(said("d", "workers.count=2"), "workers.count=2", "workers.kind=ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(said("e", *ON_RAY), 'pip install "crystal-tensor-zoo[ray]"')


def test_a_node_killed_midway_in_a_discovery(
    cluster: Any, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the last round calculates: no crystal is lost, or counted twice, and nobody else's work is done again."""
    monkeypatch.syspath_prepend(plugin)
    plugins.registered.cache_clear()
    everything = {"name": "file", "path": "all.json"}
    write_discovery(tmp_path, oracle={"name": "held", "dataset": everything}, top=5)
    assert zoo("discover", "find.yaml", "--out", "here", cwd=tmp_path).returncode == 0
    second = cluster.add_node(num_cpus=2, object_store_memory=SMALL)
    calculations = tmp_path / "ray" / "round_2" / "calculations"
    lost: list[str] = []

    def at_work() -> list[str]:
        """Crystals that are calculated on the second node: four are begun, and elsewhere there is room for three."""
        begun = list(calculations.glob("*/calls"))
        return [path.parent.name for path in begun if second.node_id in path.read_text()] if len(begun) == 4 else []

    def kill() -> None:
        try:
            lost.extend(until(at_work))
            cluster.remove_node(second, allow_graceful=False)
            (calculations / second.node_id).touch()  # its processes outlive it by some seconds
        finally:
            (calculations / "go").touch()

    killing = Thread(target=kill)
    killing.start()
    result = zoo("discover", "find.yaml", "workers.kind=ray", "workers.count=4", "--out", "ray", cwd=tmp_path)
    killing.join()
    assert result.returncode == 0, result.stderr
    assert lost
    rows, here = ([{**row, "seconds": ""} for row in asked(tmp_path / out)] for out in ("ray", "here"))
    assert len({row["key"] for row in rows}) == len(rows) == 10
    assert rows == here
    for number in (1, 2):
        results = [tmp_path / out / f"round_{number}" / "results.json" for out in ("here", "ray")]
        assert results[0].read_bytes() == results[1].read_bytes()
    calls = {path.parent.name: path.read_text().split() for path in calculations.glob("*/calls")}
    assert {key for key, nodes in calls.items() if len(nodes) > 1} == set(lost)
    assert all(len(calls[key]) == 2 for key in lost) and len(calls) == 5
    plugins.registered.cache_clear()


def test_a_killed_node_changes_nothing(cluster: Any, recipe: dict, tmp_path: Path) -> None:
    """While it goes on with what was begun here. The last test: there is one node then."""
    write_json(tmp_path / "many.json", 60)
    save(recipe | {"chunk": 2}, tmp_path)
    assert zoo("screen", "mine.yaml", "--out", "whole", cwd=tmp_path).returncode == 0
    with mock.patch.object(ScreenFolder, "add", when({3: stop})):
        assert zoo("screen", "mine.yaml", "--out", "killed", cwd=tmp_path).returncode == 130

    def kill() -> None:
        cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)

    with mock.patch.object(ScreenFolder, "add", when({8: kill})):
        result = zoo("screen", "mine.yaml", *ON_RAY, "--resume", "killed", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
