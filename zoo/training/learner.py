"""The small interface between the trainer and what it trains: a tensor model, or an interatomic potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from zoo.training.batches import Batches


class Learner(Protocol):
    """A model, or a potential, as a `Trainer` sees it."""

    @property
    def model(self) -> nn.Module:
        """All that computes; the trainer sets its mode."""

    @property
    def learned(self) -> nn.ModuleDict:
        """The parts of the model with learned state, which checkpoints hold."""

    @property
    def loss_of(self) -> nn.Module:
        """Module that gives the loss of a batch, the share of this process in a step; None: a gradient of zero."""

    @property
    def compared(self) -> str:
        """Name of the validation error whose lowest value decides."""

    @property
    def leaves(self) -> Sequence[Tensor] | None:
        """The tensors that gradients are wanted of, where a graph has others as well; None: all."""

    @property
    def one_thread(self) -> bool:
        """Whether a step is so small that a second thread brings nothing."""

    def groups(self) -> list[dict[str, Any]]:
        """The learned parameters for the optimizer, in groups of one learning rate."""

    def validate(self, batches: Batches) -> dict[str, float]:
        """Errors of the batches by name, over all processes: what a row of the history holds."""
