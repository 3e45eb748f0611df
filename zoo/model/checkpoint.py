"""Model folders: `model.json` and one safetensors file per member. Nothing in them is code or pickled.

A single model is an ensemble of one. The weights of a frozen encoder are not in it: they come with the encoder's
own package, and the fingerprint kept here says whether they are still the same.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from zoo import __version__
from zoo.config import plugins, recipe
from zoo.config.recipe import Recipe
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.evaluation.calibration import Calibration
from zoo.model import tensor_model
from zoo.model.card_shape import require_shape
from zoo.model.tensor_model import TensorModel
from zoo.storage import checksums

logger = logging.getLogger(__name__)

CARD = "model.json"

FORMAT_VERSION = 5
"""Version of the format that `save` writes.

2: encoder.trainable and encoder.learning_rate in the recipe, per_atom targets. 3: calibration; the training crystals
(`zoo.inference.novelty`) and predictions.csv beside the weights. 4: checksums.json (`zoo.storage.checksums`). 5: the
scale of a calibration (`zoo.evaluation.quantities`), which a reader of format 4 would take for a linear one."""


@dataclass(frozen=True)
class Member:
    """One trained model of a folder.

    Attributes:
        seed: seed of its initialisation and of the order of its batches.
        split_seed: seed of the split that it was trained on.
        val_mae_ten: its lowest validation error.
    """

    seed: int
    split_seed: int
    val_mae_ten: float


@dataclass(frozen=True)
class Card:
    """Content of `model.json`.

    Attributes:
        recipe: the resolved recipe.
        target: the tensor that is predicted.
        members: one for each weights file.
        elements: atomic numbers that occur in the training part.
        seen: keys of the crystals that training and validation saw, of all members.
        seen_auxiliary: for each of the recipe's auxiliary datasets keys of the crystals that training saw. Empty in a
            folder of an earlier zoo.
        encoder_fingerprint: fingerprint of a frozen encoder, else None.
        versions: kind of plugin -> name and distribution; and the zoo's own version.
        metrics: `metrics.json` of the run, as far as it was known.
        calibrations: calibration of an ensemble's spread by the name of the tensor (each part of a joint target has
            its own); empty for a single model.
        potential_fingerprint: of the energy whose force constants the readout was trained with, else None.
        levels: by level of theory the number of crystals that it was trained on, of all sources; those of the recipe's
            dataset come first. Empty in a folder of an earlier zoo.
        labels: by name of each label beside the tensors that it was trained on, the number of them.
        format_version: version of the format of the folder.
    """

    recipe: Recipe
    target: TensorTarget
    members: tuple[Member, ...]
    elements: tuple[int, ...]
    seen: tuple[str, ...]
    encoder_fingerprint: str | None
    versions: Mapping[str, str]
    metrics: Mapping[str, Any]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    potential_fingerprint: str | None = None
    levels: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    seen_auxiliary: tuple[tuple[str, ...], ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the target, or of the main part of a joint one."""
        return self.calibrations.get(self.target.main.name)


