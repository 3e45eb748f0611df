"""SevenNet's weights in a safetensors file: of the two checkpoints that the zoo ships, and tuned by `zoo pretrain`.

`scripts/ship_sevennet.py` makes the shipped ones from the files of the package sevenn, so that they need no package.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.api import Weights, ZooError, load_weights, sha256_of, weights_file, weights_identity
from zoo_sevennet.checkpoint import CHECKPOINTS, ELEMENTS
from zoo_sevennet.energy import EnergyHead, EnergyModel
from zoo_sevennet.network import Network

SHIPPED = Path(__file__).parent / "weights"
SHA256 = {
    "SevenNet-0": "20aebdb56dae324bf11fc383629595457091edc6fc3726b46856d15b14a6fd80",
    "SevenNet-l3i5": "6941301c3a9be730377d985b1d18c32587ae9e6be950b40c10e866185fe75c83",
}
IDENTITIES = "identities"  # in the metadata of a shipped file: see `identity_of_shipped`
ENERGY = "energy"  # begins the names of tensors of the head, as in files of zoo convert


@lru_cache(maxsize=2)
def shipped(checkpoint: str) -> str | None:
    """The path of a checkpoint's weights in the zoo itself; None where it does not ship them.

    Raises:
        ZooError: the file is not the one that the zoo ships.
    """
    if checkpoint not in SHA256:
        return None
    path = SHIPPED / f"{checkpoint}.safetensors"
    if sha256_of(path) != SHA256[checkpoint]:
        raise ZooError(f"{path} is not as the zoo ships it: install crystal-tensor-zoo anew")
    return str(path)


def identity_of_shipped(checkpoint: str, choice: str) -> str:
    """The fingerprint of a choice of features, or of the energy, that sevenn's own file of the checkpoint has.

    It is the same with the package sevenn and without, so that whatever was cached or trained with one is known with
    the other. It is a hash of sevenn's file, which is not here: the shipped file holds it for each choice.
    """
    identity: str = _read(Path(shipped(checkpoint) or ""), 0).metadata[IDENTITIES][choice]
    return identity


def weights_of(model: EnergyModel, checkpoint: str, level_of_theory: str | None) -> Weights:
    """The numbers of a potential, in the float32 of the checkpoints, and what it was tuned from."""
    tensors = {**model.network.state_dict(), **{f"{ENERGY}.{name}": x for name, x in model.head.state_dict().items()}}
    metadata: dict[str, Any] = {"checkpoint": checkpoint, "modality": level_of_theory, ENERGY: {}}
    return Weights({name: x.detach().cpu().to(torch.float32) for name, x in tensors.items()}, metadata)


def load(weights: str, checkpoint: str, level_of_theory: str | None, layers: int) -> Network:
    """The first `layers` interaction layers, from the file that `weights` names.

    Raises:
        ZooError: there is none, it is of another encoder, or it was tuned from another checkpoint or level of theory.
    """
    return _network(_tensors(weights, checkpoint, level_of_theory), checkpoint, layers)


def load_energy(weights: str, checkpoint: str, level_of_theory: str | None) -> EnergyModel:
    """The potential; arguments and errors as those of `load`."""
    tensors = _tensors(weights, checkpoint, level_of_theory)
    architecture = CHECKPOINTS[checkpoint].architecture
    head = {name.removeprefix(f"{ENERGY}."): x for name, x in tensors.items() if name.startswith(f"{ENERGY}.")}
    built = EnergyHead(architecture.channels[-1][0], len(head["linear_2.weight"]), len(ELEMENTS), architecture.biased)
    built.load_state_dict(head, strict=True)
    return EnergyModel(_network(tensors, checkpoint, len(architecture.channels)), built)


def fingerprint(weights: str, energy: bool) -> str:
    """Identifies the features of a file or, with `energy`, all numbers of it.

    Raises:
        ZooError: there is no such file, or it is damaged.
    """
    path = weights_file(weights)
    return load_weights("sevennet", path).content() if energy else weights_identity("sevennet", path)


def _network(tensors: dict[str, Tensor], checkpoint: str, layers: int) -> Network:
    network = Network(CHECKPOINTS[checkpoint].architecture, len(ELEMENTS), layers)
    network.load_state_dict({name: tensors[name] for name in network.state_dict()}, strict=True)
    return network


def _tensors(weights: str, checkpoint: str, level_of_theory: str | None) -> dict[str, Tensor]:
    path = weights_file(weights)
    found = _read(path, path.stat().st_mtime_ns)
    tuned = found.metadata.get("checkpoint"), found.metadata.get("modality")
    if tuned != (checkpoint, level_of_theory):
        words = " of ".join(str(part) for part in reversed(tuned) if part)
        raise ZooError(f"{path} was tuned from {words}: set checkpoint and modality to that")
    return dict(found.tensors)


@lru_cache(maxsize=4)  # features and energy are read one after the other
def _read(path: Path, changed: int) -> Weights:
    return load_weights("sevennet", path)
