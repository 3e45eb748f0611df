"""Shortcuts for tests around slow steps that they do not test: SQLite's sync, MLflow's migrations, large figures.

For what runs in the tests' own process. The commands that tests start as processes of their own go the whole way.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

DATABASE = "mlflow.db"  # as `zoo.registry.connect.DEFAULT_URI` calls it


def quick_databases(place: Path) -> contextlib.AbstractContextManager[Any]:
    """SQLite does not wait for the disk, and a new mlflow.db is a copy of one that MLflow has made in `place`.

    MLflow makes one in some seventy migrations, with a commit for each table that they touch.
    """
    connect = sqlite3.dbapi2.connect

    @functools.cache
    def template() -> Path:
        from mlflow.store.db.utils import _initialize_tables
        from sqlalchemy import create_engine

        engine = create_engine(f"sqlite:///{place / 'template.db'}")
        _initialize_tables(engine)
        engine.dispose()
        return place / "template.db"

    def quickly(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        path = Path(os.fsdecode(database))
        if path.name == DATABASE and path.parent.is_dir() and not path.exists():
            copy = Path(tempfile.mkdtemp(dir=place)) / DATABASE
            shutil.copyfile(template(), copy)
            with contextlib.suppress(FileExistsError):  # another process was quicker
                os.link(copy, path)
        connection: sqlite3.Connection = connect(database, *arguments, **options)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    return mock.patch.object(sqlite3.dbapi2, "connect", quickly)


def small_pictures() -> contextlib.AbstractContextManager[Any]:
    """A third of the pixels: the same is drawn, and read, by the same code. tests/test_plots.py draws in full."""
    from zoo.report import plots

    return mock.patch.dict(plots.STYLE, {"figure.dpi": 120})


def no_pictures() -> contextlib.AbstractContextManager[Any]:
    """Figures are made, but what is written of each is one pixel."""
    from matplotlib.figure import Figure
    from PIL import Image

    return mock.patch.object(Figure, "savefig", lambda _, path, **__: Image.new("RGB", (1, 1)).save(path, "PNG"))
