"""Last stage of a run: errors, figures, model card and model folder from the predictions of all seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.config import plugins
from zoo.config.recipe import Recipe
from zoo.contract.plugin import Encoder
from zoo.contract.target import TensorTarget
from zoo.data.auxiliary import Source, numbers_of
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
    config: Recipe,
    model: TensorModel,
    crystals: CrystalStore,
    samples: Samples,
    auxiliary: Sequence[Source],
    folder: RunFolder,
) -> dict[str, Any]:
    """Write the model folder, the figures and, last, metrics.json, whose content is returned.

    Args:
        config: the recipe.
        model: its encoder is every member's, where it is frozen.
        crystals: of the recipe's dataset.
        samples: these, and after them those of the auxiliary sources.
        auxiliary: the sources that were trained on, too.
        folder: the run's.
    """
    target = crystals.target
    results = [read_json(folder.seed(seed).result) for seed in config.seeds]
    content = collect(config, target.unit, results)
    # Members of different splits have seen each other's test crystals: no ensemble of these, but one of them. Its own
    # validation part may be an easy one, so errors are measured by that of the mean tensor on the same part.
    ensemble = is_ensemble(results)
    chosen = results if ensemble else [min(results, key=lambda r: _relative_error(r, crystals, folder))]
    places = [folder.seed(result["seed"]) for result in chosen]
    calibrations: dict[str, Calibration] = {}
    answered: dict[TensorTarget, dict[str, Answered]] = {}
    for one in target.parts or (target,):
        own = content if one == target.main else content["parts"][one.name]
        answered[one] = {part: Answered.read(places, part, one, target.main) for part in ("val", "test")}
        if ensemble:
            calibrations[one.name] = _calibrate(own, answered[one], one)
    main = answered[target.main]
    card = checkpoint.Card(
        recipe=config,
        target=target,
        members=tuple(checkpoint.Member(r["seed"], r["split_seed"], _validation_error(r)) for r in chosen),
        elements=tuple(sorted({number for result in chosen for number in result["elements"]})),
        seen=tuple(sorted({key for result in chosen for key in _seen(folder.seed(result["seed"]))})),
        encoder_fingerprint=model.encoder.fingerprint() if model.frozen else None,
        versions=plugins.versions({kind: config.plugins[kind] for kind in ("encoder", "readout")}),
        metrics=content,
        calibrations=calibrations,
        levels=chosen[0].get("levels", {}),
        labels=chosen[0].get("labels", {}),
        seen_auxiliary=tuple(_seen_of(source, [folder.seed(r["seed"]) for r in chosen]) for source in auxiliary),
        potential_fingerprint=None if samples.force_constants is None else samples.force_constants.potential,
    )
    best = [read_checkpoint(folder.seed(r["seed"]).best) for r in chosen]
    checkpoint.save(folder.model, card, best)
    write_predictions(
        folder.model / "predictions.csv", {part: answer.mean for part, answer in main.items()}, target.main
    )
    encoder = model.encoder if model.frozen else checkpoint.load(folder.model)[1][0].encoder
    _novelty(encoder, crystals, samples, auxiliary, read_json(folder.seed(chosen[0]["seed"]).split)).save(folder.model)
    draw(config, target, folder)
    for one in answered:
        if one.name in calibrations:
            own = content if one == target.main else content["parts"][one.name]
            figures = folder.figures if one == target.main else folder.figures / one.name
            plots.calibration(own["calibration"]["test"], figures / "calibration.png")
    model_card.write(folder, card, crystals, encoder, main["test"].mean)
    for figures in (folder.figures, *(folder.figures / one.name for one in answered if one != target.main)):
        checksums.seal(figures)
    write_json(folder.result, content)
    return content


def _calibrate(content: dict[str, Any], parts: Mapping[str, Answered], target: TensorTarget) -> Calibration:
    """Fit the intervals of an ensemble on the validation part; coverage on the test part goes into `content`."""
    val, test = parts["val"], parts["test"]
    content["ensemble_test"] = test.mean.errors(target)["all"]
    calibration = Calibration.fit(val.members, val.mean.true, target)
    coverage = calibration.coverage(test.members, test.mean.true, target)
    content["calibration"] = {"n": calibration.n, "test": coverage}
    return calibration


def _validation_error(result: dict[str, Any]) -> float:
    """The lowest validation error of a seed, of all parts of a joint target together."""
    return float(result["val_error"] if "parts" in result else result["val"]["all"]["mae_ten"])


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
    def read(cls, places: Sequence[SeedFolder], part: str, target: TensorTarget, main: TensorTarget) -> Answered:
        """Read the predictions of `target` that each member has written; `main` is the run's main one."""
        each = [read_predictions(place.predictions_of(target.name, main.name), part, target) for place in places]
        members = np.stack([one.predicted for one in each])
        return cls(dataclasses.replace(each[0], predicted=members.mean(0)), members)


