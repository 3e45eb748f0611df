"""matgl's checkpoints: the published ones, and how one becomes the zoo's own file of weights."""

from __future__ import annotations

import json
import pickle
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Element
from torch import Tensor, nn

from zoo.api import PublicWeights, Weights, ZooError, sha256_of
from zoo_tensornet.energy import EnergyHead, EnergyModel, energy_tensors, why_none, widths
from zoo_tensornet.network import Network
from zoo_tensornet.radial import Gaussians, SmoothBessel

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}

BASES: dict[str, Literal["bessel", "gaussian"]] = {"SphericalBessel": "bessel", "Gaussian": "gaussian"}
"""matgl's name -> the zoo's."""

PAIRS = "pairs"
"""Key of the metadata of files whose pairs of elements were brought into the zoo's order."""

BASIS = "bond_expansion.rbf."
"""Prefix of the names of the radial basis' tensors."""

_PAGE = "the folder pretrained_models of github.com/materialsvirtuallab/matgl (with model.json beside it)"


class Architecture(BaseModel):
    """Architecture of a model, known before its weights are read.

    Attributes:
        elements: atomic numbers, in the order of the embedding.
        units: channels C.
        layers: interaction layers.
        cutoff: Å.
        basis: `bessel` (smooth) or `gaussian`.
        radial: number of radial basis functions.
        width: of the Gaussians, 1/Å².
        activation: matgl's name.
    """

    model_config = ConfigDict(frozen=True)

    elements: tuple[int, ...]
    units: int
    layers: int
    cutoff: float
    basis: Literal["bessel", "gaussian"]
    radial: int
    width: float
    activation: str


def _matpes(elements: int = 94) -> Architecture:
    """The architecture of the MatPES models: H to Pu without Po, At, Rn, Fr and Ra."""
    numbers = tuple(z for z in range(1, elements + 1) if z not in range(84, 89))
    return Architecture(
        elements=numbers, units=128, layers=2, cutoff=5.0, basis="bessel", radial=3, width=0.5, activation="swish"
    )


KNOWN = {"MatPES-PBE-2025.1": _matpes(), "MatPES-r2SCAN-2025.1": _matpes()}

# The checksums are of the files in that repository, read there on 24 November 2026.
PUBLIC = {
    "MatPES-PBE-2025.1": PublicWeights(
        file="TensorNet-MatPES-PBE-v2025.1-PES/state.pt",
        page=_PAGE,
        sha256="d2dfa51a65d23a47fd935eb0628177d2a1088584562091ef3350ce3a002fce6a",
    ),
    "MatPES-r2SCAN-2025.1": PublicWeights(
        file="TensorNet-MatPES-r2SCAN-v2025.1-PES/state.pt",
        page=_PAGE,
        sha256="b1f87297bac09ada6f0e2f41d362d784f894ff0f1f031478187c55ec661b71ba",
    ),
}


def build(architecture: Architecture, tensors: Mapping[str, Tensor], layers: int) -> tuple[nn.Module, Network]:
    """The radial basis, and the embedding with the first layers, from the tensors of `convert`.

    Raises:
        RuntimeError: the tensors are not those of the architecture.
    """
    basis: nn.Module = (
        SmoothBessel(architecture.radial, architecture.cutoff)
        if architecture.basis == "bessel"
        else Gaussians(architecture.radial, architecture.width)
    )
    basis.load_state_dict({k.removeprefix(BASIS): v for k, v in tensors.items() if k.startswith(BASIS)}, strict=True)
    activation = ACTIVATIONS[architecture.activation]()
    network = Network(len(architecture.elements), architecture.units, layers, architecture.radial, activation)
    # Layers beyond the wanted ones stay out; those beyond the architecture's are an error.
    unwanted = tuple(f"layers.{n}." for n in range(layers, architecture.layers))
    state = {k: v for k, v in tensors.items() if not k.startswith((BASIS, *unwanted))}
    network.load_state_dict(state, strict=True)
    return basis, network


def build_energy(
    architecture: Architecture, tensors: Mapping[str, Tensor], energy: Mapping[str, Tensor]
) -> EnergyModel:
    """The potential, from the tensors of `convert`: those of the features, and those of the energy without `energy.`.

    Raises:
        RuntimeError: the tensors are not those of the architecture.
    """
    basis, network = build(architecture, tensors, architecture.layers)
    head = EnergyHead(architecture.units, widths(energy, "layers."), len(architecture.elements)).double()
    head.load_state_dict(dict(energy), strict=True)
    return EnergyModel(basis, network, head, architecture.cutoff).double()


