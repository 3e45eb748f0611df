"""Work for the workers of discovery: importable by their processes. Each item is a folder."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from waiting import until

from zoo.errors import ZooError
from zoo.oracles.external import run_program


@dataclass(frozen=True)
class Job:
    """What to do in a folder: see `work`."""

    folder: Path
    what: str = ""


def work(job: Job) -> str:
    """The folder's name; what has happened stands in it."""
    job.folder.mkdir(exist_ok=True)
    with (job.folder / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if job.what == "refuse":
        raise ZooError(f"{job.folder.name} is refused")
    if job.what == "refuse beside 'long'":
        until(lambda: programs(job.folder.parent / "long"))
        raise ZooError(f"{job.folder.name} is refused")
    if job.what == "break":
        raise KeyError(job.folder.name)
    if job.what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.what == "die once" and len(begun(job.folder)) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.what == "long":
        try:
            run_program("sleep 600", job.folder, log="log")
        except KeyboardInterrupt:
            (job.folder / "ended").touch()
            raise
    return job.folder.name


def begun(folder: Path) -> list[int]:
    """The processes that have begun on a folder."""
    path = folder / "begun"
    return [int(line) for line in path.read_text().splitlines()] if path.is_file() else []


def name(job: Job) -> str:
    """Of a job, for messages."""
    return job.folder.name


def programs(folder: Path) -> list[int]:
    """What `work` has started below a folder and still runs."""
    mark = f"ZOO_CALCULATION={folder.resolve()}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def running(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
