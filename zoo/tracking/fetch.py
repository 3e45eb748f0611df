"""From what a user calls a model to the folder that holds it."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import ZooError, did_you_mean
from zoo.tracking.connect import mlflow_errors, tracking_uri, using, without_password


def model_folder_of(name: str) -> Path:
    """The model folder of a run folder, a model folder, a registered name (its champion), or an MLflow URI.

    Raises:
        ZooError: there is none, or MLflow cannot be reached.
    """
    path = Path(name)
    if path.is_dir():
        if (path / "model.json").is_file():
            return path
        if (path / "model" / "model.json").is_file():
            return path / "model"
        if (path / "recipe.yaml").is_file():
            raise ZooError(f"{path} holds no trained model yet; zoo run --resume {path}")
        raise ZooError(f"{path} is neither a run folder nor a model folder")
    if "/" in name and ":" not in name:
        raise ZooError(f"there is no folder {name}")
    uri = tracking_uri(None)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise ZooError(
            f"no folder '{name}', and no registry to look for it in: {uri} does not exist; "
            "train one first (zoo run dtnet_total) or set MLFLOW_TRACKING_URI"
        )
    with mlflow_errors(uri):
        import mlflow

        place = name if ":" in name else f"models:/{name}@champion"
        with using(uri):
            try:
                folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=place))
            except mlflow.MlflowException as error:
                if ":" in name or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                known = [model.name for model in mlflow.MlflowClient().search_registered_models()]
                where = without_password(uri)
                raise ZooError(
                    f"no folder and no model in {where} is called '{name}'.{did_you_mean(name, known)}"
                ) from None
    found = sorted(folder.rglob("model.json"))
    if not found:
        raise ZooError(f"{name} is no model of the zoo: it holds no model.json")
    return found[0].parent
