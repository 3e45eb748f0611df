"""A tensor model for the trainer: its loss, its validation error, and which of its parameters learn at which rate."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from torch import Tensor, nn

from zoo.model.tensor_model import TensorModel
from zoo.runtime.distributed import sum_over_processes
from zoo.training.batch_loss import BatchLoss
from zoo.training.batches import Batch, Batches, Samples
from zoo.training.mean_error import ErrorsOf, MeanError, component_errors


class TensorLearner:
    """A `TensorModel` as a `zoo.training.learner.Learner`.

    Args:
        model: the model, where it is to be trained.
        scales: by label the factor of its mean error in the loss of a joint target (`training.labels`).
        encoder_learning_rate: of the encoder's parameters, where it has one of its own.
        errors_of: absolute errors, whose mean is trained on and validated by; default: `component_errors`.
    """

    compared = "val_mae_ten"
    leaves = None

    def __init__(
        self,
        model: TensorModel,
        scales: Mapping[str, float] | None = None,
        encoder_learning_rate: float | None = None,
        errors_of: ErrorsOf | None = None,
    ) -> None:
        self.model: TensorModel = model
        self.learned = model.learned()
        self.one_thread = model.caches_embeddings
        self._errors_of = errors_of or (lambda predicted, true: component_errors(predicted, true, model.target))
        self.loss_of = BatchLoss(model, self._errors_of, scales)
        self._encoder_learning_rate = encoder_learning_rate

    def groups(self) -> list[dict[str, Any]]:
        """All parameters alike or, where the encoder has a learning rate of its own, in two groups."""
        return groups(self.learned, self._encoder_learning_rate)

    def validate(self, batches: Batches) -> dict[str, float]:
        """Return the mean absolute error of the batches."""
        evaluator = Engine(self._predict)
        evaluator.logger.setLevel(logging.CRITICAL)
        MeanError(self._errors_of, batches.device).attach(evaluator, "error")
        return {self.compared: evaluator.run(batches).metrics["error"]}

    def _predict(self, engine: Engine, batch: Batch | None) -> tuple[Tensor | None, Tensor | None]:
        """Predicted and true tensors of a batch."""
        if batch is None:
            return None, None
        with nullcontext() if self.model.readout.needs_grad else torch.no_grad():
            return self.model(batch.crystals, batch.embedding), batch.tensors


def groups(learned: nn.ModuleDict, encoder_learning_rate: float | None) -> list[dict[str, Any]]:
    """Parameters for the optimizer: all alike or, where the encoder has a learning rate of its own, in two groups."""
    if encoder_learning_rate is None or "encoder" not in learned:
        return [{"params": list(learned.parameters())}]
    of_encoder = list(learned["encoder"].parameters())
    rest = [p for name, part in learned.items() if name != "encoder" for p in part.parameters()]
    return [{"params": rest}, {"params": of_encoder, "lr": encoder_learning_rate}]


def predict_all(model: TensorModel, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true tensors, as the model's and the batches' are, in the order of the batches' indices.

    Each process predicts its share, and has all in the end.
    """
    model.eval()
    predicted = torch.zeros(batches.n_rows, *model.target.shape, device=batches.device)
    with nullcontext() if model.readout.needs_grad else torch.no_grad():
        for batch in batches:
            if batch is not None:
                rows = torch.from_numpy(batch.rows).to(batches.device)
                predicted[rows] = model(batch.crystals, batch.embedding).detach()
    samples = batches.samples
    assert isinstance(samples, Samples)  # of tensors
    true = samples.tensors[samples.rows(batches.indices)]
    # Each row is another process's than zero in one process alone: the sum is exact.
    return sum_over_processes(predicted).cpu().numpy(), true.numpy()
