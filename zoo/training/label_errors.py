"""Errors of the labels beside the tensors, on crystals that a model was not trained on."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch

from zoo.model.tensor_model import TensorModel
from zoo.runtime.distributed import sum_over_processes
from zoo.training.batches import Batches


def label_errors(model: TensorModel, batches: Batches) -> dict[str, dict[str, float | None]]:
    """By name of each label that the model makes and some crystal has: `n` numbers, `mae` and `correlation`.

    The correlation is None where the labels, or the predictions, are all the same. Of Born charges all nine components
    count; those of auxiliary sources are at their own level of theory.
    """
    model.eval()
    sums: dict[str, np.ndarray] = {}
    with nullcontext() if model.readout.needs_grad else torch.no_grad():
        for batch in batches:
            if batch is None:
                continue
            made = model.with_labels(batch.crystals, batch.embedding)[1]
            for name in made.keys() & batch.labels.keys():
                # On the CPU first: mps has no float64.
                predicted, true = (one.cpu().double().numpy() for one in (made[name], batch.labels[name]))
                known = ~np.isnan(true)
                sums[name] = sums.get(name, np.zeros(7)) + _moments(predicted[known], true[known])
    out: dict[str, dict[str, float | None]] = {}
    for name in model.readout.also_makes:
        total = sum_over_processes(torch.from_numpy(sums.get(name, np.zeros(7)))).numpy()
        if total[0]:
            out[name] = {"n": int(total[0]), "mae": float(total[1] / total[0]), "correlation": _correlation(total)}
    return out


def _moments(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Number, sum of absolute errors, sums of both and of their products."""
    p, t = predicted, true
    return np.array([p.size, np.abs(p - t).sum(), p.sum(), t.sum(), (p * p).sum(), (t * t).sum(), (p * t).sum()])


def _correlation(total: np.ndarray) -> float | None:
    n, _, p, t, pp, tt, pt = total
    spread = np.sqrt(max(pp - p * p / n, 0) * max(tt - t * t / n, 0))
    return float((pt - p * t / n) / spread) if spread > 0 else None
