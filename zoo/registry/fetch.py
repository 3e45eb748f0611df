"""From what a user calls a model to the folder that holds it."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from zoo.errors import ZooError, did_you_mean
from zoo.registry import box
from zoo.registry.connect import CHAMPION, mlflow_errors, tracking_uri, using, without_password
from zoo.registry.tracking_store import make_ready

UNFINISHED = {"recipe.yaml": "run", "refit.yaml": "refit"}
"""The file that a folder begins with -> the command that makes a model in it."""


def model_folder_of(name: str) -> Path:
    """The model folder of a run folder, a model folder, a model in the box, a registered name, or an MLflow URI.

    Of a registered model the champion answers.

    Raises:
        ZooError: there is none, or MLflow cannot be reached.
    """
    path = Path(name)
    in_the_box = box.folder_of(name)
    if in_the_box is not None:
        return in_the_box
    if path.is_dir():
        if (path / "model.json").is_file():
            return path
        if (path / "model" / "model.json").is_file():
            return path / "model"
        for recipe, command in UNFINISHED.items():
            if (path / recipe).is_file():
                raise ZooError(f"{path} holds no trained model yet; zoo {command} --resume {path}")
        raise ZooError(f"{path} is neither a run folder nor a model folder")
    if "/" in name and ":" not in name:
        raise ZooError(f"there is no folder {name}")
    uri = tracking_uri(None)
    refuse_missing_registry(uri, f"no folder '{name}', and no registry to look for it in")
    return downloaded(name if ":" in name else f"models:/{name}@{CHAMPION}", uri, name)


def names_a_model(text: str) -> bool:
    """Whether the first of several arguments can only be a model, so that it is no crystal's file or dataset.

    A folder is a model's if it holds one; what is no file and has no suffix is a registered name.
    """
    path = Path(text)
    if box.folder_of(text) is not None or re.match(r"[a-z-]+:/", text):
        return True
    if path.is_dir():
        marks = ("model.json", "model/model.json", *UNFINISHED)
        return any((path / mark).is_file() for mark in marks)
    return re.fullmatch(r"[\w-]+", text) is not None and not path.exists() and text != "-"


def refuse_missing_registry(uri: str, what: str) -> None:
    """Check that a database file exists: MLflow would make an empty one.

    Raises:
        ZooError: it is not; the line begins with `what`.
    """
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise ZooError(
            f"{what}: {uri} does not exist; train one first (zoo run dtnet_total), set MLFLOW_TRACKING_URI, or take "
            f"what comes with the zoo ({', '.join(box.names())})"
        )


def downloaded(place: str, uri: str, name: str) -> Path:
    """The model folder behind an MLflow URI, `place`, as a copy that is gone when the process ends.

    Args and errors as those of `artifacts_of`.
    """
    found = sorted(artifacts_of(place, uri, name).rglob("model.json"))
    if not found:
        raise ZooError(f"{name} is no model of the zoo: it holds no model.json")
    return found[0].parent


def artifacts_of(place: str, uri: str, name: str) -> Path:
    """The files behind an MLflow URI, `place`, in a copy that is gone when the process ends.

    Args:
        place: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/...`, ...
        uri: of the tracking server.
        name: what the user called the model, for errors.

    Raises:
        ZooError: there is none, or MLflow cannot be reached.
    """
    make_ready(uri)
    with mlflow_errors(uri):
        import mlflow

        with using(uri):
            copy = tempfile.mkdtemp(prefix="zoo-model-")
            atexit.register(shutil.rmtree, copy, ignore_errors=True)
            try:
                folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=place, dst_path=copy))
            except mlflow.MlflowException as error:
                # The latter for an alias that is not set.
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                if ":" not in name:
                    raise unknown_model(name, uri) from None
                if re.fullmatch(r"models:/[^/@]+", name):
                    raise ZooError(f"{name} names no version: {name}@champion, or {name}/1") from None
                raise
    return folder


def unknown_model(name: str, uri: str) -> ZooError:
    """Make the error that no registered model has this name, or that it has no champion, with the nearest name."""
    import mlflow

    known = [model.name for model in mlflow.MlflowClient(uri).search_registered_models(max_results=1000)]
    if name in known:
        return ZooError(
            f"'{name}' has no champion: name a version, as in models:/{name}/1, or make one the champion: "
            f"zoo promote {name} --version 1"
        )
    nearest = did_you_mean(name, [*known, *box.names()])
    return ZooError(f"no folder and no model in {without_password(uri)} is called '{name}'.{nearest}")
