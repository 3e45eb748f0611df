"""Waiting for what another process or thread does, however busy the machine is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SLOW = 180.0  # s, for a server to start on a busy machine; what goes as it should is waited for no longer than it takes


def until(true: Callable[[], Any], seconds: float = SLOW, what: Callable[[], str] = lambda: "it does not come") -> Any:
    """Wait for something to become true; what it then is. `what` says what is wrong where it does not."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, what()
        time.sleep(0.05)
    return found


def content(path: Path) -> str:
    """Return what another process has written into a file so far, stripped; "" until its last line is whole."""
    text = path.read_text() if path.is_file() else ""
    return text.strip() if text.endswith("\n") else ""


def written(path: Path) -> str:
    """The same, once there is some."""
    return str(until(lambda: content(path), what=lambda: f"{path} does not come"))


def line_of(process: subprocess.Popen[bytes], log: Path, words: str) -> str:
    """The first whole line of a process's log that holds the words: it may come after all else that tells of it."""

    def found() -> str | None:
        lives = process.poll() is None  # asked first: what it says before its end is read then
        text = log.read_text()
        whole = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
        line = next((line for line in whole if words in line), None)
        assert lives or line is not None, f"it ended without '{words}': {text[-3000:]}"
        return line

    return str(until(found, what=lambda: f"no '{words}' within {SLOW:.0f} s: {log.read_text()[-3000:]}"))


def leap(monkeypatch: pytest.MonkeyPatch, true: Callable[[], Any], seconds: float) -> None:
    """Let the clock leap ahead as soon as something is true: a limit is over then, and no sooner."""
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + (seconds if true() else 0.0))
