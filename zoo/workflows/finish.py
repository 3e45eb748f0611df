"""Last stage of a run: errors, figures, model card and model folder from the predictions of all seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zoo.config import plugins
from zoo.config.recipe import Recipe
from zoo.contract.plugin import Encoder
from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.evaluation import metrics
from zoo.evaluation.calibration import Calibration
from zoo.evaluation.predictions import Predictions, once_each, read_predictions, write_predictions
from zoo.inference.novelty import Novelty, describe_samples
from zoo.model import checkpoint
from zoo.model.tensor_model import TensorModel
from zoo.report import model_card, plots
from zoo.storage import checksums
from zoo.storage.run_folder import RunFolder, SeedFolder, read_history, read_json, write_json
from zoo.training.batches import Samples
from zoo.training.trainer import read_checkpoint


def finish(
    config: Recipe, model: TensorModel, crystals: CrystalStore, samples: Samples, folder: RunFolder
) -> dict[str, Any]:
    """Write the model folder, the figures and, last, metrics.json, whose content is returned.

    Args:
        config: the recipe.
        model: its encoder is every member's, where it is frozen.
        crystals, samples: all that the seeds were trained, validated and tested on.
        folder: the run's.
    """
    target = crystals.target
    results = [read_json(folder.seed(seed).result) for seed in config.seeds]
    content = collect(config, target.unit, results)
    # Members of different splits have seen each other's test crystals: no ensemble of these, but one of them. Its own
    # validation part may be an easy one, so errors are measured by that of the mean tensor on the same part.
    ensemble = is_ensemble(results)
    chosen = results if ensemble else [min(results, key=lambda r: _relative_error(r, crystals, folder))]
    parts = {part: Answered.read([folder.seed(r["seed"]) for r in chosen], part, target) for part in ("val", "test")}
    calibration = None
    if ensemble:
        val, test = parts["val"], parts["test"]
        content["ensemble_test"] = test.mean.errors(target)["all"]
        calibration = Calibration.fit(val.members, val.mean.true, target)
        coverage = calibration.coverage(test.members, test.mean.true, target)
        content["calibration"] = {"n": calibration.n, "test": coverage}
    card = checkpoint.Card(
        recipe=config,
        target=target,
        members=tuple(checkpoint.Member(r["seed"], r["split_seed"], r["val"]["all"]["mae_ten"]) for r in chosen),
        elements=tuple(sorted({number for result in chosen for number in result["elements"]})),
        seen=tuple(sorted({key for result in chosen for key in _seen(folder.seed(result["seed"]))})),
        encoder_fingerprint=model.encoder.fingerprint() if model.frozen else None,
        versions=plugins.versions({kind: config.plugins[kind] for kind in ("encoder", "readout")}),
        metrics=content,
        calibration=calibration,
    )
    best = [read_checkpoint(folder.seed(r["seed"]).best) for r in chosen]
    checkpoint.save(folder.model, card, best)
    write_predictions(
        folder.model / "predictions.csv", {part: answered.mean for part, answered in parts.items()}, target
    )
    encoder = model.encoder if model.frozen else checkpoint.load(folder.model)[1][0].encoder
    _novelty(encoder, crystals, samples, read_json(folder.seed(chosen[0]["seed"]).split)).save(folder.model)
    draw(config, target, folder)
    if calibration is not None:
        plots.calibration(content["calibration"]["test"], folder.figures / "calibration.png")
    model_card.write(folder, card, crystals, encoder, parts["test"].mean)
    checksums.seal(folder.figures)
    write_json(folder.result, content)
    return content


@dataclass(frozen=True)
class Answered:
    """Predictions of the registered model for one part of its split.

    Attributes:
        mean: mean over the members.
        members: tensor of every member, (members, n, *target.shape).
    """

    mean: Predictions
    members: np.ndarray

    @classmethod
    def read(cls, places: Sequence[SeedFolder], part: str, target: TensorTarget) -> Answered:
        """Read the predictions that each member has written."""
        each = [read_predictions(place.predictions, part, target) for place in places]
        members = np.stack([one.predicted for one in each])
        return cls(dataclasses.replace(each[0], predicted=members.mean(0)), members)


def _novelty(encoder: Encoder, crystals: CrystalStore, samples: Samples, split: dict[str, Any]) -> Novelty:
    """Describe the training crystals of a split; the validation crystals set the threshold of the distance."""
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
    return Novelty.of(names, tensors, found[: len(train)], found[len(train) :])


def _relative_error(result: dict[str, Any], crystals: CrystalStore, folder: RunFolder) -> float:
    """Return the validation error of a seed divided by that of predicting the mean of its training tensors."""
    place, target = folder.seed(result["seed"]), crystals.target
    keys = set(read_json(place.split)["train"])
    train = crystals.select([i for i, key in enumerate(crystals.keys) if key in keys]).tensors().numpy()
    known = train[~np.isnan(train.reshape(len(train), -1)).any(axis=1)]
    of_mean = metrics.mean_baseline(known, read_predictions(place.predictions, "val", target).true, target)["mae_ten"]
    error = float(result["val"]["all"]["mae_ten"])
    return error / of_mean if of_mean else error


def _seen(place: SeedFolder) -> list[str]:
    split = read_json(place.split)
    return [*split["train"], *split["val"]]


def is_ensemble(results: Sequence[dict[str, Any]]) -> bool:
    """Whether there are several members, all trained on one split."""
    return len(results) > 1 and len({result["split_seed"] for result in results}) == 1


def collect(config: Recipe, unit: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collect the content of metrics.json from the results of all seeds."""

    def size(name: str) -> int | list[int]:
        sizes = [result[name] for result in results]
        return sizes[0] if len(set(sizes)) == 1 else sizes

    systems = [system for system in CRYSTAL_SYSTEMS if any(system in result["test"] for result in results)]
    return {
        "target": config.target,
        "unit": unit,
        "n_train": size("n_train"),
        "n_val": size("n_val"),
        "n_test": size("n_test"),
        "seeds": list(config.seeds),
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


def draw(config: Recipe, target: TensorTarget, folder: RunFolder) -> None:
    """Draw parity plots and errors by crystal system, each test crystal once, and a learning curve for each seed."""
    folder.figures.mkdir(exist_ok=True)
    test = once_each([read_predictions(folder.seed(seed).predictions, "test", target) for seed in config.seeds])
    for plot in plots.plots_of(target):
        plot(test.predicted, test.true, test.systems, target, folder.figures / f"{plot.__name__}.png")
    for seed in config.seeds:
        place = folder.figures / f"learning_curve_seed_{seed}.png"
        plots.learning_curve(read_history(folder.seed(seed)), place, target.unit)
