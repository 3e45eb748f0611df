"""The encoder `sevennet-scratch`."""

from __future__ import annotations

from typing import Literal

from zoo.api import Encoder
from zoo_sevennet.checkpoint import ELEMENTS
from zoo_sevennet.encoder import FeaturesHypers, SevenNet
from zoo_sevennet.energy import EnergyModel
from zoo_sevennet.network import Network


class SevenNetScratchHypers(FeaturesHypers):
    """Hyperparameters of `SevenNetScratch`."""

    checkpoint: Literal["SevenNet-0", "SevenNet-l3i5", "SevenNet-MF-0"] = "SevenNet-0"
    """Checkpoint whose architecture is taken; that of May 2024 has harmonics too large for a random start."""


class SevenNetScratch(SevenNet):
    """SevenNet's network, started at random and trained: what pretraining is worth is the difference to `sevennet`.

    The layers, sizes, 89 elements and O(3)-exact features are those of the checkpoint that is named. See `Network` for
    how it starts. Needs no package `sevenn`.
    """

    Hypers = SevenNetScratchHypers
    pretrained = False
    energy_is_chiral = False

    @classmethod
    def missing(cls, hypers: FeaturesHypers) -> str | None:
        """None: there are no weights to be installed."""
        return None

    def make_network(self, layers: int) -> Network:
        """The first interaction layers, at random."""
        return Network(self.checkpoint.architecture, len(ELEMENTS), layers)

    def fingerprint(self) -> str:
        """Raises TypeError: it is not pretrained."""
        return Encoder.fingerprint(self)

    def energy_fingerprint(self) -> str:
        """Raises TypeError: it is not pretrained."""
        return Encoder.fingerprint(self)

    def make_energy_model(self) -> EnergyModel:
        """Raises TypeError: it has no energy; a `Potential` makes one of it."""
        raise TypeError(f"{type(self).__name__} has no energy")
