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
from torch import Tensor

from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder, Hypers
from zoo.errors import ZooError, explain_validation
from zoo.storage.weights import (
    SUFFIX,
    PublicWeights,
    default_path,
    load_weights,
    locate_weights,
    read_metadata,
    sha256_of,
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
        if weights not in cls.public and not weights.endswith(SUFFIX):
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
        try:
            return model.model_validate(read_metadata(self.encoder, path))
        except ValidationError as error:
            raise ZooError(f"{explain_validation(error, model, str(path))}: convert it anew") from None

    def tensors(self) -> Mapping[str, Tensor]:
        """By name.

        Raises:
            ZooError: the weights are not here, or the file is of something else.
        """
        return load_weights(self.encoder, self.file()).tensors

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

    def fingerprint_with(self, *choice: object) -> str:
        """sha256 of the weights and of what is chosen of them, JSON values; the plugin's version belongs to these."""
        return hashlib.sha256(json.dumps([sha256_of(self.path), *choice]).encode()).hexdigest()
