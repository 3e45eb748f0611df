"""Faults at the k-th write, fsync or rename of a process, as environment variables say.

ZOO_TORTURE_ROOT: the folder below which operations count. ZOO_TORTURE_FAIL_AT=k: the first is 1; without it none fails.
ZOO_TORTURE_HOW: `kill` (half of a write, then SIGKILL), `ENOSPC` (from then on every write fails, as on a full disk) or
`EIO` (once). ZOO_TORTURE_LOG: a file that gets a line an operation, kind and path.

ZOO_TORTURE_STATES: a folder. At every operation the process forks for each kind of fault; the fork has it, in a copy of
the root that it alone sees in its place (a mount of its own, for which one has to be root), and goes on to its end. The
copy stays there as `K-HOW`, beside `K-HOW.json` with its exit code and what it said.

ZOO_TORTURE_SQL_AT=k: SIGKILL at the k-th SQL statement of SQLite; with ZOO_TORTURE_SQL_LOG, a file gets a line each.

`python -m torture.inject run small.yaml --out run` is `zoo run small.yaml --out run` with the faults.
"""

from __future__ import annotations

import _io
import builtins
import ctypes
import errno
import fcntl
import io
import json
import os
import re
import select
import shutil
import signal
import sqlite3.dbapi2
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = set("wax+")
KINDS = ("kill", "EIO", "ENOSPC")
LONGEST = 90.0  # s that a fork may take
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
DRAWN = re.compile(r"\b[0-9a-f]{64}\b|(?<=run-)\w{8}\b|(?<=once-)\w{8}\b")
"""Keys of the cache, and names of temporary folders."""


class _Faults:
    """Counts operations and fails at one."""

    def __init__(self) -> None:
        self.root = os.environ["ZOO_TORTURE_ROOT"]
        self.at = int(os.environ.get("ZOO_TORTURE_FAIL_AT", "0"))
        self.how = os.environ.get("ZOO_TORTURE_HOW", "kill")
        log = os.environ.get("ZOO_TORTURE_LOG")
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if log else None
        self.count = 0
        self.states = os.environ.get("ZOO_TORTURE_STATES")

    def below(self, path: Any) -> bool:
        """Whether a path is one that counts."""
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.root)  # noqa: PTH100

    def passed(self, what: str, path: Any, before_kill: Callable[[], Any] = lambda: None) -> None:
        """Count an operation; at the chosen one, die or raise."""
        self.count += 1
        if self.log is not None:
            os.write(self.log, f"{what} {os.path.relpath(path, self.root)}\n".encode())
        if self.states is not None:
            self.branch()
        full = self.how == "ENOSPC" and what == "write" and 0 < self.at < self.count
        if self.count != self.at and not full:
            return
        if self.how == "kill":
            before_kill()
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.how)
        raise OSError(number, os.strerror(number), str(path))

    def branch(self) -> None:
        """Let a fork have each of the faults here; returns in this process, and in a fork that is to have one."""
        for how in KINDS:
            place = Path(f"{self.states}/{self.count}-{how}")
            shutil.copytree(self.root, place, symlinks=True)
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                separate(place, self.root)
                self.states, self.how, self.at = None, how, self.count
                return
            code = waited(pid, LONGEST)
            said = (place / "log" / "stderr").read_text("utf-8", "replace")
            place.with_suffix(".json").write_text(json.dumps({"returncode": code, "stderr": said[-2000:]}))


def separate(place: Path, root: str) -> None:
    """Show this process the copy `place` where `root` is, and let files that it is writing be those of the copy."""
    libc = ctypes.CDLL(None, use_errno=True)
    everywhere = libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) if libc.unshare(CLONE_NEWNS) == 0 else -1
    if everywhere != 0 or libc.mount(str(place).encode(), root.encode(), None, MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), "a mount of its own is not allowed: be root")
    os.chdir(root)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            path = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except OSError:
            continue
        flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
        if path.startswith(root) and flags & (os.O_WRONLY | os.O_RDWR) and os.path.exists(path):  # noqa: PTH110
            fresh = os.open(path, flags & ~(os.O_CREAT | os.O_TRUNC | os.O_EXCL))
            if not flags & os.O_APPEND:
                os.lseek(fresh, os.lseek(int(name), 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(fresh, int(name), inheritable=os.get_inheritable(int(name)))
            os.close(fresh)


def waited(pid: int, limit: float) -> int | None:
    """Return the exit code of a process; None where it did not end within the limit and was killed."""
    fd = os.pidfd_open(pid)
    over = not select.select([fd], [], [], limit)[0]
    os.close(fd)
    if over:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if over else code


def install() -> None:
    """Patch this process, if the environment says so; before anything is opened."""
    if "ZOO_TORTURE_SQL_AT" in os.environ:
        _count_statements(int(os.environ["ZOO_TORTURE_SQL_AT"]))
    if "ZOO_TORTURE_ROOT" not in os.environ:
        return
    faults = _Faults()
    opened, fsync = io.open, os.fsync

    class File(io.FileIO):
        """A file whose every write is one of the operations."""

        def write(self, data: Any) -> int | None:
            faults.passed("write", self.path, lambda: io.FileIO.write(self, memoryview(data)[: len(data) // 2]))
            return super().write(data)

    def open_(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not WRITES & set(mode) or not faults.below(file):
            return opened(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = File(file, mode.replace("b", "").replace("t", ""), closefd=closefd, opener=opener)
        raw.path = os.path.abspath(file)  # noqa: PTH100
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffer = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)
        text.mode = mode
        return text

    def moved(move: Any) -> Any:
        def move_(source: Any, target: Any, **more: Any) -> None:
            if faults.below(target):
                faults.passed("rename", target)
            move(source, target, **more)

        return move_

    def fsync_(file: Any) -> None:
        path = Path(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}").readlink()
        if faults.below(path):
            faults.passed("fsync", path)
        fsync(file)

    builtins.open = io.open = _io.open = open_  # type: ignore[assignment]  # tempfile takes the last
    os.fsync, os.replace, os.rename = fsync_, moved(os.replace), moved(os.rename)


def _count_statements(at: int) -> None:
    """Die at a statement."""
    connect, count = sqlite3.dbapi2.connect, 0
    log = os.environ.get("ZOO_TORTURE_SQL_LOG")

    def counted(statement: str) -> None:
        nonlocal count
        count += 1
        if log is not None:
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(f"{' '.join(statement.split())[:60]}\n")
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA synchronous=OFF")  # what a killed process has written is not lost
        connection.set_trace_callback(counted)
        return connection

    sqlite3.dbapi2.connect = connected  # type: ignore[assignment]


def operations(log: Path) -> list[tuple[str, str]]:
    """Kind and path of each operation that a process has logged; what is another name each time is a star."""
    lines = [DRAWN.sub("*", line).partition(" ") for line in log.read_text("utf-8").splitlines()]
    return [(kind, path) for kind, _, path in lines]


if __name__ == "__main__":
    install()
    from zoo.cli import main

    main()
