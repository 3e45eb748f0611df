"""Location of MLflow, and its errors in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ZooError

DEFAULT_URI = "sqlite:///mlflow.db"
CHAMPION = "champion"
"""Alias of the version of a registered model that answers where none is named."""
CHALLENGER = "challenger"
"""Alias of the newest version that is not the champion."""
_VARIABLE = "MLFLOW_TRACKING_URI"


def tracking_uri(chosen: str | None) -> str:
    """The URI of a recipe, else MLFLOW_TRACKING_URI, else a database file in the current folder.

    The path of a database file is made absolute: a run is found again from another folder.
    """
    uri = chosen or os.environ.get(_VARIABLE) or DEFAULT_URI
    relative = re.fullmatch(r"sqlite:///(?!/)(.+)", uri)
    return f"sqlite:///{Path(relative[1]).resolve()}" if relative else uri


def without_password(text: str) -> str:
    """The same text with what stands between :// and the last @ of a URI taken out: passwords hold / and @, too."""
    return re.sub(r"(password=)[^&\s]+", r"\1***", re.sub(r"://\S*@", "://***@", text))


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and what is below it raise into one line.

    Raises:
        ZooError: MLflow is not installed, the server does not answer, or it refuses.
    """
    # A server that is down shall be known to be so within seconds, not after MLflow's minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # drawn in logs and notebooks too
    import mlflow

    if mlflow.__file__ is None:  # the folder mlflow/ of a checkout, taken for a namespace package
        raise ZooError("MLflow is not installed; pip install mlflow")
    try:
        yield
    except ZooError:
        raise
    except Exception as error:  # of the client, the database driver, the artifact store: any kind
        reason = without_password((str(error).splitlines() or [""])[0][:200])
        words = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise ZooError(f"MLflow at {without_password(uri)} does not do what was asked ({words})") from error


@contextmanager
def using(uri: str) -> Iterator[None]:
    """MLflow's module-level functions talk to `uri`, and afterwards to what they talked to before.

    `set_tracking_uri` writes the environment variable as well, which would decide for the runs that follow.
    """
    import mlflow

    before, variable = mlflow.get_tracking_uri(), os.environ.get(_VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        if variable is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = variable
