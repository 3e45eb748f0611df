"""Tensors as datasets hold them -> arrays of the target's shape and index symmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from zoo.contract.target import TensorTarget
from zoo.errors import ZooError

ASYMMETRY_TOLERANCE = 0.05
"""A tensor of which more than this (Frobenius, relative) breaks its index symmetry is no such tensor."""

DIELECTRIC = {
    name: TensorTarget(name=name, formula="ij=ji", unit="1", quantity=f"{name} dielectric")
    for name in ("electronic", "ionic", "total")
}
"""ε∞, ε0 and their sum ε, relative to vacuum."""


def read_tensor(value: Any, target: TensorTarget) -> np.ndarray:
    """What a file holds as an array, (*target.shape) float64, with exactly the target's index symmetry.

    Nested lists of the target's shape and flat ones in row order both do. The part that breaks the index symmetry,
    which numerical noise leaves in published tables, is projected out.

    Raises:
        ZooError: not numbers, another shape, NaN or infinite, or too far from the index symmetry.
    """
    wanted = "×".join("3" * target.rank)
    try:
        tensor = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ZooError(f"'{target.name}' is no {wanted} array of numbers") from None
    if tensor.shape == (3**target.rank,):
        tensor = tensor.reshape(target.shape)
    if tensor.shape != target.shape:
        shape = "×".join(map(str, tensor.shape)) or "one number"
        raise ZooError(f"'{target.name}' must be {wanted}, it is {shape}")
    if not np.isfinite(tensor).all():
        raise ZooError(f"'{target.name}' holds NaN or infinite numbers")
    symmetric = _project(tensor, target)
    asymmetry = np.linalg.norm(tensor - symmetric)
    if asymmetry > ASYMMETRY_TOLERANCE * np.linalg.norm(tensor):
        share = asymmetry / np.linalg.norm(tensor)
        raise ZooError(f"'{target.name}' breaks its index symmetry {target.formula} ({share:.0%} of its norm)")
    return symmetric


def _project(tensor: np.ndarray, target: TensorTarget) -> np.ndarray:
    if target.formula == "ij=ji":  # by far the most frequent, and exact
        return 0.5 * (tensor + tensor.T)
    projected = target.from_irreps(target.to_irreps(torch.from_numpy(tensor)[None]))
    return projected[0].numpy()
