"""The encoder `pretrained`: an encoder that `zoo pretrain` has trained as a potential, with its weights and its energy.

A recipe writes `encoder: {name: teanet, weights: FILE}`; an encoder that reads weights of its own (`sevennet`, `mace`,
`nequix`, `tensornet`) needs no such wrapper.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from pymatgen.core import Element
from torch import Tensor, nn

from zoo.config import plugins
from zoo.config.sections import Plugin
from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Features
from zoo.contract.plugin import Encoder, Hypers, Provides
from zoo.contract.potential import Potential
from zoo.contract.pretrained import PretrainedEncoder
from zoo.errors import ZooError, explain_validation
from zoo.storage.weights import ENERGY, Weights, identity, load_weights, read_metadata, weights_file

# Raise it whenever the same weights come to give other numbers: caches are then made anew.
VERSION = 1


class Trained(BaseModel):
    """Header of a file of `zoo pretrain` for an encoder that a `Potential` was put on."""

    model_config = ConfigDict(extra="ignore")

    settings: dict[str, Any]
    """Hyperparameters of the encoder that was trained."""
    width: PositiveInt
    """Width of the hidden layer of the `Potential`."""
    elements: tuple[str, ...]
    """Symbols of the elements that it was trained on."""


class PretrainedHypers(Hypers):
    """Encoder and its weights."""

    encoder: Plugin
    """Encoder that was trained; beside its name, settings that shall not be those of the training (layer)."""

    weights: str
    """The file potential.safetensors, the folder of its `zoo pretrain`, or models:/NAME@ALIAS."""

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            ZooError: there is none.
        """
        return weights_file(self.weights)

    @property
    def trained(self) -> Trained:
        """The header of the file.

        Raises:
            ZooError: there is no such file, or it is of another encoder.
        """
        path = self.path
        try:
            return Trained.model_validate(read_metadata(self.encoder.name, path))
        except ValidationError as error:
            raise ZooError(f"{explain_validation(error, Trained, str(path))}: it is not from zoo pretrain") from None

    def kind(self, as_trained: bool = False) -> tuple[type[Encoder], Hypers]:
        """The encoder's class and hyperparameters: those of the training, but for a `layer` that the recipe names.

        Raises:
            ZooError: the recipe names another value of another setting.
        """
        own, trained = {} if as_trained else self.encoder.settings, self.trained.settings
        kind: type[Encoder] = plugins.load("encoder", self.encoder.name)
        hypers = plugins.hypers("encoder", self.encoder.name, {**trained, **own})
        now = hypers.model_dump(mode="json")
        other = [key for key in own if key != "layer" and now.get(key) != trained.get(key)]
        if other:
            raise ZooError(
                f"{self.path} was trained with {other[0]}: {trained.get(other[0])}, not {now.get(other[0])}: leave the "
                "settings of the encoder out, but for a layer"
            )
        return kind, hypers


