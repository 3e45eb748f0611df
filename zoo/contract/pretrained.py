"""Common parts of encoders with trained weights: elements that they know, choice of layers, files of `zoo convert`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import BaseModel, StrictInt, ValidationError, field_validator
from pymatgen.core import Element
from torch import Tensor, nn

from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder, Hypers
from zoo.errors import ZooError, explain_validation
from zoo.storage.weights import (
    ENERGY,
    SUFFIX,
    PublicWeights,
    Weights,
    default_path,
    identity,
    load_weights,
    locate_weights,
    names_file,
    read_metadata,
)

Described = TypeVar("Described", bound=BaseModel)


def choose_layers(layer: int | Sequence[int], last: int) -> list[int]:
    """The layers L_n that a recipe asks for by one number or several, ascending.

    Raises:
        ValueError: there is none, one twice, or one that is not among 1 to `last`.
    """
    layers = [layer] if isinstance(layer, int) else list(layer)
    if not layers or len(set(layers)) < len(layers) or not all(1 <= n <= last for n in layers):
        raise ValueError(f"layer is a number from 1 to {last}, or a list of different ones")
    return sorted(layers)


class PretrainedEncoder(Encoder):
    """An encoder whose weights came trained, for some elements alone.

    Args:
        hypers: the hyperparameters.
        elements: atomic numbers, in the order of the weights.
        weights: what the weights are called, for errors.

    Attributes:
        species: (119,) from an atomic number to its place among the elements; -1 where it is not among them.
    """

    pretrained = True
    species: Tensor

    def __init__(self, hypers: Any, elements: Sequence[int], weights: str) -> None:
        super().__init__(hypers)
        self._weights = weights
        species = torch.full((119,), -1)
        species[list(elements)] = torch.arange(len(elements))
        self.register_buffer("species", species)
        # No submodule, so that it is in no checkpoint and no optimiser: a tuple is not looked into.
        self._energy_model: tuple[nn.Module, ...] = ()

    def elements(self) -> frozenset[int]:
        """Return the atomic numbers for which the weights were trained."""
        return frozenset((self.species >= 0).nonzero().flatten().tolist())

    def species_of(self, batch: CrystalBatch) -> Tensor:
        """(N,) place of each atom's element.

        Raises:
            ZooError: an element of the batch is unknown.
        """
        species = self.species[batch.numbers]
        if (species < 0).any():
            unknown = ", ".join(Element.from_Z(z).symbol for z in batch.numbers[species < 0].unique().tolist())
            raise ZooError(f"{self._weights} does not know {unknown}: leave out the crystals that hold it")
        return species

    def make_energy_model(self) -> nn.Module:
        """The potential, all layers and the head, in the precision of the weights: species (N,), batch -> (N,) eV.

        To be overridden by an encoder that provides an energy.

        Raises:
            ZooError: there is none; the line says why.
        """
        raise TypeError(f"{type(self).__name__} has no energy")

    def energy_model(self) -> nn.Module:
        """The potential, frozen, where the encoder is and in its precision; it is made when first asked for.

        It is a module of its own beside the features, so that neither an encoder's state nor what it computes depends
        on whether an energy was asked for, and the energy is that of the weights as they came, whatever the encoder
        itself learns where a recipe fine-tunes it.

        Raises:
            ZooError: as `make_energy_model`.
        """
        here = next(self.parameters())
        if not self._energy_model or next(self._energy_model[0].parameters()).dtype != here.dtype:
            # Neither the random numbers of a training nor an inference_mode around the first call shall matter.
            with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
                self._energy_model = (self.make_energy_model().to(here).requires_grad_(False).eval(),)
        return self._energy_model[0].to(here.device)

    def weights_of(self, model: nn.Module) -> Weights:
        """An energy model that began as this encoder's, as a file of weights that the encoder can read has it.

        To be overridden by an encoder whose potential `zoo pretrain` can tune.
        """
        raise TypeError(f"{type(self).__name__} has no file for a tuned potential")

    def atomic_energies(self, batch: CrystalBatch) -> Tensor | None:
        """(N,) eV, the parts of the atoms in the energy that the weights were trained for; see `energy_model`.

        Raises:
            ZooError: an element of the batch is unknown, or the weights hold no energy.
        """
        if type(self).energy is not PretrainedEncoder.energy:  # a plugin with an energy of its own making
            return None
        return self._energy_parts(batch)

    def _energy_parts(self, batch: CrystalBatch) -> Tensor:
        atomic: Tensor = self.energy_model()(self.species_of(batch), batch)
        return atomic

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV, the sums of `atomic_energies`.

        Raises:
            ZooError: an element of the batch is unknown, or the weights hold no energy.
        """
        return batch.sum_over_atoms(self._energy_parts(batch))


