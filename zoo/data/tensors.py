"""Conversion of tensors in files to arrays of the target's shape and index symmetry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from zoo.config.dataset_settings import Cleaning
from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError, did_you_mean

ASYMMETRY_TOLERANCE = 0.05
"""Largest part of a tensor (Frobenius norm, relative) that may break its index symmetry."""

DIELECTRIC = {
    name: TensorTarget(name=name, formula="ij=ji", unit="1", quantity=f"{name} dielectric")
    for name in ("electronic", "ionic", "total")
}
"""ε∞, ε0 and their sum ε, relative to vacuum."""

JOINT = TensorTarget("dielectric", quantity="dielectric", parts=tuple(DIELECTRIC.values()))
"""ε∞, ε0 and ε together: any dataset that has one of them has this target."""


def target_named(known: Mapping[str, TensorTarget], name: str, dataset: str) -> TensorTarget:
    """The target of a dataset by its name; `dielectric` is the joint one of what the dataset has of its parts.

    Raises:
        ZooError: the dataset has no such target.
    """
    if name in known:
        return known[name]
    if name == JOINT.name and DIELECTRIC.keys() & known.keys():
        return JOINT
    raise ZooError(f"{dataset} has no target '{name}'.{did_you_mean(name, known)}")


def with_parts(record: Record, target: TensorTarget) -> Record:
    """The record with a joint target among its tensors: (parts, 3, 3), NaN for a part that it has no label of.

    A part that the source has and the record leaves out stays so, though it follows from the others. A record without
    any of them, their means or Born charges is returned as it is.
    """
    label = label_of(record.targets, target)
    if label is not None:
        label[[part.name in record.left_out for part in target.parts]] = np.nan
    if label is None and ("born" in record.targets or record.means.keys() & {part.name for part in target.parts}):
        label = np.full(target.shape, np.nan)
    return record if label is None else dataclasses.replace(record, targets={**record.targets, target.name: label})


def label_of(tensors: Mapping[str, Any], target: TensorTarget) -> np.ndarray | None:
    """The label of a crystal, (*target.shape) float64, in tensors by name; None where there is none.

    Of a joint target it is the parts', NaN for one that is not there. Of ε∞, ε0 and ε the third follows from two.
    """
    if not target.parts:
        return np.asarray(tensors[target.name], dtype=np.float64) if target.name in tensors else None
    labels = {
        part.name: np.asarray(tensors[part.name], dtype=np.float64) if part.name in tensors else None
        for part in target.parts
    }
    if target == JOINT:
        electronic, ionic, total = labels.values()
        if electronic is None and ionic is not None and total is not None:
            labels["electronic"] = total - ionic
        if ionic is None and electronic is not None and total is not None:
            labels["ionic"] = total - electronic
        if total is None and electronic is not None and ionic is not None:
            labels["total"] = electronic + ionic
    if all(label is None for label in labels.values()):
        return None
    blank = np.full(target.main.shape, np.nan)
    return np.stack([blank if label is None else label for label in labels.values()])


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
