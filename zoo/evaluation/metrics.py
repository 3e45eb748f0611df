"""Errors of predicted tensors, per crystal system and over seeds.

All in float64 numpy. What breaks a target's index symmetry is projected out on entry: tables of DFPT carry asymmetries
of 1e-5 or so. Where a target is one tensor an atom, "crystals" are its labelled atoms here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from zoo.contract.target import TensorTarget
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.errors import ZooError
from zoo.evaluation.derived import is_symmetric_matrix, least, polycrystalline, scalars


def tensor_metrics(predicted: np.ndarray, true: np.ndarray, target: TensorTarget) -> dict[str, float | None]:
    """Errors over n crystals; a mean over none is None.

    The independent components are in the Cartesian frame of each structure. All but `mae_ten`, `rmse_ten`, `mae_diag`
    and `mae_off_diag` are free of that frame.

    Args:
        predicted: (n, *target.shape), in the unit of `true`.
        true: (n, *target.shape).
        target: its irreps and its quantity say what is measured.

    Returns:
        Of every tensor `n`; `mae_ten` and `rmse_ten` over the independent components; `frobenius`, the mean of ‖Δ‖_F,
        and `frobenius_0e`, `frobenius_2e`, ..., that of each irrep's part of Δ; `within_25`, `within_10`, `within_5`,
        the share (0..1) of crystals with ‖Δ‖_F/‖true‖_F within 25, 10 and 5 %.
        Of a symmetric (3, 3) tensor `mae_diag` and `mae_off_diag` over three components each; `mae_mean_diag`, of
        tr/3, the polycrystalline constant; `mae_eigenvalues`, sorted; and `mae_NAME` for every name of
        `zoo.evaluation.derived.scalars`: anisotropy, refractive_index, bulk_modulus, shear_modulus.
        Where a relative error or a scalar is undefined for a crystal it is left out of the mean and counted
        (`n_anisotropy_undefined`, `n_relative_undefined`, ...); `undefined` lists them.

    Raises:
        ZooError: a prediction is not finite.
        ValueError: the shapes are not both (n, *target.shape), or a true tensor is not finite.
    """
    predicted, true = _checked(predicted, true, target)
    derived = _derived_errors(predicted, true, target)
    relative = derived.pop("relative")
    difference = predicted - true
    metrics: dict[str, float | None] = {"n": len(true)}
    metrics |= _component_errors(difference, target)
    metrics |= {f"frobenius_{irrep}": _mean(norm) for irrep, norm in _irrep_norms(difference, target).items()}
    if is_symmetric_matrix(target):
        metrics["mae_eigenvalues"] = _mean(np.abs(np.linalg.eigvalsh(predicted) - np.linalg.eigvalsh(true)))
    metrics |= {f"mae_{name}": _mean(error) for name, error in derived.items()}
    for percent in (25, 10, 5):
        within = np.where(np.isnan(relative), np.nan, relative <= percent / 100)
        metrics[f"within_{percent}"] = _mean(within)
    metrics |= {f"n_{name}_undefined": int(np.isnan(error).sum()) for name, error in derived.items()}
    metrics["n_relative_undefined"] = int(np.isnan(relative).sum())
    return metrics


def undefined(
    predicted: np.ndarray, true: np.ndarray, keys: Sequence[str], target: TensorTarget
) -> dict[str, list[str]]:
    """The keys of the crystals that `tensor_metrics` counts as `n_..._undefined`, by `anisotropy`, `relative`, ..."""
    predicted, true = _checked(predicted, true, target)
    return {
        name: [key for key, error in zip(keys, errors, strict=True) if np.isnan(error)]
        for name, errors in _derived_errors(predicted, true, target).items()
    }


def summarise(
    predicted: np.ndarray, true: np.ndarray, systems: Sequence[str], target: TensorTarget
) -> dict[str, dict[str, float | None]]:
    """`tensor_metrics` of all n crystals, under "all", and of each crystal system that occurs, under its name."""
    of_system = np.array(systems, dtype=str)
    present = [system for system in CRYSTAL_SYSTEMS if system in of_system]
    if not np.isin(of_system, CRYSTAL_SYSTEMS).all():
        raise ValueError(f"crystal systems are {', '.join(CRYSTAL_SYSTEMS)}; got {sorted(set(systems) - set(present))}")
    summary = {"all": tensor_metrics(predicted, true, target)}
    for system in present:
        mask = of_system == system
        summary[system] = tensor_metrics(np.asarray(predicted)[mask], np.asarray(true)[mask], target)
    return summary


def over_seeds(metrics: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """{metric: {"mean", "std", "each"}} of several seeds' metrics, for `metrics.json`.

    `each` has an entry per seed, None where that seed has no value (its test part holds no crystal of the system: pass
    an empty dict); `mean` and `std` are of the rest. The standard deviation is the sample's (ddof = 1), None for one.
    """
    names = list(dict.fromkeys(name for seed in metrics for name in seed))
    out: dict[str, dict[str, Any]] = {}
    for name in names:
        each = [seed.get(name) for seed in metrics]
        known = [value for value in each if value is not None]
        out[name] = {
            "mean": float(np.mean(known)) if known else None,
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            "each": each,
        }
    return out


def primary(content: Mapping[str, Any]) -> str:
    """Name of the metric that ranks models, from the content of metrics.json: MAE_ten, else the first error in it."""
    return "mae_ten" if "mae_ten" in content["test"] else next(name for name in content["test"] if name != "n")


def mean_baseline(train: np.ndarray, test: np.ndarray, target: TensorTarget) -> dict[str, float | None]:
    """`tensor_metrics` of predicting for every test crystal the mean of the training tensors, (n, *shape) each.

    Of the mean only the invariant part is taken (of a symmetric matrix tr/3): the rest depends on the frames in which
    structures happen to be written (and is small: on petousis2017 it changes MAE_ten by 0.01).
    """
    values = _to_irreps(train, target).mean(axis=0)
    for (_, irrep), where in zip(target.irreps, target.irreps.slices(), strict=True):
        if not irrep.is_scalar():
            values[where] = 0
    mean = target.from_irreps(torch.from_numpy(values)[None])[0].numpy()
    return tensor_metrics(np.broadcast_to(mean, np.shape(test)), test, target)


def _to_irreps(tensors: np.ndarray, target: TensorTarget) -> np.ndarray:
    """(n, *shape) -> (n, irreps.dim) float64."""
    return target.to_irreps(torch.from_numpy(np.array(tensors, dtype=np.float64))).numpy()


def _component_errors(difference: np.ndarray, target: TensorTarget) -> dict[str, float | None]:
    """Compute the errors of components from (n, *shape) differences."""
    flat = _flat(difference)
    components = np.abs(flat[:, list(target.independent)])
    squared = _mean(components**2)
    errors: dict[str, float | None] = {
        "mae_ten": _mean(components),
        "rmse_ten": None if squared is None else squared**0.5,
    }
    if is_symmetric_matrix(target):
        i, j = np.triu_indices(3)
        six = np.abs(difference[:, i, j])
        errors["mae_mean_diag"] = _mean(np.abs(polycrystalline(difference)))
        errors["mae_diag"] = _mean(six[:, i == j])
        errors["mae_off_diag"] = _mean(six[:, i != j])
    errors["frobenius"] = _mean(np.linalg.norm(flat, axis=1))
    return errors


def _irrep_norms(difference: np.ndarray, target: TensorTarget) -> dict[str, np.ndarray]:
    """(n,) norm of each irrep's part of (n, *shape) differences, all copies of the irrep together."""
    values = _to_irreps(difference, target)
    squares: dict[str, np.ndarray] = {}
    for (_, irrep), where in zip(target.irreps, target.irreps.slices(), strict=True):
        square = (values[:, where] ** 2).sum(axis=1)
        squares[str(irrep)] = squares.get(str(irrep), 0) + square
    return {irrep: np.sqrt(square) for irrep, square in squares.items()}