def save(folder: Path, card: Card, weights: Sequence[Mapping[str, Tensor]]) -> None:
    """Write the members' learned state (`TensorModel.learned().state_dict()`) and the card into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, state in enumerate(weights):
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
        # Not save_file, which lets nobody else read what it writes.
        (folder / _weights(index)).write_bytes(save_tensors(tensors))
    content = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe.resolved(card.recipe),
        "target": dataclasses.asdict(card.target),
        "members": [dataclasses.asdict(member) for member in card.members],
        "elements": list(card.elements),
        "seen": list(card.seen),
        "encoder_fingerprint": card.encoder_fingerprint,
        "versions": {"zoo": __version__, **card.versions},
        "metrics": dict(card.metrics),
        "calibration": None if card.calibration is None else card.calibration.as_dict(),
        "calibrations": {
            name: one.as_dict() for name, one in card.calibrations.items() if name != card.target.main.name
        },
        "potential_fingerprint": card.potential_fingerprint,
        "levels": dict(card.levels),
        "labels": dict(card.labels),
        "seen_auxiliary": [list(keys) for keys in card.seen_auxiliary],
    }
    (folder / CARD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    checksums.seal(folder, [CARD, *map(_weights, range(len(weights)))])


def read_card(folder: Path) -> Card:
    """Read the card of a model folder.

    Raises:
        ZooError: there is none, or a newer version of the zoo wrote it.
    """
    path = folder / CARD
    if not path.is_file():
        raise ZooError(f"{folder} holds no model: there is no {CARD}")
    checksums.verify(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ZooError(f"{path} is no valid JSON") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ZooError(f"{path} does not name a format version from 1 on: it is damaged, or not the zoo's")
    if version > FORMAT_VERSION:
        versions = content.get("versions")
        wrote = str(versions.get("zoo") if isinstance(versions, dict) else "a newer version")[:40]
        raise ZooError(
            f"{folder} has format version {version}, this zoo reads up to {FORMAT_VERSION}; "
            f"pip install -U crystal-tensor-zoo (it was written by {wrote})"
        )
    require_shape(content, str(path))
    try:
        target = TensorTarget(**content["target"])
        if not content["members"]:
            raise ValueError("it has no members")
        return Card(
            recipe=recipe.parse(content["recipe"], str(path)),
            target=target,
            members=tuple(Member(**member) for member in content["members"]),
            elements=tuple(content["elements"]),
            seen=tuple(content["seen"]),
            encoder_fingerprint=content["encoder_fingerprint"],
            versions=content["versions"],
            metrics=content["metrics"],
            calibrations=_calibrations(content, target),
            potential_fingerprint=content.get("potential_fingerprint"),
            levels=_counts(content.get("levels", {})),
            labels=_counts(content.get("labels", {})),
            seen_auxiliary=tuple(tuple(map(str, keys)) for keys in content.get("seen_auxiliary", ())),
            format_version=version,
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ZooError(f"{path} is damaged: {repr(error)[:300]}") from None


def _counts(content: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in content.items()}


def _calibrations(content: Mapping[str, Any], target: TensorTarget) -> dict[str, Calibration]:
    """By the name of the tensor; that of the main one has had a key of its own since format 3."""
    each = {part.name: part for part in target.parts or (target,)}
    found = dict(content.get("calibrations", {}))
    if content.get("calibration") is not None:
        found[target.main.name] = content["calibration"]
    return {name: Calibration.from_dict(one, each[name]) for name, one in found.items()}


def load(folder: Path) -> tuple[Card, list[TensorModel]]:
    """Load the card and its members, in eval mode, sharing one frozen encoder.

    Raises:
        ZooError: as `read_card`; a plugin that is not installed; weights that do not fit; a frozen encoder whose
            weights are not those that the model was trained with.
    """
    card = read_card(folder)
    if not (folder / checksums.NAME).is_file():
        logger.warning("%s has no checksums: damage of its files would not be seen", folder)
    config = card.recipe
    for kind in ("encoder", "readout"):
        if config.plugins[kind] not in plugins.available(kind):
            raise ZooError(
                f"{folder} needs the {kind} '{config.plugins[kind]}', which is not installed: "
                f"it was {card.versions.get(kind, 'of an unknown package')}"
            )
    models: list[TensorModel] = []
    for index in range(len(card.members)):
        member = tensor_model.build(config.encoder, config.readout, card.target, config.force_constants.potential)
        if models and member.frozen:
            member.encoder = models[0].encoder
        _restore(member, folder / _weights(index))
        member.knows_charges = bool(card.labels.get("born"))
        models.append(member.eval())
    encoder = models[0].encoder
    if models[0].frozen and encoder.fingerprint() != card.encoder_fingerprint:
        raise ZooError(
            f"{folder} was trained on other weights of '{config.encoder.name}' than are installed; "
            f"install {card.versions.get('encoder', 'the version that it was trained with')}"
        )
    return card, models


def _restore(member: TensorModel, path: Path) -> None:
    checksums.verify(path)
    try:
        member.learned().load_state_dict(load_file(path), strict=True)
    except FileNotFoundError:
        raise ZooError(f"{path} is missing") from None
    except SafetensorError as error:
        raise ZooError(f"{path} is damaged: {error}") from None
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ZooError(f"{path} does not fit the installed plugins: {first}") from None


def _weights(index: int) -> str:
    return f"member_{index}.safetensors"
