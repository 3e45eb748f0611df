"""Running an external program in a crystal's folder: to its end, to the wall limit, or not beside a forgotten one.

The program is started without a shell, in a session of its own. A lock in the folder is held by us and, through an
inherited file descriptor, by the program: it lives as long as one of both does. So a later call knows a program that
outlived a killed zoo. It ends it and begins again from the files that it left, rather than waiting for it: its input
may be another, and nobody would keep its wall limit.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import CalculationFailed, ZooError, clear_disk_errors
from zoo.storage.user_path import user_path

LOCK = ".lock"
"""Held by us and the program; holds the program's process id and the machine."""
OWNER = ".owner"
"""Held by us alone."""
MARK = "ZOO_CALCULATION"
"""Environment variable of all processes of a calculation: its folder. A process id could be somebody else's by now."""
GRACE = 10.0
"""Seconds between asking a program to end and ending it."""
FULL = 16 * 2**20
"""Bytes: a program that fails with less than this left on the disk has failed for that."""
FULL_WORDS = ("no space left on device", "disk quota exceeded")
"""In its log, in whatever case."""
FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILLED = ".killed"
"""There where a program was killed once."""

_stopping = threading.Event()


def missing_program(command: str) -> str | None:
    """Why a command cannot be started, in words that name the fix; None where it can.

    Of `mpirun -np 2 pw.x`, that is mpirun: what it starts in its turn is not known here.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"the command '{command}' cannot be read ({error})"
    if not words:
        return "the command is empty: it must name a program"
    if _found(words[0]) is None:
        return f"the program '{words[0]}' is not there: install it, or give its path"
    return None


def run_program(
    command: str,
    folder: Path,
    *,
    log: str,
    stdin: str | None = None,
    deadline: float | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a program in a folder until it ends. May be called from several threads, each with a folder of its own.

    Args:
        command: program and arguments, as a shell would split them; there is no shell. A relative path to the program
            is relative to where we are.
        folder: where it runs. A program that is left in it from a call whose process was killed is ended first.
        log: file in the folder that takes what it prints, both streams; an earlier one is replaced.
        stdin: file in the folder that it reads; None for an empty input.
        deadline: in seconds of `time.monotonic()`; None for no limit.
        env: environment variables beside ours.

    Returns:
        Its exit status; minus the signal's number where one ended it.

    Raises:
        CalculationFailed: it had not ended at the deadline, and was ended, as after any exception here; or it was
            killed for the second time in this folder.
        ZooError: it cannot be started, or cannot run on this machine, the disk is full, it was killed or ended from
            outside, or another process of the zoo calculates in this folder.
    """
    why = missing_program(command)
    if why is not None:
        raise ZooError(why)
    first, *arguments = shlex.split(command)
    name = Path(first).name
    if deadline is not None and time.monotonic() > deadline:
        raise CalculationFailed("the wall limit was over before it had ended")
    process: subprocess.Popen[bytes] | None = None
    with clear_disk_errors(folder), _held(folder) as lock:
        try:
            process = _start([str(_found(first)), *arguments], folder, log, stdin, env or {}, lock)
            os.truncate(lock, 0)
            os.pwrite(lock, f"{process.pid} {socket.gethostname()}\n".encode(), 0)
            _wait(process, name, deadline)
        except BaseException:
            _end(folder, process)
            raise
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it may have left behind
    status = process.returncode
    number = signal_of(status)
    if number in FROM_OUTSIDE:
        raise ZooError(f"{name} was ended from outside ({number.name}) in {folder}")
    if status and (shutil.disk_usage(folder).free < FULL or _says_full(folder / log)):
        raise ZooError(f"no space left for {folder}: free some, or choose another folder")
    if number == signal.SIGILL:
        raise ZooError(f"{name} does not run on this processor (SIGILL; see {folder / log}): install one that does")
    if number == signal.SIGKILL:
        _count_kill(name, folder)
    return status


def _count_kill(name: str, folder: Path) -> None:
    """Once it may be that too much was running; a crystal whose program is killed again is too much by itself."""
    if (folder / KILLED).exists():
        raise CalculationFailed(f"{name} was killed twice (SIGKILL), for want of memory perhaps")
    (folder / KILLED).touch()
    raise ZooError(
        f"{name} was killed (SIGKILL) in {folder}, for want of memory perhaps: lower workers.count, or its threads or "
        "processes; killed once more, this crystal has failed"
    )


