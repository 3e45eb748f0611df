"""The potential that is trained: an encoder's own, all layers and its head, or an energy that is put on an encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import plugins
from zoo.config.sections import Plugin
from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder
from zoo.contract.potential import Potential
from zoo.contract.pretrained import PretrainedEncoder
from zoo.errors import ZooError
from zoo.graphs.elements import symbols_of
from zoo.model import potential_weights
from zoo.storage.weights import Weights


class TrainedPotential(nn.Module):
    """A potential that learns.

    Args:
        encoder: gives the energy, or the features of which `head` makes one.
        learned: the module whose parameters learn.
        head: on an encoder without an energy.

    Attributes:
        own: the encoder has an energy of its own.
    """

    def __init__(self, encoder: Encoder, learned: nn.Module, head: Potential | None) -> None:
        super().__init__()
        self.learned = learned
        self.own = head is None
        # Not a submodule: of an encoder with an energy of its own, what learns lies beside its features.
        self._parts = (encoder, head)

    @property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self._parts[0]

    @property
    def head(self) -> Potential | None:
        """The energy that was put on it."""
        return self._parts[1]

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV; edges beyond the cutoff, where there are, do not count."""
        head = self.head
        return self.encoder.energy(batch) if head is None else head.energy(batch.within(self.encoder.cutoff))

    def atomic_energies(self, batch: CrystalBatch) -> Tensor | None:
        """(N,) eV, whose sums are `energy`; None where the encoder's own energy is no sum over atoms."""
        head = self.head
        if head is None:
            return self.encoder.atomic_energies(batch)
        return head.atomic_energies(batch.within(self.encoder.cutoff))

    def even_energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV, the mean with that of the inverted image."""
        return self.encoder.even_energy(batch) if self.head is None else self.energy(batch)

    def weights(self, elements: set[int]) -> Weights:
        """The numbers as a file of weights has them; `elements` are the atomic numbers that were trained on."""
        if self.head is None:
            assert isinstance(self.encoder, PretrainedEncoder)  # build
            return self.encoder.weights_of(self.learned)
        settings: dict[str, Any] = self.encoder.hypers.model_dump(mode="json")
        return potential_weights.weights_of(self.head, sorted(symbols_of(elements)), settings)


def dtype_of(name: str) -> torch.dtype:
    """float32 or float64, as a recipe names it."""
    return torch.float64 if name == "float64" else torch.float32


def build(choice: Plugin, width: int, device: torch.device, dtype: torch.dtype) -> TrainedPotential:
    """Build what is trained: of an encoder with an energy its potential as it is, else a `Potential` on the encoder.

    Raises:
        ZooError: there is no such encoder, it refuses a setting, its weights are not here, its potential cannot be
            tuned, or it gives nothing to make an energy of.
    """
    kind = plugins.load("encoder", choice.name)
    hypers = plugins.hypers("encoder", choice.name, choice.settings)
    encoder: Encoder = kind(hypers)
    if not kind.provides(hypers).energy:
        if kind.pretrained:
            raise ZooError(f"the encoder '{choice.name}' comes trained, and these weights have no energy to be tuned")
        head = Potential(encoder, width).to(device, dtype)
        return TrainedPotential(encoder, head, head)
    tunable = isinstance(encoder, PretrainedEncoder) and type(encoder).weights_of is not PretrainedEncoder.weights_of
    if not tunable:
        raise ZooError(f"the potential of the encoder '{choice.name}' cannot be tuned: it writes no weights")
    assert isinstance(encoder, PretrainedEncoder)  # for the type checker
    encoder.to(device, dtype).requires_grad_(False).eval()
    return TrainedPotential(encoder, encoder.energy_model().requires_grad_(True), None)
