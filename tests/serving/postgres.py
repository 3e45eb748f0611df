"""A PostgreSQL server of the test's own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scoring import free_port


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian does not put on the PATH; None where there is none."""
    found = [Path(place).resolve().parent for place in [shutil.which("initdb")] if place]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    needed = ("initdb", "pg_ctl", "psql", "createdb")
    return next((place for place in found if all((place / name).exists() for name in needed)), None)


@dataclass(frozen=True)
class Cluster:
    """A server that runs, with an administrator `postgres` who needs no password on its socket.

    Attributes:
        bin: its programs.
        folder: its files and its socket.
        port: on 127.0.0.1, with a password.
    """

    bin: Path
    folder: Path
    port: int

    def run(self, program: str, *arguments: str) -> str:
        """One of its programs, as the administrator."""
        argv = [str(self.bin / program), "-h", str(self.folder), "-p", str(self.port), "-U", "postgres", *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@contextmanager
def cluster(place: Path) -> Iterator[Cluster]:
    """Made, started, and removed with the block. PostgreSQL refuses to run as root: then another user runs it."""
    folder = Path(tempfile.mkdtemp(prefix="zoo-postgres-", dir="/tmp"))
    user = _user()
    other = ["runuser", "-u", user, "--"] if user else []
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    made = Cluster(place, folder, free_port())
    data, log = folder / "data", folder / "log"

    def control(*arguments: str) -> None:
        subprocess.run(
            [*other, str(place / "pg_ctl"), "-D", str(data), "-l", str(log), "-w", *arguments],
            check=True, cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    trust = ["--auth-local=trust", "--auth-host=scram-sha-256"]
    initdb = [*other, str(place / "initdb"), "-D", str(data), "-U", "postgres", "--no-sync", *trust]
    try:
        subprocess.run(initdb, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        control("-o", f"-p {made.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -F", "start")
        try:
            yield made
        finally:
            control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    """Who runs it where this is root."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)
