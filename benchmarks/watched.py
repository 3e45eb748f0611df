"""The memory of a process, watched from outside."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path


class Watched:
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
