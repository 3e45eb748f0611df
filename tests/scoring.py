"""A server in a process of its own, and what asks it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from waiting import SLOW, line_of, until

BIN = Path(sys.executable).parent
QUIET = {
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@dataclass(frozen=True)
class Server:
    """One that runs.

    Attributes:
        url: its root.
        process: what was started.
        log: all that it and its children say.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, body: bytes | Iterator[bytes], content_type: str | None = "application/json") -> requests.Response:
        headers = {} if content_type is None else {"Content-Type": content_type}
        return requests.post(f"{self.url}/invocations", data=body, headers=headers, timeout=120)

    def ask(self, inputs: Any, **params: Any) -> requests.Response:
        content = {"inputs": inputs} | ({"params": params} if params else {})
        return requests.post(f"{self.url}/invocations", json=content, timeout=120)

    def answers(self, inputs: Any, **params: Any) -> list[dict[str, Any]]:
        response = self.ask(inputs, **params)
        assert response.status_code == 200, response.text
        return response.json()["predictions"]

    def line(self, words: str) -> str:
        """The line of its log that holds the words, once it has said it."""
        return line_of(self.process, self.log, words)

    def resident(self) -> float:
        """MB of it and its children."""
        top = psutil.Process(self.process.pid)
        return sum(one.memory_info().rss for one in [top, *top.children(recursive=True)]) / 1e6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    argv: Sequence[str], port: int, cwd: Path, env: Mapping[str, str], health: str = "/ping", name: str = "server"
) -> Iterator[Server]:
    """The server that a command starts on a port; all its processes end with the block."""
    log = cwd / f"{name}-{port}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**os.environ, **QUIET, **env},
            stdout=file,
            stderr=file,
            start_new_session=True,
            # A shell's background jobs, and what they start, ignore Ctrl-C: not this one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_for(server, health)
        yield server
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process and all of its group; what is there after a while is killed."""
    group, limit = process.pid, time.monotonic() + 40
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < limit:
            process.poll()
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)
    process.wait(SLOW)


def wait_for(server: Server, health: str = "/ping") -> None:
    def answers() -> bool:
        assert server.process.poll() is None, server.log.read_text()[-3000:]
        with contextlib.suppress(requests.RequestException):
            return requests.get(server.url + health, timeout=5).ok
        return False

    until(answers, what=lambda: f"no answer within {SLOW:.0f} s: {server.log.read_text()[-3000:]}")
