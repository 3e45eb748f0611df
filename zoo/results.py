"""From the seeds' predictions to errors, figures and the model folder."""

from __future__ import annotations

import dataclasses
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo import metrics, model_card, model_folder, plots, plugins
from zoo.calibration import Calibration
from zoo.contract.plugin import Encoder
from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.graphs.elements import symbols
from zoo.model import TensorModel
from zoo.recipe import Recipe
from zoo.reference import Reference, describe_samples
from zoo.run_folder import RunFolder, SeedFolder, each_row, read_history, read_json, write_json, write_rows
from zoo.training.batches import Samples


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


def errors_by_element(tested: Predictions, crystals: CrystalStore) -> dict[str, dict[str, float]]:
    """Symbol -> `n` and `mae_ten` of the crystals that hold the element or, of one tensor an atom, of its atoms."""
    target, index = crystals.target, {key: i for i, key in enumerate(crystals.keys)}
    difference = np.abs(tested.predicted - tested.true).reshape(len(tested.keys), -1)
    groups: dict[str, list[float]] = {}
    for key, error in zip(tested.keys, difference[:, list(target.independent)].mean(axis=1), strict=True):
        crystal, _, atom = key.rpartition("#") if target.per_atom else (key, "", "")
        numbers = crystals[index[crystal]].numbers
        for symbol in symbols(numbers[[int(atom)]] if target.per_atom else np.unique(numbers)):
            groups.setdefault(symbol, []).append(float(error))
    return {symbol: {"n": len(group), "mae_ten": float(np.mean(group))} for symbol, group in sorted(groups.items())}


def component_names(target: TensorTarget) -> list[tuple[str, int]]:
    """The independent components as `xx`, `xy`, ... with their flat index."""
    return [("".join("xyz"[d] for d in np.unravel_index(index, target.shape)), index) for index in target.independent]


def write_predictions(path: Path, parts: dict[str, Predictions], target: TensorTarget) -> None:
    """All parts in one CSV: key, part, crystal system, independent components true and predicted."""
    names = component_names(target)

    def rows() -> Iterator[dict[str, Any]]:
        for part, result in parts.items():
            for k, key in enumerate(result.keys):
                row: dict[str, Any] = {"key": key, "part": part, "crystal_system": result.systems[k]}
                row |= {f"true_{name}": f"{result.true[k].flat[index]:.7g}" for name, index in names}
                yield row | {f"predicted_{name}": f"{result.predicted[k].flat[index]:.7g}" for name, index in names}

    write_rows(path, rows())


def read_predictions(path: Path, part: str, target: TensorTarget) -> Predictions:
    """What `write_predictions` wrote of one part."""
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


def finish(
    made: Recipe, model: TensorModel, crystals: CrystalStore, samples: Samples, folder: RunFolder
) -> dict[str, Any]:
    """Write the model folder, the figures and, last, metrics.json, whose content is returned.

    Args:
        made: the recipe.
        model: its encoder is every member's, where it is frozen.
        crystals, samples: all that the seeds were trained, validated and tested on.
        folder: the run's.
    """
    target = crystals.target
    results = [read_json(folder.seed(seed).result) for seed in made.seeds]
    content = collect(made, target.unit, results)
    # Members of different splits have seen each other's test crystals: no ensemble of these, but the one whose
    # validation error is lowest.
    ensemble = is_ensemble(results)
    chosen = results if ensemble else [min(results, key=lambda result: result["val"]["all"]["mae_ten"])]
    parts = {part: Answered.read([folder.seed(r["seed"]) for r in chosen], part, target) for part in ("val", "test")}
    calibration = None
    if ensemble:
        val, test = parts["val"], parts["test"]
        content["ensemble_test"] = test.mean.errors(target)["all"]
        calibration = Calibration.fit(val.members, val.mean.true, target)
        coverage = calibration.coverage(test.members, test.mean.true, target)
        content["calibration"] = {"n": calibration.n, "test": coverage}
    card = model_folder.Card(
        recipe=made,
        target=target,
        members=tuple(model_folder.Member(r["seed"], r["split_seed"], r["val"]["all"]["mae_ten"]) for r in chosen),
        elements=tuple(sorted({number for result in chosen for number in result["elements"]})),
        seen=tuple(sorted({key for result in chosen for key in _seen(folder.seed(result["seed"]))})),
        encoder_fingerprint=model.encoder.fingerprint() if model.frozen else None,
        versions=plugins.versions({kind: made.plugins[kind] for kind in ("encoder", "readout")}),
        metrics=content,
        calibration=calibration,
    )
    best = [torch.load(folder.seed(r["seed"]).best, map_location="cpu", weights_only=True) for r in chosen]
    model_folder.save(folder.model, card, best)
    write_predictions(
        folder.model / "predictions.csv", {part: answered.mean for part, answered in parts.items()}, target
    )
    encoder = model.encoder if model.frozen else model_folder.load(folder.model)[1][0].encoder
    _reference(encoder, crystals, samples, read_json(folder.seed(chosen[0]["seed"]).split)).save(folder.model)
    draw(made, target, folder)
    if calibration is not None:
        plots.calibration(content["calibration"]["test"], folder.figures / "calibration.png")
    model_card.write(folder, card, crystals, encoder, parts["test"].mean)
    write_json(folder.metrics, content)
    return content