class ConvertedHypers(Hypers):
    """Hyperparameters of a `ConvertedEncoder`: which weights, and which of their layers.

    Class attributes:
        encoder: the name that the encoder is registered under.
        public: published weights, by the name that a recipe gives them.
        package: what there is to say of the package that the weights come from, where they are not here.
    """

    encoder: ClassVar[str]
    public: ClassVar[Mapping[str, PublicWeights]]
    package: ClassVar[str]

    weights: str
    """The name of published weights, or a file of `zoo convert` (*.safetensors)."""

    layer: StrictInt | tuple[StrictInt, ...]
    """The layer L_n whose features are given, from 1, or a list of layers whose features are concatenated."""

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: str) -> str:
        if weights not in cls.public and not names_file(weights):
            raise ValueError(f"weights is one of {', '.join(cls.public)}, or a file *{SUFFIX}")
        return weights

    def file(self) -> Path:
        """The converted weights.

        Raises:
            ZooError: they are not here; the line says how to get them.
        """
        return locate_weights(self.encoder, self.weights, self.public, self.package)

    def described(self, model: type[Described]) -> Described | None:
        """The header of the file, as a model of the plugin's own; None for public weights that are not here yet.

        Raises:
            ZooError: a file is named that does not exist, or its header is not of such a model.
        """
        path = default_path(self.encoder, self.weights) if self.weights in self.public else self.file()
        if not path.is_file():
            return None
        metadata = read_metadata(self.encoder, path)
        reason = self.outdated(metadata)
        if reason is not None:
            raise ZooError(f"{path} {reason}: convert it anew with zoo convert {self.encoder} FILE")
        try:
            return model.model_validate(metadata)
        except ValidationError as error:
            raise ZooError(f"{explain_validation(error, model, str(path))}: convert it anew") from None

    @classmethod
    def outdated(cls, metadata: Mapping[str, Any]) -> str | None:
        """Why a file with this header, made by an earlier version, must not be used; None where it may."""
        return None

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors of the features by name.

        Raises:
            ZooError: the weights are not here, or the file is of something else.
        """
        found = load_weights(self.encoder, self.file()).tensors
        return {name: tensor for name, tensor in found.items() if not name.startswith(f"{ENERGY}.")}

    def energy_tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors of the energy by name, without the prefix `energy.`.

        Raises:
            ZooError: the weights are not here, or they hold no energy.
        """
        reason = self.without_energy()
        if reason is not None:
            raise ZooError(reason)
        found = load_weights(self.encoder, self.file()).tensors
        return {name.removeprefix(f"{ENERGY}."): x for name, x in found.items() if name.startswith(f"{ENERGY}.")}

    def without_energy(self) -> str | None:
        """Why the weights hold no energy, in one line; None where they do, as public ones will that are not here yet.

        Raises:
            ZooError: as `described`.
        """
        path = default_path(self.encoder, self.weights) if self.weights in self.public else self.file()
        if not path.is_file():
            return None
        found = read_metadata(self.encoder, path).get(ENERGY)
        if found is None:
            return f"{path} was converted before there were energies, and holds its features alone: convert it anew"
        return f"{path} holds no energy: {found}" if isinstance(found, str) else None

    def chosen(self, last: int) -> list[int]:
        """The layers asked for, ascending, of a model with `last` layers.

        Raises:
            ZooError: it has no such layer.
        """
        try:
            return choose_layers(self.layer, last)
        except ValueError as error:
            raise ZooError(f"encoder '{self.encoder}': {error}, got {self.layer}") from None


class ConvertedEncoder(PretrainedEncoder):
    """An encoder on weights that another package has trained and `zoo convert` has brought here.

    Attributes:
        path: of the converted file.
    """

    def __init__(self, hypers: ConvertedHypers, elements: Sequence[int]) -> None:
        super().__init__(hypers, elements, hypers.weights)
        self.path = hypers.file()

    @classmethod
    def missing(cls, hypers: ConvertedHypers) -> str | None:
        """The converted weights."""
        try:
            hypers.file()
        except ZooError as error:
            return str(error)
        return None

    def features_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Tensors of the features in an energy model, by their names in a file of weights; the head is `model.head`."""
        assert isinstance(model.network, nn.Module)  # so energy models are made
        return model.network.state_dict()

    def weights_of(self, model: nn.Module) -> Weights:
        """The file that the encoder was read from, with the numbers of the model, in the file's precision."""
        there = load_weights(self.hypers.encoder, self.path)
        assert isinstance(model.head, nn.Module)
        new = {**self.features_of(model), **{f"{ENERGY}.{k}": x for k, x in model.head.state_dict().items()}}
        return Weights(
            {name: new[name].detach().cpu().to(x.dtype) for name, x in there.tensors.items()}, there.metadata
        )

    def fingerprint_with(self, *choice: object) -> str:
        """sha256 of the weights and of what is chosen of them, JSON values; the plugin's version belongs to these.

        Raises:
            ZooError: the file is damaged.
        """
        known = identity(self.hypers.encoder, self.path)
        return hashlib.sha256(json.dumps([known, *choice]).encode()).hexdigest()

    def energy_fingerprint_with(self, *choice: object) -> str:
        """The same of all numbers of the file, those of the energy among them."""
        known = load_weights(self.hypers.encoder, self.path).content()
        return hashlib.sha256(json.dumps([ENERGY, known, *choice]).encode()).hexdigest()
