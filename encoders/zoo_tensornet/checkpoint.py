"""matgl's checkpoints: the published ones, and how one becomes the zoo's own file of weights."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from pymatgen.core import Element
from torch import nn

from zoo.api import PublicWeights, Weights, ZooError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}

BASIS = "bond_expansion.rbf."
"""How the names of the radial basis' tensors begin."""

_PAGE = "the folder pretrained_models of github.com/materialsvirtuallab/matgl (with model.json beside it)"


class Architecture(BaseModel):
    """What is to be known of a model before its weights are read.

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

    model_config = ConfigDict(frozen=True, extra="forbid")

    elements: tuple[int, ...]
    units: int
    layers: int
    cutoff: float
    basis: str
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


def convert(source: Path) -> Weights:
    """The embedding and the interaction layers of a model in matgl's files `state.pt` and, beside it, `model.json`.

    Raises:
        ZooError: it is no TensorNet that the zoo can run.
    """
    settings = _settings(source.with_name("model.json"))
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ZooError(f"{source} is no state.pt of matgl ({str(error).splitlines()[0]})") from error
    state = {name.removeprefix("model."): value for name, value in state.items()}
    kept = {
        name: value
        for name, value in state.items()
        # emb3: in files of matgl's DGL models; it makes edge features that no layer reads.
        if (name.startswith(("tensor_embedding.", "layers.")) and ".emb3." not in name) or name == f"{BASIS}centers"
    }
    return Weights(kept, architecture_of(settings, source).model_dump())


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ZooError(f"matgl's model.json must be beside state.pt ({path}: {error})") from error
    if content.get("@class") == "Potential":  # a model with reference energies around it
        content = content["kwargs"]["model"]
        return _only_tensornet(content, content.get("init_args"), path)
    return _only_tensornet(content, content.get("kwargs"), path)


def _only_tensornet(content: dict[str, Any], settings: Any, path: Path) -> dict[str, Any]:
    if content.get("@class") != "TensorNet" or not isinstance(settings, dict):
        raise ZooError(f"{path} is of a {content.get('@class')}, not of a TensorNet")
    return settings


def architecture_of(settings: dict[str, Any], source: Path) -> Architecture:
    """The architecture in the constructor's arguments that matgl keeps.

    Raises:
        ZooError: one that the zoo does not run.
    """
    group, basis = settings["equivariance_invariance_group"], settings["rbf_type"]
    if group != "O(3)":
        raise ZooError(f"{source} was trained with the group {group}: its features are not tensors under inversion")
    if basis == "SphericalBessel" and not settings["use_smooth"]:
        raise ZooError(f"{source} was trained with spherical Bessel functions that are not smooth at the cutoff")
    if settings["activation_type"] not in ACTIVATIONS:
        raise ZooError(f"{source} has the activation {settings['activation_type']}; known: {', '.join(ACTIVATIONS)}")
    try:
        return Architecture(
            elements=tuple(Element(symbol).Z for symbol in settings["element_types"]),
            units=settings["units"],
            layers=settings["nblocks"],
            cutoff=settings["cutoff"],
            basis="bessel" if basis == "SphericalBessel" else "gaussian",
            radial=settings["max_n"] if basis == "SphericalBessel" else settings["num_rbf"],
            width=settings["width"],
            activation=settings["activation_type"],
        )
    except (KeyError, ValidationError) as error:
        raise ZooError(f"{source}: model.json lacks what the zoo must know of a TensorNet ({error})") from error
