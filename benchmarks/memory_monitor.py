"""`zoo` in a process of its own, whose memory is sampled from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path


class MemoryMonitor:
    """Peaks of a running process in MB (10⁶ bytes): `anonymous` (RssAnon, sampled) and `resident` (VmHWM) memory."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.anonymous = self.resident = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            try:
                status = Path(f"/proc/{self.process.pid}/status").read_text()
            except OSError:  # it has just ended
                return
            lines = dict(line.split(":", 1) for line in status.splitlines())
            if "RssAnon" in lines:
                self.anonymous = max(self.anonymous, int(lines["RssAnon"].split()[0]) * 1024 / 1e6)
                self.resident = max(self.resident, int(lines["VmHWM"].split()[0]) * 1024 / 1e6)
            time.sleep(0.02)


def start_zoo(folder: Path, threads: int, *arguments: str, cache: str = "cache") -> subprocess.Popen[str]:
    """Start `zoo ARGUMENTS...` in a folder; the log of a failure, and nothing else, goes to the file `stderr` there."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = {**os.environ, **dict.fromkeys(names, str(threads)), "ZOO_CACHE": str(folder / cache)}
    program = [sys.executable, "-m", "zoo", *arguments]
    with (folder / "stderr").open("w", encoding="utf-8") as errors:
        return subprocess.Popen(program, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)


def finish(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait for the end of a process that `start_zoo` started.

    Raises:
        SystemExit: it failed; the end of its log is the message.
    """
    process.communicate()
    if process.returncode:
        raise SystemExit(f"zoo failed: {(folder / 'stderr').read_text(encoding='utf-8')[-2000:]}")
