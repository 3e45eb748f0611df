"""The error that is trained on and validated by: absolute errors, their mean as a loss and as an Ignite metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

from zoo.contract.target import TensorTarget
from zoo.runtime.devices import with_float64

ErrorsOf = Callable[[Tensor, Tensor], Tensor]
"""Predicted and true tensors -> absolute errors, (n, ...), of which the mean is meant."""


def component_errors(predicted: Tensor, true: Tensor, target: TensorTarget) -> Tensor:
    """Absolute errors of the independent components, (n, components), in the unit of the target.

    Of a joint target, those of all labelled components of all parts, in one row.

    Args:
        predicted, true: (B, *target.shape); per atom (N, *target.shape), of which atoms without a label (NaN) are left
            out.
        target: gives the independent components.
    """
    chosen = list(target.independent)
    predicted, true = predicted.flatten(1)[:, chosen], true.flatten(1)[:, chosen]
    if target.per_atom:
        labelled = ~true.isnan().any(dim=1)
        predicted, true = predicted[labelled], true[labelled]
    return known_errors(predicted, true) if target.parts else (predicted - true).abs()


def known_errors(predicted: Tensor, true: Tensor) -> Tensor:
    """Absolute errors of all numbers that have a label, in a row: those that are NaN have none."""
    labelled = ~true.isnan()
    return (predicted[labelled] - true[labelled]).abs()


def mean_or_zero(errors: Tensor) -> Tensor:
    """Mean of errors as a loss; without any error zero, with a gradient of zero."""
    return errors.mean() if errors.numel() else errors.sum()


def mae_of_components(predicted: Tensor, true: Tensor, target: TensorTarget) -> Tensor:
    """MAE_ten: mean over crystals (per atom: labelled atoms) and independent components of |Δ|."""
    return mean_or_zero(component_errors(predicted, true, target))


class MeanError(Metric):
    """Mean of absolute errors over all batches and processes.

    Errors are summed in float64 and counted one by one, so that batches and shares of any size give the same mean.
    Ignite's MeanAbsoluteError divides by the rows, whatever their number of components.

    Args:
        errors_of: gives the absolute errors of a batch.
        device: where the sums are kept.
    """

    _state_dict_all_req_keys = ("_sum", "_count")

    def __init__(self, errors_of: ErrorsOf, device: torch.device) -> None:
        self._errors_of = errors_of
        super().__init__(device=with_float64(device))

    @reinit__is_reduced
    def reset(self) -> None:
        """Begin anew."""
        self._sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._count = torch.zeros((), dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Add the errors of a batch: predicted and true tensors; None where there is no batch in this process."""
        predicted, true = output
        if predicted is None:
            return
        errors = self._errors_of(predicted.detach(), true)
        self._sum += errors.to(self._sum).sum()
        self._count += errors.numel()

    @sync_all_reduce("_sum", "_count")
    def compute(self) -> float:
        """Return the mean; NaN without any error."""
        return float(self._sum / self._count)
