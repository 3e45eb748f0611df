"""Predictions of one part of a split beside the true tensors: reading, writing, errors by element."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.evaluation import metrics
from zoo.graphs.elements import symbols
from zoo.storage.run_folder import each_row, write_rows


@dataclass(frozen=True)
class Predictions:
    """Predicted and true tensors of one part of a split.

    Attributes:
        keys: of the n crystals or, where the target is one tensor an atom, of the n labelled atoms: `mp-149#0`, the
            number being the atom's in its structure.
        systems: their crystal systems.
        predicted, true: (n, *target.shape).
    """

    keys: list[str]
    systems: list[str]
    predicted: np.ndarray
    true: np.ndarray

    @classmethod
    def of(cls, crystals: CrystalStore, predicted: np.ndarray, true: np.ndarray) -> Predictions:
        """Collect tensors (n, *shape), per atom (all atoms, *shape), leaving out atoms without a label.

        Of a joint target they are those of one part, and crystals without its label are left out.
        """
        keys, systems = crystals.keys, crystals.systems()
        if not crystals.target.per_atom and not crystals.target.parts:
            return cls(keys, systems, predicted, true)
        labelled = ~np.isnan(true.reshape(len(true), -1)).any(axis=1)
        if crystals.target.parts:
            chosen = np.flatnonzero(labelled).tolist()
            return cls([keys[i] for i in chosen], [systems[i] for i in chosen], predicted[labelled], true[labelled])
        atoms = zip(keys, systems, crystals.facts["n_atoms"].tolist(), strict=True)
        names = ((f"{key}#{i}", system) for key, system, count in atoms for i in range(count))
        kept = [name for name, has_label in zip(names, labelled, strict=True) if has_label]
        return cls([k for k, _ in kept], [s for _, s in kept], predicted[labelled], true[labelled])

    def errors(self, target: TensorTarget) -> dict[str, dict[str, float | None]]:
        """Return the errors of all and by crystal system (`zoo.evaluation.metrics.summarise`)."""
        return metrics.summarise(self.predicted, self.true, self.systems, target)

    def undefined(self, target: TensorTarget) -> dict[str, list[str]]:
        """Return the keys of the crystals without an anisotropy ratio, a relative error and so on, by metric."""
        return metrics.undefined(self.predicted, self.true, self.keys, target)


def once_each(parts: Sequence[Predictions]) -> Predictions:
    """Join the test parts of several seeds: every crystal once, with the mean of their predictions.

    Where the seeds share a split this is the ensemble on its test part; otherwise a crystal that several seeds tested
    would count several times in a figure, and error bars over crystals would be too short.
    """
    first: dict[str, tuple[str, np.ndarray]] = {}
    predicted: dict[str, list[np.ndarray]] = {}
    for part in parts:
        for k, key in enumerate(part.keys):
            first.setdefault(key, (part.systems[k], part.true[k]))
            predicted.setdefault(key, []).append(part.predicted[k])
    keys = list(first)
    return Predictions(
        keys,
        [first[key][0] for key in keys],
        np.stack([np.mean(predicted[key], axis=0) for key in keys]),
        np.stack([first[key][1] for key in keys]),
    )


def errors_by_element(tested: Predictions, crystals: CrystalStore) -> dict[str, dict[str, float]]:
    """Return `n` and `mae_ten` of the crystals that hold an element (of tensors per atom: of its atoms), by symbol."""
    target, index = crystals.target.main, {key: i for i, key in enumerate(crystals.keys)}
    difference = np.abs(tested.predicted - tested.true).reshape(len(tested.keys), -1)
    groups: dict[str, list[float]] = {}
    for key, error in zip(tested.keys, difference[:, list(target.independent)].mean(axis=1), strict=True):
        crystal, _, atom = key.rpartition("#") if target.per_atom else (key, "", "")
        numbers = crystals[index[crystal]].numbers
        for symbol in symbols(numbers[[int(atom)]] if target.per_atom else np.unique(numbers)):
            groups.setdefault(symbol, []).append(float(error))
    return {symbol: {"n": len(group), "mae_ten": float(np.mean(group))} for symbol, group in sorted(groups.items())}


def component_names(target: TensorTarget) -> list[tuple[str, int]]:
    """Name the independent components `xx`, `xy`, ... and return them with their flat index."""
    return [("".join("xyz"[d] for d in np.unravel_index(index, target.shape)), index) for index in target.independent]


def write_predictions(path: Path, parts: dict[str, Predictions], target: TensorTarget) -> None:
    """Write all parts to one CSV: key, part, crystal system, independent components true and predicted."""
    names = component_names(target)

    def rows() -> Iterator[dict[str, Any]]:
        for part, result in parts.items():
            for k, key in enumerate(result.keys):
                row: dict[str, Any] = {"key": key, "part": part, "crystal_system": result.systems[k]}
                row |= {f"true_{name}": f"{result.true[k].flat[index]:.7g}" for name, index in names}
                yield row | {f"predicted_{name}": f"{result.predicted[k].flat[index]:.7g}" for name, index in names}

    write_rows(path, rows())


def read_predictions(path: Path, part: str, target: TensorTarget) -> Predictions:
    """Read one part from the file of `write_predictions`."""
    names = [name for name, _ in component_names(target)]
    columns = [f"{prefix}_{name}" for prefix in ("predicted", "true") for name in names]
    keys: list[str] = []
    systems: list[str] = []
    values = array("d")
    for row in each_row(path):
        if row["part"] == part:
            keys.append(row["key"])
            systems.append(sys.intern(row["crystal_system"]))
            values.extend(float(row[column]) for column in columns)
    numbers = torch.from_numpy(np.array(values)).reshape(len(keys), 2, len(names))
    predicted, true = (target.from_independent(numbers[:, k]).numpy() for k in (0, 1))
    return Predictions(keys, systems, predicted, true)
