"""MLflow's scoring server for one model folder, with request validation before it, in a process of our own."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import mlflow
from fastapi import FastAPI
from mlflow.pyfunc import PyFuncModel, scoring_server

from zoo.model import checkpoint
from zoo.tracking import served_model
from zoo.tracking.request_validation import WORKER_SETTINGS, Limits, RequestValidation
from zoo.tracking.send import requirements


def scoring_app(folder: Path, limits: Limits) -> FastAPI:
    """MLflow's FastAPI app for a model folder; it refuses bad requests with a 4xx and one sentence.

    Args:
        folder: the model folder of a run or of a registered model. Nothing reads it any more once this has returned.
        limits: largest crystals, requests and bodies that are answered.

    Raises:
        ZooError: the model cannot be loaded.
    """
    app: FastAPI = scoring_server.init(_loaded(folder, limits))
    app.add_middleware(RequestValidation, limits=limits)
    return app


def _loaded(folder: Path, limits: Limits) -> PyFuncModel:
    """The model as MLflow would load it from its registry: the same code, signature and options."""
    with tempfile.TemporaryDirectory(prefix="zoo-serve-") as place:
        path = f"{place}/model"
        mlflow.pyfunc.save_model(
            path=path,
            python_model=str(Path(served_model.__file__)),
            artifacts={"model": str(folder)},
            pip_requirements=requirements(checkpoint.read_card(folder).recipe),
            **served_model.LOGGED,
        )
        return mlflow.pyfunc.load_model(path, model_config=asdict(limits))


def worker_app() -> FastAPI:
    """The app of one of several worker processes, from the environment variable `ZOO_SERVE`.

    The worker ends when the process that started it is gone, however that ended.
    """
    settings = json.loads(os.environ[WORKER_SETTINGS])
    # Not getppid: the parent may be gone by the time that this is read.
    threading.Thread(target=_end_with, args=(settings["parent"],), daemon=True).start()
    return scoring_app(Path(settings["folder"]), Limits(**settings["limits"]))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)  # in order: a model that is being loaded lies in a temporary folder
    time.sleep(10)
    os._exit(1)
