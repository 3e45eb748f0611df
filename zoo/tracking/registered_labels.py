"""Description and tags of a registered model and of its versions."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient

from zoo import __version__

_OF_MODEL = ("zoo.recipe", "zoo.target")
"""Tags that all versions of a model have in common."""
_EACH = "The description of each version has its errors and a link to its card."


def describe(
    client: MlflowClient, name: str, version: str, words: str, of_version: str, tags: Mapping[str, str]
) -> None:
    """Describe a version and, unless somebody has described it already, its model.

    Args:
        client: MLflow's.
        name: of the model.
        version: of the model.
        words: on the model, in Markdown.
        of_version: on the version, in Markdown.
        tags: of the version; the model has those that all versions have in common.
    """
    client.update_model_version(name, version, of_version)
    for key, value in {**tags, "zoo.version": __version__}.items():
        client.set_model_version_tag(name, version, key, value)
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, f"{words}\n\n{_EACH}".strip())
    for key in _OF_MODEL:
        if key in tags:
            client.set_registered_model_tag(name, key, tags[key])