def convert(source: Path) -> Weights:
    """The tensors of a model in matgl's files `state.pt` and, beside it, `model.json`: of its features and its energy.

    Raises:
        ZooError: it is no TensorNet that the zoo can run, or a published one with another `model.json`.
    """
    described = source.with_name("model.json")
    try:
        content = _content(described)
        architecture = architecture_of(_settings(content, described), described)
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise ZooError(f"{described} lacks what the zoo must know of a TensorNet ({_reason(error)})") from error
    _check_published(source, architecture)
    state = _state(source)
    tensors, older = _tensors(state), _version(content) < 2
    try:
        if older:
            tensors |= {PAIR_EMBEDDING: _other_element_first(tensors[PAIR_EMBEDDING])}
        build(architecture, tensors, architecture.layers)
        missing = why_none(content, state)
        energy = energy_tensors(state, len(architecture.elements)) if missing is None else {}
        if missing is None:
            build_energy(architecture, tensors, energy)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ZooError(f"{source} is not of the model in {described} ({_reason(error)})") from error
    named = {f"energy.{name}": tensor for name, tensor in energy.items()}
    metadata = {**architecture.model_dump(), "energy": missing or {"readout": "gated"}}
    return Weights({**tensors, **named}, {**metadata, PAIRS: "in the order of matgl 4"} if older else metadata)


PAIR_EMBEDDING = "tensor_embedding.emb2.weight"


def _version(content: Mapping[str, Any]) -> int:
    """Version of matgl's class TensorNet, which is 1 before matgl 4."""
    model = content["kwargs"]["model"] if content.get("@class") == "Potential" else content
    return int(model.get("@model_version", 1))


def _other_element_first(weight: Tensor) -> Tensor:
    """Exchange what is read of the two elements of a pair, (C, 2C).

    Version 1 collects messages at the atom that comes second in a pair, version 2 at the first.
    """
    first, second = weight.chunk(2, dim=1)
    return torch.cat([second, first], dim=1)


def _reason(error: Exception) -> str:
    if "weights_only" in str(error):  # torch's advice is to give up its safety, which nobody shall follow here
        return f"{type(error).__name__}: it holds more than tensors, or is damaged"
    return textwrap.shorten(f"{type(error).__name__}: {error}", 240)


def _check_published(source: Path, architecture: Architecture) -> None:
    """The checksum is of the weights alone; what `model.json` says of published ones is known too."""
    checksum = sha256_of(source)
    for name, published in PUBLIC.items():
        if published.sha256 == checksum and architecture != KNOWN[name]:
            wrong = [key for key, value in KNOWN[name] if getattr(architecture, key) != value]
            raise ZooError(
                f"{source.with_name('model.json')} is not the one published with {name}: it has another "
                f"{', '.join(wrong)}; get it anew from {published.page}"
            )


def _state(source: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        return {name.removeprefix("model."): value for name, value in state.items()}
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, AttributeError, TypeError) as error:
        raise ZooError(f"{source} is no state.pt of matgl ({_reason(error)})") from error


def _tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick the tensors of the features."""
    return {
        name: value
        for name, value in state.items()
        # emb3: in files of matgl's DGL models; it makes edge features that no layer reads.
        if (name.startswith(("tensor_embedding.", "layers.")) and ".emb3." not in name) or name == f"{BASIS}centers"
    }


def _content(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ZooError(f"matgl's model.json must be beside state.pt ({path}: {error})") from error
    return content


def _settings(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The constructor's arguments that matgl keeps."""
    arguments = "kwargs"
    if content.get("@class") == "Potential":  # a model with reference energies around it
        content, arguments = content["kwargs"]["model"], "init_args"
    if content.get("@class") != "TensorNet":
        raise ZooError(f"{path} is of a {content.get('@class')}, not of a TensorNet")
    settings: dict[str, Any] = content[arguments]
    return settings


def architecture_of(settings: dict[str, Any], source: Path) -> Architecture:
    """The architecture in the constructor's arguments that matgl keeps.

    Raises:
        ZooError: one that the zoo does not run.
        KeyError, ValueError, TypeError: something is missing, or is not what it should be.
    """
    group, basis, activation = (
        settings[name] for name in ("equivariance_invariance_group", "rbf_type", "activation_type")
    )
    if group != "O(3)":
        raise ZooError(f"{source} was trained with the group {group}: its features are not tensors under inversion")
    if basis not in BASES:
        raise ZooError(f"{source} has the radial basis {basis}; known: {', '.join(BASES)}")
    if basis == "SphericalBessel" and not settings["use_smooth"]:
        raise ZooError(f"{source} was trained with spherical Bessel functions that are not smooth at the cutoff")
    if activation not in ACTIVATIONS:
        raise ZooError(f"{source} has the activation {activation}; known: {', '.join(ACTIVATIONS)}")
    return Architecture(
        elements=tuple(Element(symbol).Z for symbol in settings["element_types"]),
        units=settings["units"],
        layers=settings["nblocks"],
        cutoff=settings["cutoff"],
        basis=BASES[basis],
        radial=settings["max_n" if basis == "SphericalBessel" else "num_rbf"],
        width=settings["width"],
        activation=activation,
    )