def _novelty(
    encoder: Encoder,
    crystals: CrystalStore,
    samples: Samples,
    auxiliary: Sequence[Source],
    split: dict[str, Any],
) -> Novelty:
    """Describe the training crystals of a split; the validation crystals set the threshold of the distance."""
    index = {key: i for i, key in enumerate(crystals.keys)}
    train, val = ([index[key] for key in split[part]] for part in ("train", "val"))
    more = numbers_of(auxiliary, len(crystals), lambda source: source.trained_on(split)).tolist()
    device = torch.device("cpu") if samples.embeddings is not None else next(encoder.parameters()).device
    chosen = [crystals.select(train), *(one.crystals.select(one.trained_on(split)) for one in auxiliary)]
    names = [
        {"key": key, "formula": formula, "crystal_system": system}
        for store in chosen
        for key, formula, system in zip(store.keys, store.formulas, store.systems(), strict=True)
    ]
    train += more
    tensors = None if samples.per_atom else norms_of(crystals.target, samples.tensors[train])
    found = describe_samples(encoder, samples, train + val, device)
    return Novelty.of(names, tensors, found[: len(train)], found[len(train) :])


def norms_of(target: TensorTarget, tensors: Tensor) -> np.ndarray:
    """The tensors that predictions are compared with in size: of a joint target the main part, zero where it lacks."""
    main: np.ndarray = target.split(tensors)[target.main.name][1].nan_to_num().numpy()
    return main


def _relative_error(result: dict[str, Any], crystals: CrystalStore, folder: RunFolder) -> float:
    """Return the validation error of a seed divided by that of predicting the mean of its training tensors."""
    place, target = folder.seed(result["seed"]), crystals.target.main
    keys = set(read_json(place.split)["train"])
    train = crystals.select([i for i, key in enumerate(crystals.keys) if key in keys]).tensors()
    values = crystals.target.split(train)[target.name][1].numpy()
    known = values[~np.isnan(values.reshape(len(values), -1)).any(axis=1)]
    of_mean = metrics.mean_baseline(known, read_predictions(place.predictions, "val", target).true, target)["mae_ten"]
    error = float(result["val"]["all"]["mae_ten"])
    return error / of_mean if of_mean else error


def _seen(place: SeedFolder) -> list[str]:
    split = read_json(place.split)
    return [*split["train"], *split["val"]]


def _seen_of(source: Source, places: Sequence[SeedFolder]) -> tuple[str, ...]:
    """The keys of an auxiliary source's crystals that some member was trained on."""
    splits = [read_json(place.split) for place in places]
    chosen = set().union(*(source.trained_on(split) for split in splits))
    return tuple(source.crystals.keys[i] for i in sorted(chosen))


def is_ensemble(results: Sequence[dict[str, Any]]) -> bool:
    """Whether there are several members, all trained on one split."""
    return len(results) > 1 and len({result["split_seed"] for result in results}) == 1


def collect(config: Recipe, unit: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collect the content of metrics.json from the results of all seeds."""

    def size(name: str) -> int | list[int]:
        sizes = [result[name] for result in results]
        return sizes[0] if len(set(sizes)) == 1 else sizes

    content = {
        "target": config.target,
        "unit": unit,
        "n_train": size("n_train"),
        "n_val": size("n_val"),
        "n_test": size("n_test"),
        "seeds": list(config.seeds),
        **_of_all_seeds(results),
        "per_element": {
            symbol: metrics.over_seeds([result.get("test_by_element", {}).get(symbol, {}) for result in results])
            for symbol in sorted({symbol for result in results for symbol in result.get("test_by_element", ())})
        },
        "best_epoch": [result["best_epoch"] for result in results],
        "epochs": [result["epochs"] for result in results],
    }
    for name in ("n_auxiliary", "levels", "labels"):
        if name in results[0] and (name != "labels" or results[0][name]):
            content[name] = results[0][name] if len(results) == 1 else [result[name] for result in results]
    if any("test_labels" in result for result in results):
        labels = sorted({name for result in results for name in result.get("test_labels", ())})
        content["test_labels"] = {
            name: metrics.over_seeds([result.get("test_labels", {}).get(name, {}) for result in results])
            for name in labels
        }
    if "parts" in results[0]:
        names = results[0]["parts"]
        content["parts"] = {name: _of_all_seeds([result["parts"][name] for result in results]) for name in names}
        content["val_error"] = [result["val_error"] for result in results]
    return content


def _of_all_seeds(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Errors of one tensor over all seeds."""
    systems = [system for system in CRYSTAL_SYSTEMS if any(system in result["test"] for result in results)]
    return {
        "test": metrics.over_seeds([result["test"]["all"] for result in results]),
        "per_crystal_system": {
            system: metrics.over_seeds([result["test"].get(system, {}) for result in results]) for system in systems
        },
        "val": metrics.over_seeds([result["val"]["all"] for result in results]),
        "test_mean_baseline": metrics.over_seeds([result["test_mean_baseline"] for result in results]),
    }


def draw(config: Recipe, target: TensorTarget, folder: RunFolder) -> None:
    """Draw parity plots and errors by crystal system, each test crystal once, and a learning curve for each seed.

    The main part of a joint target has its figures in the folder itself, each of the others in one of its own.
    """
    for one in target.parts or (target,):
        figures = folder.figures if one == target.main else folder.figures / one.name
        figures.mkdir(parents=True, exist_ok=True)
        files = [folder.seed(seed).predictions_of(one.name, target.main.name) for seed in config.seeds]
        test = once_each([read_predictions(file, "test", one) for file in files])
        for plot in plots.plots_of(one):
            plot(test.predicted, test.true, test.systems, one, figures / f"{plot.__name__}.png")
    for seed in config.seeds:
        place = folder.figures / f"learning_curve_seed_{seed}.png"
        plots.learning_curve(read_history(folder.seed(seed)), place, target.unit)
