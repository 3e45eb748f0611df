"""Commands of the zoo in processes that are forked from this one, which has imported everything already.

A command then starts within milliseconds, and may hang, crash or be killed. This process must therefore stay without
threads and compute nothing itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torture import inject

HANG = 90.0  # s, of the wall clock; on a busy machine a command of seconds may take many
CPU_SECONDS = 60.0  # of one command, which takes a few
MESSAGES = 20_000  # characters of stderr that are kept


@dataclass(frozen=True)
class Ended:
    """A command that is over.

    Attributes:
        returncode: exit code; negative: the signal that ended it.
        stdout, stderr: what it printed.
        seconds: that it took.
        hung: it took too long, and was killed where it had not ended.
    """

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    hung: bool

    @property
    def last_line(self) -> str:
        """The last line that the command printed on stderr."""
        return (self.stderr.strip().splitlines() or [""])[-1].strip()[:300]


class Running:
    """A function in a process of its own; `zoo` and `start` make one."""

    def __init__(self, work: Callable[[], None], cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self._log, self._began = log, time.monotonic()
        log.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _child(work, cwd, env, log)
        self._fd = os.pidfd_open(self.pid)

    def wait(self, limit: float = HANG) -> Ended:
        """Wait for its end, which comes within the limit or is made."""
        over = not select.select([self._fd], [], [], limit)[0]
        if over:
            self.kill()
        os.close(self._fd)
        _, status, used = os.wait4(self.pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it has started itself
        out, err = ((self._log / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
        hung = over or used.ru_utime + used.ru_stime > CPU_SECONDS
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, out, err[-MESSAGES:], time.monotonic() - self._began, hung)

    def kill(self) -> None:
        """End it, and what it has started, at once."""
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                end(self.pid, signal.SIGKILL)


def _child(work: Callable[[], None], cwd: Path, env: Mapping[str, str], log: Path) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(log / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1, encoding="utf-8") for n in (1, 2))
        os.environ.update(env)
        os.chdir(cwd)
        inject.install()
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def start(
    *arguments: str,
    cwd: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    quick: bool = True,
    pictures: bool = True,
) -> Running:
    """Start `zoo ARGUMENTS...` in the folder `cwd`; `quick`: databases do not wait for the disk."""

    def work() -> None:
        from quick import quick_databases, small_pictures

        from torture.lean import lean
        from zoo.cli import main

        sys.argv = ["zoo", *arguments]
        with contextlib.ExitStack() as stack:
            stack.enter_context(small_pictures() if pictures else lean())
            if quick:
                stack.enter_context(quick_databases(log))
            main()

    return Running(work, cwd, env or {}, log)


def zoo(
    *arguments: str,
    cwd: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    quick: bool = True,
    pictures: bool = True,
    limit: float = HANG,
) -> Ended:
    """`zoo ARGUMENTS...` to its end, which comes within the limit; without `pictures`, each is one pixel."""
    return start(*arguments, cwd=cwd, log=log, env=env, quick=quick, pictures=pictures).wait(limit)
