"""The store behind a tracking URI: a new database is made whole or not at all, and a broken one is told early."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from zoo.errors import ZooError
from zoo.registry.connect import mlflow_errors, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWER = 10.0
"""Seconds in which a store must answer; MLflow itself would try for minutes."""


READ_WHOLE = 256 << 20
"""Bytes of a database that is read as a whole to see whether it is damaged."""

_ready: set[str] = set()


def client_of(uri: str) -> MlflowClient:
    """A client of a store that is ready.

    Raises:
        ZooError: as `make_ready`.
    """
    make_ready(uri)
    with mlflow_errors(uri):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri)


def make_ready(uri: str) -> None:
    """Check that MLflow can work at a tracking URI; make its database where it is a file that is not there yet.

    A database that MLflow was making when it was killed is broken for ever. Here it is made under another name, by one
    process at a time, and renamed.

    Raises:
        ZooError: the store does not answer, is locked or damaged, or cannot be made; the line says what to do.
    """
    if uri in _ready:
        return
    path = database_of(uri)
    if path is None:
        _within(ANSWER, uri, lambda: _ask(uri))
    else:
        if not path.exists():
            _make(uri, path)
        why = _why_unfit(path)
        if why is not None:
            raise ZooError(f"MLflow's database {path} {why}")
    _ready.add(uri)


def database_of(uri: str) -> Path | None:
    """The file of an SQLite database; None for another store."""
    found = re.fullmatch(r"sqlite:///([^?]+)", uri)
    return Path(found[1]) if found else None


def _make(uri: str, path: Path) -> None:
    lock = path.with_name(f".{path.name}.lock")
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=60):
            if path.exists():
                return
            partial.unlink(missing_ok=True)
            with _quiet_migrations(), mlflow_errors(uri):
                _fill(f"sqlite:///{partial}")
            partial.replace(path)
    except Timeout:
        raise ZooError(f"another process has been making {path} for a minute; delete {lock} if none does") from None
    except OSError as error:
        raise ZooError(f"MLflow's database {path} cannot be made ({error.strerror}): choose another uri") from None


def _fill(uri: str) -> None:
    """Let MLflow make its tables, and close the file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(uri, "./mlruns")
    store.engine.dispose()


@contextmanager
def _quiet_migrations() -> Iterator[None]:
    """Keep two hundred lines of a database's history off the screen."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.db")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _why_unfit(path: Path) -> str | None:
    """Say why a file cannot serve as MLflow's database, and what to do; None where it can."""
    spoilt = "delete it (with its runs, unless you have a copy), or choose another tracking.uri"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5)) as base:
            base.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            small = path.stat().st_size <= READ_WHOLE
            damage = base.execute("PRAGMA quick_check(1)").fetchone()[0] if small else "ok"
            base.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return "is locked by another process: end it, or wait for it"
        return f"cannot be opened ({error}): see to its permissions and the disk, or choose another tracking.uri"
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error}): {spoilt}"
    if damage != "ok":
        return f"is damaged ({' '.join(str(damage).split())[:100]}): {spoilt}"
    if not {"alembic_version", "experiments", "runs", "registered_models"} <= tables:
        return f"is not MLflow's, or was not made to its end: {spoilt}"
    return None


def _ask(uri: str) -> None:
    """Ask something small of a store that is no file."""
    if uri.startswith(("http://", "https://")):
        import requests

        requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER)
    elif "://" in uri and not uri.startswith(("file:", "databricks")):
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri)
        with engine.connect():
            pass
        engine.dispose()


def _within(seconds: float, uri: str, ask: Callable[[], None]) -> None:
    """Ask in a thread, which is left behind if it takes longer."""
    errors: list[BaseException] = []

    def inner() -> None:
        try:
            ask()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=inner, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise ZooError(f"MLflow at {without_password(uri)} does not answer within {seconds:.0f} s")
    if errors:
        with mlflow_errors(uri):
            raise errors[0]
