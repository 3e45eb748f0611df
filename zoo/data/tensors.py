"""Conversion of tensors in files to arrays of the target's shape and index symmetry."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from zoo.config.dataset_settings import Cleaning
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError

ASYMMETRY_TOLERANCE = 0.05
"""Largest part of a tensor (Frobenius norm, relative) that may break its index symmetry."""

DIELECTRIC = {
    name: TensorTarget(name=name, formula="ij=ji", unit="1", quantity=f"{name} dielectric")
    for name in ("electronic", "ionic", "total")
}
"""ε∞, ε0 and their sum ε, relative to vacuum."""


def range_of(target: TensorTarget, cleaning: Cleaning | Literal["default"] | None) -> Cleaning | None:
    """Range in which every element of a tensor must lie, from what a recipe says in `data.cleaning`.

    The default depends on the quantity: the DTNet paper's -10 to 100 for dielectric tensors (Mao, Li, Tan, npj Comput.
    Mater. 10, 265 (2024), Methods), and none for anything else, whose unit may be another.
    """
    if cleaning == "default":
        return Cleaning() if target.quantity.endswith("dielectric") else None
    return cleaning


def read_target(value: Any, target: TensorTarget, n_atoms: int) -> np.ndarray:
    """Convert the value of a target in a file: one tensor, or a list of one per atom, where null is no label.

    Returns:
        (*target.shape), or per atom (n_atoms, *target.shape) with NaN for the atoms without a label.

    Raises:
        ZooError: `read_tensor` refuses a tensor, the list has not one entry per atom, or it labels no atom.
    """
    if not target.per_atom:
        return read_tensor(value, target)
    if not isinstance(value, list | np.ndarray) or len(value) != n_atoms:
        count = f"{len(value)} entries" if isinstance(value, list | np.ndarray) else "no list"
        raise ZooError(f"'{target.name}' must be a list with one tensor, or null, for each of {n_atoms} atoms: {count}")
    blank = np.full(target.shape, np.nan)
    tensors = [blank if _without_label(entry) else read_tensor(entry, target) for entry in value]
    if all(tensor is blank for tensor in tensors):
        raise ZooError(f"'{target.name}' labels no atom")
    return np.stack(tensors)


def _without_label(entry: Any) -> bool:
    """Return whether an atom has no label: null in JSON, NaN in all components where a format has no null."""
    if entry is None:
        return True
    return isinstance(entry, np.ndarray) and entry.dtype.kind == "f" and bool(np.isnan(entry).all())


def read_tensor(value: Any, target: TensorTarget) -> np.ndarray:
    """Convert a tensor in a file to an array, (*target.shape) float64, with exactly the target's index symmetry.

    Nested lists of the target's shape and flat lists in row order are accepted. The part that breaks the index
    symmetry, which numerical noise leaves in published tables, is projected out.

    Raises:
        ZooError: not numbers, another shape, NaN or infinite, or too far from the index symmetry.
    """
    wanted = "×".join("3" * target.rank)
    try:
        tensor = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ZooError(f"'{target.name}' is no {wanted} array of numbers") from None
    if tensor.shape == (3**target.rank,):
        tensor = tensor.reshape(target.shape)
    if tensor.shape != target.shape:
        shape = "×".join(map(str, tensor.shape)) or "one number"
        raise ZooError(f"'{target.name}' must be {wanted}, it is {shape}")
    if not np.isfinite(np.linalg.norm(tensor)):  # nor what overflows when it is squared or added
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
