"""Resolution of the argument ENCODER: a plugin with trained weights, or the encoder of a trained model."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.config import plugins
from zoo.config.recipe import Plugin, parse_override
from zoo.contract.plugin import Encoder
from zoo.errors import ZooError, did_you_mean
from zoo.model import checkpoint
from zoo.model.checkpoint import Card
from zoo.model.tensor_model import TensorModel
from zoo.registry.connect import without_password
from zoo.registry.fetch import model_folder_of
from zoo.storage.cache import content_key


@dataclass(frozen=True)
class TrainedEncoder:
    """Encoder with trained weights, and their origin.

    Attributes:
        encoder: encoder in eval mode, on the CPU.
        description: plain JSON values for the readers of its features: name, settings, package, fingerprint, model, ...
    """

    encoder: Encoder
    description: dict[str, Any]


def trained_encoder(name: str, settings: Sequence[str] = ()) -> TrainedEncoder:
    """Load the encoder of a plugin, of a run folder, of a registered model or of an MLflow URI.

    Args:
        name: name of a plugin, which comes first (a folder of the same name is `./NAME`), or of a model.
        settings: hyperparameters of a plugin as `key=value`.

    Raises:
        ZooError: there is no such encoder, its weights are not trained or not available, or a setting is wrong.
    """
    if name in plugins.available("encoder"):
        return _of_plugin(name, encoder_settings(settings))
    if settings:
        raise ZooError(f"--set is for encoder plugins (zoo list); '{name}' is a model, which has its settings")
    try:
        folder = model_folder_of(name)
    except ZooError as error:
        known = plugins.available("encoder")
        if Path(name).exists() or "/" in name or ":" in name:
            raise
        if difflib.get_close_matches(name, known, n=1):
            raise ZooError(f"there is no encoder '{name}'.{did_you_mean(name, known)} (zoo list)") from None
        raise ZooError(f"'{name}' is no encoder ({', '.join(known)}) and no trained model: {error}") from None
    card, members = checkpoint.load(folder)
    return _of_model(name, card, members)


def encoder_settings(given: Sequence[str]) -> dict[str, Any]:
    """Parse the values of `--set`, by key.

    Raises:
        ZooError: one is not written as key=value, or a key is given twice.
    """
    settings: dict[str, Any] = {}
    for each in given:
        key, equals, _ = each.partition("=")
        if not key or not equals:
            raise ZooError(f"--set {each}: write key=value, as in --set layer=3")
        if key in settings:
            raise ZooError(f"--set {key} is given twice")
        settings[key] = parse_override(each)[1]
    return settings


def _of_plugin(name: str, settings: dict[str, Any]) -> TrainedEncoder:
    choice = Plugin(**{**settings, "name": name})  # with weights of zoo pretrain it is another plugin
    name, settings = choice.name, choice.settings
    kind = plugins.load("encoder", name)
    hypers = plugins.hypers("encoder", name, settings)
    if not kind.pretrained:
        raise ZooError(
            f"the encoder '{name}' starts at random, so its features mean nothing: train a model with it "
            "(zoo run, recipes: zoo recipes) and name that: zoo embed RUN_DIR FILE..."
        )
    encoder = kind(hypers).eval()
    return TrainedEncoder(encoder, {"encoder": _description(name, encoder, encoder.fingerprint()), "model": None})


def _of_model(name: str, card: Card, members: Sequence[TensorModel]) -> TrainedEncoder:
    first = members[0]
    encoder = first.encoder.eval()
    state = encoder.state_dict()
    fingerprint = (
        encoder.fingerprint()
        if first.frozen
        else content_key({key: value.detach().cpu().numpy() for key, value in state.items()})
    )
    model = {
        "name": without_password(name),
        "recipe": card.recipe.name,
        "target": card.target.name,
        "members": len(members),
        "member": None if first.frozen else 0,
        "trained": not first.frozen,
    }
    return TrainedEncoder(
        encoder, {"encoder": _description(card.recipe.encoder.name, encoder, fingerprint), "model": model}
    )


def _description(name: str, encoder: Encoder, fingerprint: str) -> dict[str, Any]:
    return {
        "name": name,
        "settings": encoder.hypers.model_dump(mode="json"),
        "package": plugins.origin(plugins.available("encoder")[name]),
        "fingerprint": fingerprint,
        "cutoff": encoder.cutoff,
    }
