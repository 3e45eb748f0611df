"""Nequix' files *.nqx: the published ones, and how one becomes the zoo's own file of weights.

Such a file is a line of JSON, the settings of the training, and then, in numpy's format .npy, one array after another,
whose places alone say what they are.
"""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
import torch
from e3nn import o3
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from zoo.api import Block, PublicWeights, Weights, ZooError
from zoo_nequix.energy import EnergyHead, EnergyModel
from zoo_nequix.network import Architecture, Interaction, Network, Outline

PUBLISHED = Outline(channels=(128, 64, 32, 32), layers=4, radial=(8, 64, 64))
"""Outline of all published models."""

_CHECKSUMS = {
    "nequix-mp-1": "1647af8e627e1afa11e2bfadeab0797326513a521afd7dd01606a96f56783eee",
    "nequix-mp-1-pft": "a88aeaed71fd447572dc57af21d469207d7737b85a6dbb66f8c38156f175c5f1",
    "nequix-mp-1-pft-nocotrain": "c191f7208e15f7caf8cc5c1202444652f301fed2f41d85f9a8080af3843ef308",
    "nequix-omat-1": "2d0802ae7f5915cb488c44d25649d98404a103697e6500abb40f515e003a46a6",
    "nequix-oam-1": "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c",
    "nequix-oam-1-pft": "4ce693d68886512aab50c84ea2400efd68163e11155f7c7babe98e695177e809",
}

# The checksums are of the files in that repository at commit 0ffdf88, read there on 29 November 2026.
PUBLIC = {
    name: PublicWeights(
        file=f"{name}.nqx", page="the folder models of github.com/atomicarchitects/nequix", sha256=checksum
    )
    for name, checksum in _CHECKSUMS.items()
}

ENERGY = "energy."
"""Prefix of the names of the energy's tensors."""

# More than any model has; a file that claims more is damaged.
LONGEST_HEADER = 1 << 20
Count = Annotated[int, Field(ge=1, le=4096)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """The first line of a file, as far as it fixes the model."""

    atomic_numbers: Annotated[list[Annotated[int, Field(ge=1, le=118)]], Field(min_length=1)]
    cutoff: Positive
    hidden_irreps: Annotated[str, Field(max_length=1000)]
    lmax: Annotated[int, Field(ge=0, le=11)]
    n_layers: Count
    radial_basis_size: Count
    radial_mlp_size: Count
    radial_mlp_layers: Annotated[int, Field(ge=0, le=100)]
    radial_polynomial_p: Annotated[int, Field(ge=2, le=100)]
    avg_n_neighbors: Positive
    index_weights: bool
    layer_norm: bool
    shift: Finite
    scale: Finite

    @field_validator("atomic_numbers")
    @classmethod
    def _different(cls, numbers: list[int]) -> list[int]:
        if len(set(numbers)) < len(numbers):
            raise ValueError("an element twice")
        return numbers


def build(architecture: Architecture, tensors: Mapping[str, Tensor], layers: int) -> Network:
    """The first layers, with the tensors of `convert`.

    Raises:
        RuntimeError: the tensors are not those of the architecture.
    """
    network = Network(architecture, layers)
    # Layers beyond the wanted ones stay out; those beyond the architecture's are an error.
    unwanted = tuple(f"layers.{n}." for n in range(layers, architecture.layers))
    network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(unwanted)}, strict=True)
    return network


def build_energy(
    architecture: Architecture, tensors: Mapping[str, Tensor], energy: Mapping[str, Tensor]
) -> EnergyModel:
    """The potential, from the tensors of `convert`: those of the features, and those of the energy without `energy.`.

    Raises:
        RuntimeError: the tensors are not those of the architecture.
    """
    head = EnergyHead(architecture.channels[0], len(architecture.elements)).double()
    head.load_state_dict(dict(energy), strict=True)
    return EnergyModel(build(architecture, tensors, architecture.layers), head).double()