def _derived_errors(predicted: np.ndarray, true: np.ndarray, target: TensorTarget) -> dict[str, np.ndarray]:
    """(n,) errors of what is not defined for every tensor, NaN where it is not."""
    norm = np.linalg.norm(_flat(true), axis=1)
    error = np.linalg.norm(_flat(predicted - true), axis=1)
    errors = {name: np.abs(of(predicted) - of(true)) for name, of in scalars(target).items()}
    errors["relative"] = np.divide(error, norm, out=np.full(len(norm), np.nan), where=norm > least(target))
    return errors


def _checked(predicted: np.ndarray, true: np.ndarray, target: TensorTarget) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if predicted.shape != true.shape or true.shape[1:] != target.shape:
        wanted = ", ".join(["n", *map(str, target.shape)])
        raise ValueError(f"two arrays of shape ({wanted}) wanted, got {predicted.shape} and {true.shape}")
    if not np.isfinite(true).all():
        raise ValueError("a true tensor is not finite")  # the means below would drop it without a word
    bad = int((~np.isfinite(_flat(predicted))).any(axis=1).sum())
    if bad:
        raise ZooError(
            f"{bad} of {len(predicted)} predicted tensors are not finite: the training diverged; "
            "lower training.learning_rate or look at the input structures"
        )
    return _symmetric(predicted, target), _symmetric(true, target)


def _symmetric(tensors: np.ndarray, target: TensorTarget) -> np.ndarray:
    if target.formula == "ij=ji":  # by far the most frequent, and exact
        return 0.5 * (tensors + np.swapaxes(tensors, -1, -2))
    return target.from_irreps(torch.from_numpy(_to_irreps(tensors, target))).numpy()


def _flat(tensors: np.ndarray) -> np.ndarray:
    """(n, ...) -> (n, k), also where n is 0."""
    return tensors.reshape(len(tensors), int(np.prod(tensors.shape[1:])))


def _mean(values: np.ndarray) -> float | None:
    """Average the values that are not NaN; None where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
