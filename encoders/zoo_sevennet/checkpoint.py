"""The pretrained checkpoints in the `sevenn` wheel: what is known of each, and the network with its weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from zoo.api import ZooError
from zoo_sevennet.network import Interaction, Network


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, as far as it is known without reading it.

    Attributes:
        file: path below the folder of the package `sevenn`.
        cutoff: Å.
        channels: channels of degree 0, 1, 2, ... after each interaction layer.
        radial: number of radial basis functions.
    """

    file: str
    cutoff: float
    channels: tuple[tuple[int, ...], ...]
    radial: int

    def path(self) -> Path:
        """Where the file is installed.

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


CHECKPOINTS = {
    "SevenNet-0": Checkpoint(
        file="pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        cutoff=5.0,
        channels=((128, 64, 32), (128, 64, 32), (128, 64, 32), (128, 64, 32), (128,)),
        radial=8,
    ),
}


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, built of nothing but tensors, numpy arrays and plain Python values."""
    reconstruct = np.empty(0).__reduce__()[0]  # numpy 2 renamed its module, the files have the old name
    allowed: list[Any] = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        np.dtypes.Float32DType,
        np.dtypes.Float64DType,
    ]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)


def load(checkpoint: Checkpoint, layers: int) -> tuple[Network, dict[int, int]]:
    """The first `layers` interaction layers with their weights, and the species index of each atomic number."""
    content = read(checkpoint.path())
    config, state = content["config"], content["model_state_dict"]
    network = Network(
        species=len(config["_type_map"]),
        channels=checkpoint.channels[:layers],
        radial=[checkpoint.radial, *config["weight_nn_hidden_neurons"]],
        cutoff=checkpoint.cutoff,
        switch_on=config["cutoff_function"]["cutoff_on"],
    )
    network.load_state_dict(_renamed(state, network), strict=True)
    return network, dict(config["_type_map"])


def _renamed(state: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The checkpoint's weights under the names, in the shapes and in the sign convention of `network`."""
    out = {
        "embedding": state["onehot_to_feature_x.linear.weight"].view_as(network.embedding),
        "radial_basis.frequencies": state["edge_embedding.basis_function.coeffs"],
    }
    for t, layer in enumerate(network.layers):
        assert isinstance(layer, Interaction)  # for the type checker
        ours = f"layers.{t}."
        out[ours + "self_connection.weight"] = state[f"{t}_self_connection_intro.linear.weight"]
        out[ours + "linear_1.weight"] = state[f"{t}_self_interaction_1.linear.weight"]
        out[ours + "linear_2.weight"] = state[f"{t}_self_interaction_2.linear.weight"]
        out[ours + "convolution.denominator"] = state[f"{t}_convolution.denominator"]
        prefix = f"{t}_convolution.weight_nn."
        radial = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        last = max(radial)
        signs = [
            sign
            for l1, channels in enumerate(layer.convolution.channels)
            for l2, l3 in layer.convolution.paths[l1]
            for sign in [_sign(state, t, l1, l2, l3)] * channels
        ]
        radial[last] = radial[last] * torch.tensor(signs)
        out.update({f"{ours}convolution.weights.{key}": value for key, value in radial.items()})
    return out


def _sign(state: Mapping[str, Tensor], layer: int, l1: int, l2: int, l3: int) -> int:
    """-1 where the weights were trained with the opposite sign of e3nn's Wigner 3j symbol, which once changed."""
    trained = state.get(f"{layer}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}")
    if trained is None:  # a degree is 0: the symbol is a multiple of the identity
        return 1
    return 1 if (trained * o3.wigner_3j(l1, l2, l3, dtype=trained.dtype)).sum() > 0 else -1
