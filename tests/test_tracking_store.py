"""The store behind a tracking URI: made whole by whoever comes first, and refused in one line where it cannot work."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from zoo.config.recipe import Tracking
from zoo.errors import ZooError
from zoo.registry import tracking_store as store
from zoo.registry.tracking_store import client_of, make_ready
from zoo.storage.run_folder import RunFolder, read_json
from zoo.tracking.tracked_runs import PARENT, TrackedRuns

MAKE = "import sys; from zoo.registry.tracking_store import make_ready; make_ready(sys.argv[1])"


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def makers(folder: Path, count: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", MAKE, uri_of(folder)]
    return [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(count)]


@pytest.mark.extended
def test_three_at_once_make_one_database(tmp_path: Path) -> None:
    for process in makers(tmp_path, 3):
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert [each.name for each in client_of(uri_of(tmp_path)).search_experiments()] == ["Default"]


@pytest.mark.extended
def test_a_kill_while_it_is_made_leaves_none(tmp_path: Path) -> None:
    (process,) = makers(tmp_path, 1)
    while not (tmp_path / ".mlflow.db.partial").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "mlflow.db").exists()
    assert client_of(uri_of(tmp_path)).search_experiments()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_ready(uri_of(folder))
    return folder / "mlflow.db"


def copy(made: Path, folder: Path) -> Path:
    path = folder / "mlflow.db"
    path.write_bytes(made.read_bytes())
    return path


def test_what_is_no_whole_database_is_told_with_what_to_do(made: Path, tmp_path: Path) -> None:
    path = copy(made, tmp_path)
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as base:
        base.execute("DROP TABLE registered_models")
    half = path.read_bytes()
    for wrong in (b"", b"x" * 10_000, content[: len(content) // 3], half):
        path.write_bytes(wrong)
        with pytest.raises(ZooError, match="delete it") as caught:
            make_ready(uri_of(tmp_path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(content)
    make_ready(uri_of(tmp_path))


def test_a_locked_database_is_told(made: Path, tmp_path: Path) -> None:
    path = copy(made, tmp_path)
    with closing(sqlite3.connect(path)) as base:
        base.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ZooError, match="locked"):
            make_ready(uri_of(tmp_path))


def test_a_server_that_takes_the_connection_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ANSWER", 0.5)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
        for uri in (f"http://127.0.0.1:{port}", f"postgresql://me:secret@127.0.0.1:{port}/mlflow"):
            with pytest.raises(ZooError, match=r"127\.0\.0\.1") as caught:
                make_ready(uri)
            assert "secret" not in str(caught.value)


def test_a_run_that_a_kill_cut_off_from_its_folder_is_found_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after MLflow has made the run: the next process takes it, and there is no orphan."""
    copy(made, tmp_path)
    tracking, folder = Tracking(uri=uri_of(tmp_path), experiment="cut"), RunFolder(tmp_path / "run")
    create = MlflowClient.create_run

    def killed(self: MlflowClient, *arguments: object, **more: object) -> None:
        create(self, *arguments, **more)
        raise KeyboardInterrupt

    for name in (PARENT, "seed 1"):
        monkeypatch.setattr(MlflowClient, "create_run", killed)
        with pytest.raises(KeyboardInterrupt):
            TrackedRuns(tracking, folder).opened(name, name)
        monkeypatch.undo()
        run_id = TrackedRuns(tracking, folder).opened(name, name)
        client = client_of(tracking.uri)
        number = client.get_experiment_by_name("cut").experiment_id
        assert [run.info.run_id for run in client.search_runs([number], f"run_name = '{name}'")] == [run_id]
    (state,) = read_json(folder.tracked).values()
    assert not state["opening"] and set(state["runs"]) == {PARENT, "seed 1"}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/none")
    else:
        place = tmp_path / "closed"
        place.mkdir(mode=0o500)
    with pytest.raises(ZooError, match="cannot be made"):
        make_ready(uri_of(place))
