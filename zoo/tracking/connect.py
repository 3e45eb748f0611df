"""A client of the tracking server, and its errors in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.errors import ZooError

DEFAULT_URI = "sqlite:///mlflow.db"


def tracking_uri(chosen: str | None) -> str:
    """The URI of a recipe, else MLFLOW_TRACKING_URI, else a database file in the current folder."""
    return chosen or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and what is below it raise into one line.

    Raises:
        ZooError: MLflow is not installed, the server does not answer, or it refuses.
    """
    # A server that is down shall be known to be so within seconds, not after MLflow's minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        import mlflow

        if mlflow.__file__ is None:  # the folder mlflow/ of a checkout, taken for a namespace package
            raise ZooError("MLflow is not installed; pip install mlflow")
        import requests
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise ZooError(f"MLflow cannot be imported ({error}); pip install mlflow") from error
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, ConnectionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ZooError(f"MLflow at {uri} does not do what was asked ({type(error).__name__}: {reason})") from error
