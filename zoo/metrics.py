"""Errors of predicted tensors, per crystal system and over seeds, and the numbers derived from one tensor.

All in float64 numpy. Tensors of rank 2 are symmetrised on entry: tables of DFPT carry asymmetries of 1e-5 or so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.errors import ZooError

NEAR_ZERO = 0.1
"""A dielectric tensor whose Frobenius norm is no larger has no meaningful relative error, and one whose smallest
eigenvalue is no larger no meaningful anisotropy ratio: 25 % of it is 0.025, less than the DFPT of the tables is
converged to. Electronic and total tensors have at least the vacuum's 1; ionic ones vanish with the Born charges. Other
quantities, in other units, are held against zero."""

_SAME_EIGENVALUE = 1e-4
"""Relative to the largest: eigenvalues that differ by less share their axes. Float32 models are good to 1e-5."""


def tensor_metrics(predicted: np.ndarray, true: np.ndarray, quantity: str = "dielectric") -> dict[str, float | None]:
    """Errors over n crystals; a mean over none is None.

    The six components are those with i <= j in the Cartesian frame of each structure. All but `mae_ten`, `rmse_ten`,
    `mae_diag` and `mae_off_diag` are free of that frame.

    Args:
        predicted: (n, 3, 3), in the unit of `true`.
        true: (n, 3, 3).
        quantity: as in `TensorTarget`; "electronic dielectric" adds the refractive index.

    Returns:
        `n`; `mae_ten` and `rmse_ten` over the six components, `mae_diag` and `mae_off_diag` over three each;
        `mae_mean_diag`, of tr/3, the polycrystalline constant; `frobenius`, the mean of ‖Δ‖_F; `mae_eigenvalues`,
        sorted; `mae_anisotropy`, of λ_max/λ_min; `within_25`, `within_10`, `within_5`, the share (0..1) of crystals
        with ‖Δ‖_F/‖true‖_F within 25, 10 and 5 %; `mae_refractive_index`. Where the last three kinds are undefined
        for a crystal it is left out of the mean and counted: `n_anisotropy_undefined`, `n_relative_undefined`,
        `n_refractive_index_undefined`; `undefined` lists them.

    Raises:
        ZooError: a prediction is not finite.
        ValueError: the shapes are not both (n, 3, 3), or a true tensor is not finite.
    """
    predicted, true = _checked(predicted, true)
    derived = _derived_errors(predicted, true, quantity)
    relative = derived.pop("relative")
    metrics: dict[str, float | None] = {"n": len(true)}
    metrics |= _component_errors(predicted - true)
    metrics["mae_eigenvalues"] = _mean(np.abs(np.linalg.eigvalsh(predicted) - np.linalg.eigvalsh(true)))
    metrics |= {f"mae_{name}": _mean(error) for name, error in derived.items()}
    for percent in (25, 10, 5):
        within = np.where(np.isnan(relative), np.nan, relative <= percent / 100)
        metrics[f"within_{percent}"] = _mean(within)
    metrics |= {f"n_{name}_undefined": int(np.isnan(error).sum()) for name, error in derived.items()}
    metrics["n_relative_undefined"] = int(np.isnan(relative).sum())
    return metrics


def undefined(
    predicted: np.ndarray, true: np.ndarray, keys: Sequence[str], quantity: str = "dielectric"
) -> dict[str, list[str]]:
    """The keys of the crystals that `tensor_metrics` counts as `n_..._undefined`, by `anisotropy`, `relative`, ..."""
    predicted, true = _checked(predicted, true)
    return {
        name: [key for key, error in zip(keys, errors, strict=True) if np.isnan(error)]
        for name, errors in _derived_errors(predicted, true, quantity).items()
    }


def summarise(
    predicted: np.ndarray, true: np.ndarray, systems: Sequence[str], quantity: str = "dielectric"
) -> dict[str, dict[str, float | None]]:
    """`tensor_metrics` of all n crystals, under "all", and of each crystal system that occurs, under its name."""
    of_system = np.array(systems, dtype=str)
    present = [system for system in CRYSTAL_SYSTEMS if system in of_system]
    if not np.isin(of_system, CRYSTAL_SYSTEMS).all():
        raise ValueError(f"crystal systems are {', '.join(CRYSTAL_SYSTEMS)}; got {sorted(set(systems) - set(present))}")
    summary = {"all": tensor_metrics(predicted, true, quantity)}
    for system in present:
        mask = of_system == system
        summary[system] = tensor_metrics(np.asarray(predicted)[mask], np.asarray(true)[mask], quantity)
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


def mean_baseline(train: np.ndarray, test: np.ndarray, quantity: str = "dielectric") -> dict[str, float | None]:
    """`tensor_metrics` of predicting for every test crystal the mean of the training tensors, (n, 3, 3) each.

    Of the mean only the isotropic part, tr/3, is taken: the rest depends on the frames in which structures happen to
    be written (and is small: on petousis2017 it changes MAE_ten by 0.01).
    """
    isotropic = np.trace(np.asarray(train, dtype=np.float64), axis1=1, axis2=2).mean() / 3 * np.eye(3)
    return tensor_metrics(np.broadcast_to(isotropic, np.shape(test)), test, quantity)


def describe(tensor: np.ndarray, quantity: str = "dielectric") -> dict[str, Any]:
    """What follows from one symmetric (3, 3) tensor, ready for JSON.

    Returns:
        `eigenvalues`, ascending; `axes`, the rows are their unit vectors in the tensor's frame (see `principal_axes`);
        `polycrystalline`, tr/3; `anisotropy`, λ_max/λ_min, None where λ_min is near zero or negative; for the
        quantity "electronic dielectric" `refractive_index`, sqrt(tr/3), None where the trace is not positive.
    """
    symmetric = _symmetric(tensor)[None]
    answer: dict[str, Any] = {
        "eigenvalues": np.linalg.eigvalsh(symmetric[0]).tolist(),
        "axes": principal_axes(symmetric[0]).tolist(),
        "polycrystalline": float(_polycrystalline(symmetric)[0]),
        "anisotropy": _or_none(_anisotropy(symmetric, _least(quantity))[0]),
    }
    if quantity == "electronic dielectric":
        answer["refractive_index"] = _or_none(_refractive_index(symmetric)[0])
    return answer


def principal_axes(tensor: np.ndarray) -> np.ndarray:
    """(3, 3): rows are unit eigenvectors of a symmetric tensor, eigenvalues ascending; always the same choice.

    Right-handed; the first component above 0.1 of the first axis and of the second (of the optic axis, where two
    eigenvalues coincide) is positive. Where two coincide, one of their axes lies in the plane of that optic axis and x
    (y, if the optic axis is near x); where all three do, the axes are x, y, z.
    """
    values, columns = np.linalg.eigh(_symmetric(tensor))
    first, second, third = columns.T
    same = _SAME_EIGENVALUE * np.abs(values).max()
    lower, upper = values[1] - values[0] <= same, values[2] - values[1] <= same
    if lower and upper:
        return np.eye(3)
    if lower:
        third = _positive(third)
        first = _perpendicular(third)
        return np.stack([first, np.cross(third, first), third])
    first = _positive(first)
    second = _perpendicular(first) if upper else _positive(second)
    return np.stack([first, second, np.cross(first, second)])


def _component_errors(difference: np.ndarray) -> dict[str, float | None]:
    """Of (n, 3, 3) differences."""
    i, j = np.triu_indices(3)
    six = np.abs(difference[:, i, j])
    squared = _mean(six**2)
    return {
        "mae_ten": _mean(six),
        "rmse_ten": None if squared is None else squared**0.5,
        "mae_mean_diag": _mean(np.abs(_polycrystalline(difference))),
        "mae_diag": _mean(six[:, i == j]),
        "mae_off_diag": _mean(six[:, i != j]),
        "frobenius": _mean(np.linalg.norm(difference, axis=(1, 2))),
    }


def _derived_errors(predicted: np.ndarray, true: np.ndarray, quantity: str) -> dict[str, np.ndarray]:
    """(n,) errors of what is not defined for every tensor, NaN where it is not."""
    norm = np.linalg.norm(true, axis=(1, 2))
    error = np.linalg.norm(predicted - true, axis=(1, 2))
    least = _least(quantity)
    errors = {
        "anisotropy": np.abs(_anisotropy(predicted, least) - _anisotropy(true, least)),
        "relative": np.divide(error, norm, out=np.full(len(norm), np.nan), where=norm > least),
    }
    if quantity == "electronic dielectric":
        errors["refractive_index"] = np.abs(_refractive_index(predicted) - _refractive_index(true))
    return errors


def _polycrystalline(tensors: np.ndarray) -> np.ndarray:
    return np.trace(tensors, axis1=1, axis2=2) / 3


def _least(quantity: str) -> float:
    return NEAR_ZERO if "dielectric" in quantity else 0.0


def _anisotropy(tensors: np.ndarray, least: float) -> np.ndarray:
    """(n,) λ_max/λ_min, NaN where λ_min is not above `least`."""
    smallest, _, largest = np.linalg.eigvalsh(tensors).T
    return np.divide(largest, smallest, out=np.full(len(smallest), np.nan), where=smallest > least)


def _refractive_index(tensors: np.ndarray) -> np.ndarray:
    """(n,) sqrt(tr/3), NaN where the trace is not positive."""
    square = _polycrystalline(tensors)
    return np.sqrt(square, out=np.full(len(square), np.nan), where=square > 0)


def _symmetric(tensors: np.ndarray) -> np.ndarray:
    tensors = np.asarray(tensors, dtype=np.float64)
    return 0.5 * (tensors + np.swapaxes(tensors, -1, -2))


def _checked(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = _symmetric(predicted), _symmetric(true)
    if predicted.shape != true.shape or true.shape[1:] != (3, 3):
        raise ValueError(f"two arrays of shape (n, 3, 3) wanted, got {predicted.shape} and {true.shape}")
    if not np.isfinite(true).all():
        raise ValueError("a true tensor is not finite")  # the means below would drop it without a word
    bad = int((~np.isfinite(predicted)).any(axis=(1, 2)).sum())
    if bad:
        raise ZooError(
            f"{bad} of {len(predicted)} predicted tensors are not finite: the training diverged; "
            "lower training.learning_rate or look at the input structures"
        )
    return predicted, true


def _mean(values: np.ndarray) -> float | None:
    """Of the values that are not NaN, None where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _positive(axis: np.ndarray) -> np.ndarray:
    """The axis or its opposite; a threshold, since the largest component is often one of two equal ones."""
    return axis * np.sign(axis[np.abs(axis) > 0.1][0])


def _perpendicular(axis: np.ndarray) -> np.ndarray:
    """The unit vector perpendicular to a unit axis that is nearest x, or y where the axis is near x."""
    near = np.eye(3)[0 if abs(axis[0]) < 0.9 else 1]
    across = near - (near @ axis) * axis
    return across / np.linalg.norm(across)
