"""The pretrained checkpoints in the `sevenn` wheel: what is known of each, and the network with its weights."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from zoo.api import ZooError
from zoo_sevennet.energy import EnergyHead, EnergyModel
from zoo_sevennet.network import Architecture, Interaction, Linear, Network

# The elements of MPtrj, 89 of them: all checkpoints know these and no other.
ELEMENTS = (*range(1, 84), *range(89, 95))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, as far as it is known without reading it.

    Attributes:
        file: path below the folder of the package `sevenn`.
        architecture: of its network.
        modalities: the levels of theory that it was trained on together, where these are several; first the default.
    """

    file: str
    architecture: Architecture
    modalities: tuple[str, ...] = ()

    def path(self) -> Path:
        """Return the path of the installed file.

        Raises:
            ZooError: the package `sevenn`, or this file of it, is not installed.
        """
        install = 'install it with: pip install "crystal-tensor-zoo[sevennet]"'
        package = importlib.util.find_spec("sevenn")
        if package is None or not package.submodule_search_locations:
            raise ZooError(f"the encoder sevennet needs the package sevenn; {install}")
        path = Path(package.submodule_search_locations[0]) / self.file
        if not path.is_file():
            raise ZooError(f"the installed package sevenn has no file {self.file}; {install}")
        return path


_L2 = (*[(128, 64, 32)] * 4, (128,))
_L3 = (*[(128, 64, 32, 32)] * 4, (128,))

CHECKPOINTS = {
    "SevenNet-0": Checkpoint(
        file="pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        architecture=Architecture(channels=_L2, switch_on=4.5, neighbours=35.98957443237305),
    ),
    "SevenNet-0_22May2024": Checkpoint(
        file="pretrained_potentials/SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
        architecture=Architecture(channels=_L2, switch_on=4.5, neighbours=36.99629592895508, solid=True),
    ),
    "SevenNet-l3i5": Checkpoint(
        file="pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth",
        architecture=Architecture(channels=_L3, switch_on=None, neighbours=35.984718322753906),
    ),
    "SevenNet-MF-0": Checkpoint(
        file="pretrained_potentials/SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
        architecture=Architecture(channels=_L2, switch_on=4.5, neighbours=35.98957443237305, biased=True),
        modalities=("PBE", "R2SCAN"),
    ),
}


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, built of nothing but tensors, numpy arrays and plain Python values.

    Raises:
        ZooError: the file is damaged, or holds something else.
    """
    reconstruct = np.empty(0).__reduce__()[0]  # numpy 2 renamed its module, the files have the old name
    allowed: list[Any] = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        np.dtypes.Float32DType,
        np.dtypes.Float64DType,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        # Not torch's words, which advise to load the file without safety.
        raise ZooError(
            f"{path} is damaged or no checkpoint of SevenNet ({type(error).__name__}): install sevenn anew"
        ) from None
    if not isinstance(content, dict):
        raise ZooError(f"{path} is no checkpoint of SevenNet (a {type(content).__name__}): install sevenn anew")
    return content


def load(checkpoint: Checkpoint, layers: int, modality: str | None = None) -> Network:
    """The first `layers` interaction layers with their weights; the species are the `ELEMENTS`, in their order.

    Args:
        checkpoint: where they are.
        layers: at least 1.
        modality: one of the checkpoint's, where it has any.
    """
    state, rows, index = _weights(checkpoint, modality)
    network = Network(checkpoint.architecture, len(ELEMENTS), layers)
    network.load_state_dict(_renamed(state, network, rows, index), strict=True)
    return network


def load_energy(checkpoint: Checkpoint, modality: str | None = None) -> EnergyModel:
    """The potential with its weights; arguments as those of `load`."""
    channels = checkpoint.architecture.channels
    return EnergyModel(load(checkpoint, len(channels), modality), _head(checkpoint, modality))


def _head(checkpoint: Checkpoint, modality: str | None) -> EnergyHead:
    state, rows, index = _weights(checkpoint, modality)
    channels = checkpoint.architecture.channels[-1][0]
    weight = state["reduce_input_to_hidden.linear.weight"]
    last = state["reduce_hidden_to_energy.linear.weight"]
    head = EnergyHead(channels, len(last), len(ELEMENTS), biased=index is not None)
    bias = {}
    if head.linear_1.bias is not None:
        weight, bias["linear_1.bias"] = _with_modality(weight, head.linear_1, index)
    shift, scale = (state[f"rescale_atomic_energy.{name}"] for name in ("shift", "scale"))
    # Both may be one number for all elements, or one each, and the shift one for each modality.
    shift, scale = (x[index] if x.dim() == 2 else x for x in (shift, scale))
    shift, scale = (x.expand(len(rows)) if x.numel() == 1 else x[rows] for x in (shift, scale))
    own = {"linear_1.weight": weight, "linear_2.weight": last, "shift": shift, "scale": scale}
    head.load_state_dict({**own, **bias}, strict=True)
    return head


def _weights(checkpoint: Checkpoint, modality: str | None) -> tuple[dict[str, Tensor], list[int], int | None]:
    """The weights of a checkpoint by name, the row of each of the `ELEMENTS`, and the row of the modality."""
    path = checkpoint.path()
    state, config = _kept(path, path.stat().st_mtime_ns)
    rows = [config["_type_map"][number] for number in ELEMENTS]
    return state, rows, None if modality is None else config["_modal_map"][modality]


@lru_cache(maxsize=2)  # features, layers of the energy and head are read one after the other
def _kept(path: Path, changed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a file by name, and its configuration: nobody may change them."""
    content = read(path)
    return {_modern(name): value for name, value in content["model_state_dict"].items()}, content["config"]


