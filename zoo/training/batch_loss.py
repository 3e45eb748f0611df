"""The loss of a batch as one module, which DistributedDataParallel can wrap."""

from __future__ import annotations

import ignite.distributed as idist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from zoo.model.tensor_model import TensorModel
from zoo.training.batches import Batch
from zoo.training.mean_error import ErrorsOf, mean_or_zero


class BatchLoss(nn.Module):
    """Mean error of a batch times its weight (`Batch.weight`): the share of this process in the error of a step.

    Args:
        model: predicts the batch's tensors.
        errors_of: gives absolute errors, see `zoo.training.mean_error`.
    """

    def __init__(self, model: TensorModel, errors_of: ErrorsOf) -> None:
        super().__init__()
        self.model = model
        self._errors_of = errors_of

    def forward(self, batch: Batch | None) -> Tensor:
        """Return the loss; zero, with a gradient of zero, where this process has no crystal of the step."""
        if batch is None:
            return 0 * next(p for p in self.model.parameters() if p.requires_grad).sum()
        return batch.weight * mean_or_zero(self._errors_of(self.model(batch.crystals, batch.embedding), batch.tensors))


def data_parallel(loss_of: BatchLoss) -> nn.Module:
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