def convert(source: Path) -> Weights:
    """The tensors of a file *.nqx: those of its features and those of its energy.

    Raises:
        ZooError: it is no model that the zoo can run.
    """
    try:
        with source.open("rb") as file:
            settings = Settings.model_validate(json.loads(file.readline(LONGEST_HEADER)))
            architecture = architecture_of(settings, source)
            tensors = dict(_tensors(file, architecture))
            # nequix-mp-1.nqx, as it was published, ends with a line feed.
            if file.read(2).strip():
                raise ValueError("more arrays than the model has")
    except (OSError, ValueError, RecursionError, RuntimeError, TypeError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 240)
        raise ZooError(f"{source} is damaged or no file of Nequix ({reason}): get it anew") from None
    for name, value in (("shift", settings.shift), ("scale", settings.scale)):
        tensors[ENERGY + name] = torch.tensor(value, dtype=torch.float64)
    return Weights(tensors, {**architecture.model_dump(), "energy": {"readout": "linear"}})


def architecture_of(settings: Settings, source: Path) -> Architecture:
    """The architecture that the settings of a file describe.

    Raises:
        ZooError: one that the zoo does not run.
    """
    irreps = o3.Irreps(settings.hidden_irreps)
    natural = [o3.Irrep(degree, (-1) ** degree) for degree in range(len(irreps))]
    if [ir for mul, ir in irreps if mul > 0] != natural or not natural:
        raise ZooError(f"{source} has features {irreps}: the zoo runs those of 0e, 1o, 2e, ... in this order")
    if settings.lmax < len(irreps) - 1:  # not irreps.lmax, which e3nn makes a list of all channels for
        raise ZooError(
            f"{source} has spherical harmonics of fewer degrees than its features: the zoo does not run this"
        )
    if settings.index_weights or not settings.layer_norm:
        raise ZooError(f"{source} has weights for each element, or no layer norm: the zoo does not run this")
    return Architecture(
        channels=tuple(mul for mul, _ in irreps),
        layers=settings.n_layers,
        radial=(settings.radial_basis_size, *[settings.radial_mlp_size] * settings.radial_mlp_layers),
        elements=tuple(settings.atomic_numbers),
        cutoff=settings.cutoff,
        harmonics=settings.lmax,
        envelope=settings.radial_polynomial_p,
        neighbours=settings.avg_n_neighbors,
    )


def _tensors(file: BinaryIO, architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    """All arrays, in the file's order, by the names that `Network` and, after `energy.`, `EnergyHead` have for them."""
    yield ENERGY + "isolated", _array(file, [len(architecture.elements)])
    for n in range(architecture.layers):
        with torch.device("meta"):  # names and shapes alone, as the file may be shorter than it claims
            layer = Interaction(architecture, n + 1)
        parameters = list(layer.named_parameters())
        *_, last = (name for name, _ in parameters if name.startswith("radial."))
        for name, wanted in parameters:
            # torch keeps the matrix of a linear map with the outputs first.
            tensor = _array(file, wanted.shape[::-1]).T if name.startswith("radial.") else _array(file, wanted.shape)
            yield f"layers.{n}.{name}", _by_blocks(tensor, layer.blocks) if name == last else tensor
    yield ENERGY + "readout.weights.0", _array(file, [architecture.channels[0], 1])


def _array(file: BinaryIO, shape: Sequence[int]) -> Tensor:
    """The next array.

    Raises:
        ValueError: it is none of float32 and that shape, or the file ends.
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("arrays of another version of numpy's format")
    found, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if found != tuple(shape) or by_columns or dtype != np.dtype("<f4"):
        raise ValueError(f"an array of {dtype} {found} where float32 {tuple(shape)} is due")
    size = 4 * math.prod(shape)
    content = file.read(size) if size <= os.fstat(file.fileno()).st_size else b""  # before memory is set aside
    if len(content) < size:
        raise ValueError("it ends within an array")
    return torch.from_numpy(np.frombuffer(content, dtype).reshape(found).astype(np.float32))


def _by_blocks(weights: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Rows of the last radial map: the file has the paths by their degree l3, `convolve` by l1."""
    paths = [(path.degree, block.channels) for block in blocks for path in block.paths]
    order = sorted(range(len(paths)), key=lambda n: paths[n][0])
    parts = dict(zip(order, weights.split([paths[n][1] for n in order]), strict=True))
    return torch.cat([parts[n] for n in range(len(paths))])