_NEWER = {
    "EdgeEmbedding": "edge_embedding",
    "denumerator": "denominator",
    "reducing nn input": "reduce input",
    "reducing nn hidden": "reduce hidden",
    " ": "_",
}


def _modern(name: str) -> str:
    """A weight's name as later versions of sevenn have it; the file of May 2024 is older."""
    for old, new in _NEWER.items():
        name = name.replace(old, new)
    return name


def _renamed(state: Mapping[str, Tensor], network: Network, rows: list[int], modality: int | None) -> dict[str, Tensor]:
    """The checkpoint's weights under the names, in the shapes and in the sign convention of `network`."""
    embedding = state["onehot_to_feature_x.linear.weight"].view_as(network.embedding)
    out = {
        "embedding": embedding[rows] / len(rows) ** 0.5,
        "radial_basis.frequencies": state["edge_embedding.basis_function.coeffs"],
    }
    for t, layer in enumerate(network.layers):
        assert isinstance(layer, Interaction)  # for the type checker
        ours = f"layers.{t}."
        out[ours + "self_connection.weight"] = state[f"{t}_self_connection_intro.linear.weight"]
        for n, linear in (("1", layer.linear_1), ("2", layer.linear_2)):
            weight = state[f"{t}_self_interaction_{n}.linear.weight"]
            if linear.bias is not None:
                weight, out[f"{ours}linear_{n}.bias"] = _with_modality(weight, linear, modality)
            out[f"{ours}linear_{n}.weight"] = weight
        out[ours + "convolution.denominator"] = state[f"{t}_convolution.denominator"]
        prefix = f"{t}_convolution.weight_nn."
        radial = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        last = max(radial)
        signs = [
            sign
            for block in layer.convolution.blocks
            for path in block.paths
            for sign in [_sign(state, t, block.degree, path.harmonic, path.degree)] * block.channels
        ]
        radial[last] = radial[last] * torch.tensor(signs)
        out.update({f"{ours}convolution.weights.{key}": value for key, value in radial.items()})
    return out


def _with_modality(weight: Tensor, linear: Linear, modality: int | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a map that the modality enters as one-hot, further scalars: once it is fixed, they are a bias.

    e3nn's `Linear` divides by the root of the number of all scalars that enter, ours by that of the channels alone.
    """
    channels, channels_out = linear.shapes[0]
    own, onehot = weight.split([linear.weight.numel(), len(weight) - linear.weight.numel()])
    onehot = onehot.view(-1, channels_out)
    entering = channels + len(onehot)
    scalars, others = own.split([channels * channels_out, len(own) - channels * channels_out])
    return torch.cat([scalars * (channels / entering) ** 0.5, others]), onehot[modality] / entering**0.5


def _sign(state: Mapping[str, Tensor], layer: int, l1: int, l2: int, l3: int) -> int:
    """-1 where the weights were trained with the opposite sign of e3nn's Wigner 3j symbol, which once changed."""
    trained = state.get(f"{layer}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}")
    if trained is None:  # a degree is 0: the symbol is a multiple of the identity
        return 1
    return 1 if (trained * o3.wigner_3j(l1, l2, l3, dtype=trained.dtype)).sum() > 0 else -1
