"""From the seeds' predictions to errors, figures and the model folder."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zoo import metrics, model_folder, plots, plugins
from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.model import TensorModel
from zoo.recipe import Recipe
from zoo.run_folder import RunFolder, SeedFolder, each_row, read_history, read_json, write_json, write_rows


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
        """From what a model says of some crystals; `predicted` and `true` (n, *shape), per atom (all atoms, *shape)."""
        keys, systems = crystals.keys, crystals.systems()
        if not crystals.target.per_atom:
            return cls(keys, systems, predicted, true)
        labelled = ~np.isnan(true.reshape(len(true), -1)).any(axis=1)
        atoms = zip(keys, systems, crystals.facts["n_atoms"].tolist(), strict=True)
        names = ((f"{key}#{i}", system) for key, system, count in atoms for i in range(count))
        kept = [name for name, has_label in zip(names, labelled, strict=True) if has_label]
        return cls([k for k, _ in kept], [s for _, s in kept], predicted[labelled], true[labelled])

    def errors(self, target: TensorTarget) -> dict[str, dict[str, float | None]]:
        """`zoo.metrics.summarise`: of all, and by crystal system."""
        return metrics.summarise(self.predicted, self.true, self.systems, target)

    def undefined(self, target: TensorTarget) -> dict[str, list[str]]:
        """Keys of the crystals that have no anisotropy ratio, no relative error, ..."""
        return metrics.undefined(self.predicted, self.true, self.keys, target)


def component_names(target: TensorTarget) -> list[tuple[str, int]]:
    """The independent components as `xx`, `xy`, ... with their flat index."""
    return [("".join("xyz"[d] for d in np.unravel_index(index, target.shape)), index) for index in target.independent]


def write_predictions(place: SeedFolder, parts: dict[str, Predictions], target: TensorTarget) -> None:
    """All parts in one CSV: key, part, crystal system, independent components true and predicted."""
    names = component_names(target)

    def rows() -> Iterator[dict[str, Any]]:
        for part, result in parts.items():
            for k, key in enumerate(result.keys):
                row: dict[str, Any] = {"key": key, "part": part, "crystal_system": result.systems[k]}
                row |= {f"true_{name}": f"{result.true[k].flat[index]:.7g}" for name, index in names}
                yield row | {f"predicted_{name}": f"{result.predicted[k].flat[index]:.7g}" for name, index in names}

    write_rows(place.predictions, rows())


def read_predictions(place: SeedFolder, part: str, target: TensorTarget) -> Predictions:
    """What `write_predictions` wrote of one part."""
    names = [name for name, _ in component_names(target)]
    columns = [f"{prefix}_{name}" for prefix in ("predicted", "true") for name in names]
    keys: list[str] = []
    systems: list[str] = []
    values = array("d")
    for row in each_row(place.predictions):
        if row["part"] == part:
            keys.append(row["key"])
            systems.append(sys.intern(row["crystal_system"]))
            values.extend(float(row[column]) for column in columns)
    numbers = torch.from_numpy(np.array(values)).reshape(len(keys), 2, len(names))
    predicted, true = (target.from_independent(numbers[:, k]).numpy() for k in (0, 1))
    return Predictions(keys, systems, predicted, true)


def finish(made: Recipe, target: TensorTarget, model: TensorModel, folder: RunFolder) -> dict[str, Any]:
    """Write the model folder, the figures and, last, metrics.json, whose content is returned."""
    results = [read_json(folder.seed(seed).result) for seed in made.seeds]
    content = collect(made, target.unit, results)
    test = [read_predictions(folder.seed(seed), "test", target) for seed in made.seeds]
    if is_ensemble(results):
        together = Predictions(test[0].keys, test[0].systems, np.mean([t.predicted for t in test], 0), test[0].true)
        content["ensemble_test"] = together.errors(target)["all"]
        chosen = results
    else:
        # Members of different splits have seen each other's test crystals: no ensemble of these, but the one whose
        # validation error is lowest.
        chosen = [min(results, key=lambda result: result["val"]["all"]["mae_ten"])]
    card = model_folder.Card(
        recipe=made,
        target=target,
        members=tuple(model_folder.Member(r["seed"], r["split_seed"], r["val"]["all"]["mae_ten"]) for r in chosen),
        elements=tuple(sorted({number for result in chosen for number in result["elements"]})),
        seen=tuple(sorted({key for result in chosen for key in _seen(folder.seed(result["seed"]))})),
        encoder_fingerprint=model.encoder.fingerprint() if model.frozen else None,
        versions=plugins.versions({kind: made.plugins[kind] for kind in ("encoder", "readout")}),
        metrics=content,
    )
    best = [torch.load(folder.seed(r["seed"]).best, map_location="cpu", weights_only=True) for r in chosen]
    model_folder.save(folder.model, card, best)
    draw(made, target, test, folder)
    write_json(folder.metrics, content)
    return content


def _seen(place: SeedFolder) -> list[str]:
    split = read_json(place.split)
    return [*split["train"], *split["val"]]


def is_ensemble(results: Sequence[dict[str, Any]]) -> bool:
    """Several members that were trained on one split."""
    return len(results) > 1 and len({result["split_seed"] for result in results}) == 1


def collect(made: Recipe, unit: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of metrics.json."""

    def size(name: str) -> int | list[int]:
        sizes = [result[name] for result in results]
        return sizes[0] if len(set(sizes)) == 1 else sizes

    systems = [system for system in CRYSTAL_SYSTEMS if any(system in result["test"] for result in results)]
    return {
        "target": made.target,
        "unit": unit,
        "n_train": size("n_train"),
        "n_val": size("n_val"),
        "n_test": size("n_test"),
        "seeds": list(made.seeds),
        "test": metrics.over_seeds([result["test"]["all"] for result in results]),
        "per_crystal_system": {
            system: metrics.over_seeds([result["test"].get(system, {}) for result in results]) for system in systems
        },
        "val": metrics.over_seeds([result["val"]["all"] for result in results]),
        "test_mean_baseline": metrics.over_seeds([result["test_mean_baseline"] for result in results]),
        "best_epoch": [result["best_epoch"] for result in results],
        "epochs": [result["epochs"] for result in results],
    }


def draw(made: Recipe, target: TensorTarget, test: Sequence[Predictions], folder: RunFolder) -> None:
    """Parity plots of all seeds' test parts together, errors by crystal system, and a learning curve a seed."""
    folder.figures.mkdir(exist_ok=True)
    predicted = np.concatenate([part.predicted for part in test])
    true = np.concatenate([part.true for part in test])
    systems = [system for part in test for system in part.systems]
    for plot in plots.plots_of(target):
        plot(predicted, true, systems, target, folder.figures / f"{plot.__name__}.png")
    for seed in made.seeds:
        place = folder.figures / f"learning_curve_seed_{seed}.png"
        plots.learning_curve(read_history(folder.seed(seed)), place, target.unit)