class Pretrained(PretrainedEncoder):
    """An encoder of the zoo that `zoo pretrain` has trained as a potential: its features, frozen, and its energy.

    It knows the elements that it was trained on.

    Raises:
        ZooError: there is no such file, it is of another encoder, or the settings do not fit the weights.
    """

    Hypers = PretrainedHypers

    hypers: PretrainedHypers

    def __init__(self, hypers: PretrainedHypers) -> None:
        trained = hypers.trained
        super().__init__(hypers, [Element(symbol).Z for symbol in trained.elements], str(hypers.path))
        kind, settings = hypers.kind()
        self.encoder = kind(settings)
        self.cutoff = self.encoder.cutoff
        # Of this encoder, not of the class.
        self.bonds_from_geometry = kind.bonds_from_geometry  # type: ignore[misc]
        load_into(self.encoder, load_weights(hypers.encoder.name, hypers.path), str(hypers.path))

    @classmethod
    def provides(cls, hypers: PretrainedHypers) -> Provides:
        """Features of the encoder, and an energy."""
        kind, settings = hypers.kind()
        given = kind.provides(settings)
        return Provides(given.atoms, given.bonds, energy=True)

    @classmethod
    def layers(cls, hypers: PretrainedHypers) -> int:
        """Delegated to the encoder."""
        kind, settings = hypers.kind()
        return kind.layers(settings)

    @classmethod
    def missing(cls, hypers: PretrainedHypers) -> str | None:
        """The weights, or what the encoder misses."""
        try:
            kind, settings = hypers.kind()
        except ZooError as error:
            return str(error)
        return kind.missing(settings)

    def fingerprint(self) -> str:
        """sha256 of the weights, the settings and the version of this encoder."""
        known = identity(self.hypers.encoder.name, self.hypers.path)
        settings = self.encoder.hypers.model_dump(mode="json")
        return hashlib.sha256(json.dumps([known, settings, VERSION], sort_keys=True).encode()).hexdigest()

    def energy_fingerprint(self) -> str:
        """sha256 of all numbers of the file and the version of this encoder."""
        known = load_weights(self.hypers.encoder.name, self.hypers.path).content()
        return hashlib.sha256(json.dumps([ENERGY, known, VERSION]).encode()).hexdigest()

    def make_energy_model(self) -> nn.Module:
        """The potential as it was trained, whatever layers are exposed."""
        kind, settings = self.hypers.kind(as_trained=True)
        potential = Potential(kind(settings), self.hypers.trained.width)
        path = self.hypers.path
        weights = load_weights(self.hypers.encoder.name, path)
        load_into(potential.encoder, weights, str(path))
        head = {k.removeprefix(f"{ENERGY}."): x for k, x in weights.tensors.items() if k.startswith(f"{ENERGY}.")}
        rest = {name: x for name, x in potential.state_dict().items() if name.startswith("encoder.")}
        potential.load_state_dict({**rest, **head}, strict=True)
        return _AtomicEnergies(potential)

    def weights_of(self, model: nn.Module) -> Weights:
        """Return the numbers of a potential that was tuned further."""
        assert isinstance(model, _AtomicEnergies)  # for the type checker
        before = self.hypers.trained
        return weights_of(model.potential, list(before.elements), before.settings)

    def bonds(self, batch: CrystalBatch) -> Features | None:
        """Delegated to the encoder."""
        return self.encoder.bonds(batch)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the encoder.

        Raises:
            ZooError: an element of the batch was not trained on.
        """
        self.species_of(batch)
        embedding: Embedding = self.encoder(batch)
        return embedding


class _AtomicEnergies(nn.Module):
    """A `Potential` as `PretrainedEncoder.energy` calls it; edges beyond the cutoff, where there are, do not count."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, species: Tensor, batch: CrystalBatch) -> Tensor:
        return self.potential.atomic_energies(batch.within(self.potential.encoder.cutoff))


def weights_of(potential: Potential, elements: list[str], settings: dict[str, Any]) -> Weights:
    """The numbers of a `Potential`, in float32, with all that `Pretrained` must know of it."""
    head = {
        f"{ENERGY}.{part}.{name}": x
        for part in ("reference", "atomic_energy")
        for name, x in potential.get_submodule(part).state_dict().items()
    }
    tensors = {**potential.encoder.state_dict(), **head}
    width = potential.atomic_energy[0].out_features
    metadata = {"settings": settings, "width": width, "elements": elements, ENERGY: {"width": width}}
    floats = {name: x.to(torch.float32) if x.is_floating_point() else x for name, x in tensors.items()}
    return Weights({name: x.detach().cpu() for name, x in floats.items()}, metadata)


def load_into(encoder: Encoder, weights: Weights, where: str) -> None:
    """Give an encoder its weights; what the file holds beyond them (of layers that are not built) stays out.

    Raises:
        ZooError: the file lacks some, or they have another shape.
    """
    own = encoder.state_dict()
    wrong = [name for name, x in own.items() if name not in weights.tensors or weights.tensors[name].shape != x.shape]
    if wrong:
        raise ZooError(
            f"{where} does not fit these settings of the encoder ({wrong[0]}): beside the weights name a layer at most"
        )
    encoder.load_state_dict({name: weights.tensors[name] for name in own}, strict=True)
