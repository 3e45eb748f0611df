"""`zoo serve`: what it refuses to start, and a server from a folder, ended by a signal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli import refused, zoo
from scoring import free_port, running
from waiting import SLOW


@pytest.fixture
def registry(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained}/mlflow.db")
    return trained


def test_what_cannot_be_served_is_told_in_one_line(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(zoo("serve", "small-totl", cwd=registry), "'small-total'?")
    refused(zoo("serve", "no/such", cwd=registry), "no/such")
    refused(zoo("serve", ".", cwd=registry), "neither a run")
    refused(zoo("serve", "run", "--max-atoms", "0", cwd=registry), "max-atoms")
    refused(zoo("serve", "run", "--host", "no.such.host.invalid", cwd=registry), "no.such.host.invalid")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused(zoo("serve", "run", "--port", port, cwd=registry), f"port {port}", "--port")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    refused(zoo("serve", "small-total", cwd=registry), "http://127.0.0.1:")


@pytest.mark.extended
def test_a_run_folder_is_served_within_its_limits_until_it_is_told_to_stop(
    trained: Path, tmp_path: Path, salt: dict[str, Any]
) -> None:
    """Without a registry."""
    port = free_port()
    argv = [sys.executable, "-m", "zoo", "serve", str(trained / "run"), "--port", str(port), "--max-atoms", "6"]
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db"}
    with running(argv, port, tmp_path, env) as server:
        shown = server.ask(salt)
        assert shown.status_code == 400 and "at most 6" in shown.json()["message"]
        cell = salt["cif"].replace("'F m -3 m'", "'P 1'").replace("_Tables_number 225", "_Tables_number 1")
        assert server.answers({"cif": cell})[0]["formula"] == "NaCl"
        line = server.line("| curl")
        (tmp_path / "salt.cif").write_text(cell)
        if shutil.which("curl"):
            done = subprocess.run(
                ["bash", "-c", line.replace("YOUR.cif", "salt.cif")], cwd=tmp_path, capture_output=True
            )
            assert json.loads(done.stdout)["predictions"] == server.answers({"cif": cell})
        assert server.answers({"cif": cell}, neighbours=2)[0]["nearest"], "an option is applied"
        refused_option = server.ask({"cif": cell}, neighbors=2)
        assert refused_option.status_code == 400 and "neighbours" in refused_option.json()["message"]
        os.kill(server.process.pid, signal.SIGINT)
        assert server.process.wait(SLOW) == 0
        said = server.log.read_text()
        assert f"http://127.0.0.1:{port}/invocations" in said
        assert "Traceback" not in said


@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_leaves_no_process_and_no_copied_folder(trained: Path, tmp_path: Path, workers: int) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "zoo", "serve", str(trained / "run"), "--port", str(port), "--workers", str(workers)]
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db", "TMPDIR": str(tmp_path)}
    with running(argv, port, tmp_path, env) as server:
        everyone = psutil.Process(server.process.pid).children(recursive=True)
        assert len(everyone) >= workers
        server.process.kill()
        server.process.wait(SLOW)
        assert not psutil.wait_procs(everyone, timeout=SLOW)[1]
    assert not list(tmp_path.glob("zoo-serve-*"))