@dataclass(frozen=True)
class Answered:
    """One part of a split, as the registered model answers it.

    Attributes:
        mean: over the members.
        members: (members, n, *target.shape).
    """

    mean: Predictions
    members: np.ndarray

    @classmethod
    def read(cls, places: Sequence[SeedFolder], part: str, target: TensorTarget) -> Answered:
        """From what each member has written."""
        each = [read_predictions(place.predictions, part, target) for place in places]
        members = np.stack([one.predicted for one in each])
        return cls(dataclasses.replace(each[0], predicted=members.mean(0)), members)


def _reference(encoder: Encoder, crystals: CrystalStore, samples: Samples, split: dict[str, Any]) -> Reference:
    """The training part of a split; the validation part says how far is far."""
    index = {key: i for i, key in enumerate(crystals.keys)}
    train, val = ([index[key] for key in split[part]] for part in ("train", "val"))
    device = torch.device("cpu") if samples.embeddings is not None else next(encoder.parameters()).device
    systems = crystals.select(train).systems()
    names = [
        {"key": crystals.keys[i], "formula": crystals.formulas[i], "crystal_system": system}
        for i, system in zip(train, systems, strict=True)
    ]
    tensors = None if samples.per_atom else samples.tensors[train].numpy()
    found = describe_samples(encoder, samples, train + val, device)
    return Reference.of(names, tensors, found[: len(train)], found[len(train) :])


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
        "per_element": {
            symbol: metrics.over_seeds([result.get("test_by_element", {}).get(symbol, {}) for result in results])
            for symbol in sorted({symbol for result in results for symbol in result.get("test_by_element", ())})
        },
        "val": metrics.over_seeds([result["val"]["all"] for result in results]),
        "test_mean_baseline": metrics.over_seeds([result["test_mean_baseline"] for result in results]),
        "best_epoch": [result["best_epoch"] for result in results],
        "epochs": [result["epochs"] for result in results],
    }


def draw(made: Recipe, target: TensorTarget, folder: RunFolder) -> None:
    """Parity plots of all seeds' test parts together, errors by crystal system, and a learning curve a seed."""
    folder.figures.mkdir(exist_ok=True)
    test = [read_predictions(folder.seed(seed).predictions, "test", target) for seed in made.seeds]
    predicted = np.concatenate([part.predicted for part in test])
    true = np.concatenate([part.true for part in test])
    systems = [system for part in test for system in part.systems]
    for plot in plots.plots_of(target):
        plot(predicted, true, systems, target, folder.figures / f"{plot.__name__}.png")
    for seed in made.seeds:
        place = folder.figures / f"learning_curve_seed_{seed}.png"
        plots.learning_curve(read_history(folder.seed(seed)), place, target.unit)