def signal_of(status: int) -> signal.Signals | None:
    """The signal that ended a program, by its exit status; mpirun and shells tell it as 128 and its number."""
    number = -status if status < 0 else status - 128
    return signal.Signals(number) if number in set(signal.Signals) else None


def not_begun(command: str, program: str, status: int, log: Path) -> ZooError:
    """The error to raise where a command has ended before its program had begun, which is no fault of the crystal.

    Args:
        command: what was run.
        program: what it should have started, in a message.
        status: its exit status.
        log: takes what it printed.
    """
    lines = [line.strip() for line in _tail(log).splitlines() if any(map(str.isalpha, line))]  # no rule of dashes
    said = lines[-1][:200] if lines else "it printed nothing"
    return ZooError(f"'{command}' does not start {program} ({said}; exit status {status}, see {log}): put that right")


def end_forgotten(folder: Path) -> None:
    """End a program that is left in the folder from a call whose process was killed: before its files are touched.

    Raises:
        ZooError: it cannot be ended from here, or another process of the zoo calculates in this folder.
    """
    with clear_disk_errors(folder), _held(folder):
        pass


def end_programs() -> None:
    """End what all threads are running, and let nothing be started any more: this process is about to end."""
    _stopping.set()


def _found(program: str) -> str | None:
    path = shutil.which(user_path(program)) if "/" in program else shutil.which(program)
    return None if path is None else str(Path(path).absolute())


def _start(
    words: list[str], folder: Path, log: str, stdin: str | None, env: Mapping[str, str], lock: int
) -> subprocess.Popen[bytes]:
    given = folder / stdin if stdin else Path(os.devnull)
    with (folder / log).open("wb") as output, given.open("rb") as read:
        try:
            return subprocess.Popen(
                words,
                cwd=folder,
                stdin=read,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env, MARK: str(folder.resolve())},
                pass_fds=(lock,),
                start_new_session=True,
            )
        except OSError as error:
            raise ZooError(f"the program '{words[0]}' cannot be started ({error.strerror})") from error


def _wait(process: subprocess.Popen[bytes], name: str, deadline: float | None) -> None:
    pause = 0.01
    while process.poll() is None:
        if deadline is not None and time.monotonic() > deadline:
            raise CalculationFailed(f"{name} had not ended at the wall limit")
        # Not by waiting for the event: Ctrl-C in the middle of that is a RuntimeError now and then.
        time.sleep(pause)
        if _stopping.is_set():
            raise ZooError(f"{name} was ended, as all else")
        pause = min(0.5, 1.5 * pause)


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    """Hold the folder's locks; gives the file descriptor of the one that the program holds with us."""
    owner = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT, 0o644)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _taken(owner, folder):
            raise ZooError(f"another process calculates in {folder}: wait for it, or end it")
        if not _taken(lock, folder):
            _end(folder)
            if not _taken(lock, folder, patience=GRACE):
                holder = os.pread(lock, 200, 0).decode(errors="replace").split()
                who = f"process {holder[0]} on {holder[1]}" if len(holder) == 2 else "a process"
                raise ZooError(f"{who} still calculates in {folder}, and cannot be ended from here: end it")
        yield lock
    finally:
        # Let go of them in words: a process that was forked from ours in the meantime has them open as well.
        for held in (lock, owner):
            with suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_UN)
            os.close(held)


def _taken(descriptor: int, folder: Path, patience: float = 0.0) -> bool:
    """Whether a lock is ours now."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        except OSError as error:
            raise ZooError(f"no file can be locked in {folder} ({error.strerror}): choose another disk") from error


def _end(folder: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """End all processes of the calculation: ask them, and after a while do not ask."""
    try:
        _signal(folder, process, signal.SIGTERM)
        until = time.monotonic() + GRACE
        while _alive(folder, process) and time.monotonic() < until:
            time.sleep(0.05)
    finally:  # Ctrl-C, twice
        _signal(folder, process, signal.SIGKILL)
        if process is not None:
            process.wait()


def _signal(folder: Path, process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
    for member in _members(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(member, number)


def _alive(folder: Path, process: subprocess.Popen[bytes] | None) -> bool:
    return (process is not None and process.poll() is None) or bool(_members(folder))


def _members(folder: Path) -> list[int]:
    """The calculation's processes on this machine, those too that have left its session; known on Linux only."""
    mark = f"{MARK}={folder.resolve()}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # has ended, or is somebody else's
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return [member for member in found if member != os.getpid()]


def _says_full(log: Path) -> bool:
    said = _tail(log).lower()
    return any(words in said for words in FULL_WORDS)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 10_000))
        return file.read().decode(errors="replace")
