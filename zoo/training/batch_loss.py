"""The loss of a batch as one module, which DistributedDataParallel can wrap."""

from __future__ import annotations

from collections.abc import Mapping

import ignite.distributed as idist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from zoo.contract.target import TensorTarget
from zoo.model.tensor_model import TensorModel
from zoo.training.batches import Batch
from zoo.training.mean_error import ErrorsOf, known_errors, mean_or_zero


class BatchLoss(nn.Module):
    """Loss of a batch: the sum over its labels of scale, weight (`Batch.weights`) and mean absolute error.

    It is the share of this process in the loss of a step. Where each crystal has one tensor, it is their mean error;
    of a joint target the mean over its parts of theirs, and what further labels there are is added.

    Args:
        model: predicts the batch's tensors.
        errors_of: gives absolute errors, see `zoo.training.mean_error`.
        scales: by label the factor of its mean error; 1 where it is not named, a label beside the tensors is left out.
    """

    def __init__(self, model: TensorModel, errors_of: ErrorsOf, scales: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.model = model
        self._errors_of = errors_of
        self._scales = scales or {}

    def forward(self, batch: Batch | None) -> Tensor:
        """Return the loss; zero, with a gradient of zero, where this process has no crystal of the step."""
        if batch is None:
            return 0 * next(p for p in self.model.parameters() if p.requires_grad).sum()
        predicted, made = self.model.with_labels(batch.crystals, batch.embedding)
        target = self.model.target
        if not target.parts:
            loss = batch.weights[""] * mean_or_zero(self._errors_of(predicted, batch.tensors))
        else:
            true = target.split(batch.tensors)
            scaled = [
                self._scales.get(name, 1.0) * batch.weights[name] * mean_or_zero(self._known(part, true[name][1], one))
                for name, (one, part) in target.split(predicted).items()
            ]
            loss = sum(scaled[1:], scaled[0]) / len(scaled)
            made = made | {"means": predicted.diagonal(dim1=2, dim2=3).mean(dim=2)}
        for name, label in batch.labels.items():
            if name in made and self._scales.get(name):
                loss = loss + self._scales[name] * batch.weights[name] * mean_or_zero(known_errors(made[name], label))
        return loss

    @staticmethod
    def _known(predicted: Tensor, true: Tensor, part: TensorTarget) -> Tensor:
        """Absolute errors of the independent components of a part that have a label."""
        chosen = list(part.independent)
        return known_errors(predicted.flatten(1)[:, chosen], true.flatten(1)[:, chosen])


def data_parallel(loss_of: nn.Module) -> nn.Module:
    """Wrap a loss so that each backward pass leaves the mean of all processes' gradients in each; alone, leave it.

    Parameters that no process has used keep no gradient, as in one process.

    `ignite.distributed.auto_model` would move the model to a GPU wherever there is one, whatever the recipe says.
    """
    if idist.get_world_size() == 1:
        return loss_of
    # One bucket: gradients here are a few MB, and on CPUs several messages cost more than their overlap brings.
    return DistributedDataParallel(
        loss_of, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True, bucket_cap_mb=100
    )
