"""The final model of a recipe: trained on all crystals, with the errors and intervals of models that had not seen them.

Cross-validation says how wrong a recipe is, but each of its models lacks a part of the data. Here the same recipe is
trained once more on all crystals, its auxiliary ones included, for all its epochs: nothing is left to choose an epoch
by, and at the end of the cosine the weights hardly move. What is known of it comes from the ensembles of the folds, on
their test parts: the errors, the calibration of the intervals, and the distance that novelty begins at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoo.config import plugins, recipe
from zoo.config.recipe import Recipe
from zoo.contract.plugin import Encoder
from zoo.contract.target import TensorTarget
from zoo.data.auxiliary import Source, numbers_of
from zoo.data.splits import Split
from zoo.errors import ZooError, clear_disk_errors
from zoo.evaluation import metrics
from zoo.evaluation.calibration import Calibration
from zoo.evaluation.predictions import once_each, write_predictions
from zoo.inference.novelty import Novelty, describe_samples
from zoo.model import checkpoint
from zoo.model import tensor_model as models
from zoo.report import model_card, plots, refit_card
from zoo.runtime.devices import choose_device
from zoo.storage import checksums
from zoo.storage.run_folder import (
    RunFolder,
    SeedFolder,
    read_json,
    write_json,
    write_text,
)
from zoo.training.batches import Batches
from zoo.training.trainer import EpochRow, read_checkpoint, seed_everything
from zoo.workflows import finish, seed_results, seed_training, train
from zoo.workflows.finish import Answered

PART = "test"  # of the folds: no member of a fold was trained on it, nor was an epoch chosen by it


class RefitFolder(RunFolder):
    """Folder of a refit: a run's, but for the split, and with the folders of the folds in place of its test part."""

    KIND: ClassVar[str] = "refit"
    RECIPE: ClassVar[str] = "refit.yaml"

    @property
    def folds(self) -> Path:
        """Paths of the folds, in a list."""
        return self.path / "folds.json"


def folds_of(paths: Sequence[Path], members: int | None = None) -> tuple[Recipe, list[RunFolder]]:
    """Open the runs of a cross-validation: finished ensembles of one recipe on different splits.

    Args:
        paths: of their folders.
        members: of the new ensemble; None: as many as those of a fold.

    Returns:
        The recipe of the first, without its split's seed and with `members` seeds, and all folders.

    Raises:
        ZooError: fewer than two, or a run that is not finished, is no ensemble, or is of another recipe or split.
    """
    folders = [RunFolder.existing(path) for path in paths]
    known: dict[Any, Path] = {}
    first = recipe.read(str(folders[0].recipe)) if folders else None
    if first is None or len(folders) < 2:
        raise ZooError("name two runs at least, of different splits: zoo run RECIPE 'seeds=[0,1,2]' split.seed=0, ...")
    for folder in folders:
        if not folder.finished:
            raise ZooError(f"{folder.path} is not finished: zoo run --resume {folder.path}")
        config = recipe.read(str(folder.recipe))
        if config.split.seed is None or len(config.seeds) < 2:
            raise ZooError(f"{folder.path} is no ensemble on one split: train it with several seeds and a split.seed")
        if _but_split(config) != _but_split(first):
            raise ZooError(f"{folder.path} was trained by another recipe than {folders[0].path}")
        if config.split.seed in known:
            raise ZooError(f"{folder.path} has the split of {known[config.split.seed]}: its split.seed is the same")
        known[config.split.seed] = folder.path
    seeds = first.seeds if members is None else tuple(range(members))
    return first.model_copy(update={"split": first.split.model_copy(update={"seed": None}), "seeds": seeds}), folders


def _but_split(config: Recipe) -> dict[str, Any]:
    content = recipe.resolved(config)
    content["split"].pop("seed")
    return {key: value for key, value in content.items() if key not in ("name", "description", "tracking")}


def refit(
    config: Recipe,
    folds: Sequence[RunFolder],
    folder: RefitFolder,
    echo: Callable[[str], None],
    on_epoch: Callable[[int, EpochRow], None] | None = None,
) -> dict[str, Any]:
    """Train the members on all crystals, or go on where an earlier call was stopped, and write the model folder.

    Args:
        config, folds: as of `folds_of`.
        folder: where everything goes.
        echo: takes the lines that tell what is going on.
        on_epoch: told of every epoch of every seed, (seed, row).

    Returns:
        The content of metrics.json: errors and coverage of the folds.

    Raises:
        ZooError: something that the user can put right; the data have changed since the folds.
    """
    with clear_disk_errors(folder.path), folder.alone():
        target = train.target_of(config)
        seed_everything(config.seeds[0])
        first = models.build(config.encoder, config.readout, target, config.force_constants.potential)
        if not folder.recipe.is_file():
            write_text(folder.recipe, recipe.dump(config))
            write_json(folder.folds, [str(fold.path.resolve()) for fold in folds])
        prepared = train.prepare(config, target, first, choose_device(config.device), folder, echo)
        train.remember(prepared, folder)
        data = read_json(folder.provenance)["data"]
        for fold in folds:
            if read_json(fold.provenance)["data"] != data:
                raise ZooError(f"the data have changed since {fold.path} was trained: train the folds again")
        for number, seed in enumerate(config.seeds, 1):
            place = folder.seed(seed)
            if place.result.is_file():
                echo(f"seed {seed}  is done already")
            else:
                _train_on_all(prepared, first, seed, place, f"seed {seed} ({number} of {len(config.seeds)})", on_epoch)
        return _finish(prepared, first, folds, folder)


def _train_on_all(
    prepared: train.Prepared,
    first: models.TensorModel,
    seed: int,
    place: SeedFolder,
    title: str,
    on_epoch: Callable[[int, EpochRow], None] | None,
) -> None:
    """Train one member on the crystals of the dataset and all auxiliary ones, for all epochs."""
    place.path.mkdir(parents=True, exist_ok=True)
    own, more = _trained_on(prepared)
    everything = [*own, *more]
    model, samples = train.model_of_seed(prepared, first, seed, prepared.samples.rows(own))
    training = prepared.recipe.training
    batches = Batches(samples, own, training, prepared.device, seed, more)
    seed_training.fit(prepared.recipe, model, batches, None, seed, place, title, on_epoch)
    outcome = {
        "seed": seed,
        "elements": sorted({int(z) for i in everything for z in samples.graphs[i].numbers}),
        "levels": seed_results.seen_levels(samples, own, more),
        "labels": seed_results.seen_labels(samples, everything, model.readout.also_makes, training),
    }
    write_json(place.result, outcome)


def _trained_on(prepared: train.Prepared) -> tuple[list[int], list[int]]:
    """The numbers of the samples that are trained on: those of the dataset, and the auxiliary ones with a label."""
    parts = train.parts_of(prepared, Split(train=list(prepared.crystals.keys), val=[], test=[]))
    return parts["train"], parts["all"][len(parts["train"]) :]


def _finish(
    prepared: train.Prepared, first: models.TensorModel, folds: Sequence[RunFolder], folder: RefitFolder
) -> dict[str, Any]:
    """Write the model folder and, last, metrics.json, whose content is returned."""
    config, target, crystals = prepared.recipe, prepared.target, prepared.crystals
    main, parts = target.main, target.parts or (target,)
    answered = {one: [_tested(fold, one, main) for fold in folds] for one in parts}
    results = [read_json(folder.seed(seed).result) for seed in config.seeds]
    for seed in config.seeds:
        checksums.verify(folder.seed(seed).history)  # nothing here reads it, but people do
    content: dict[str, Any] = {
        "target": config.target,
        "unit": crystals.target.unit,
        "seeds": list(config.seeds),
        "n_train": len(crystals),
        "n_auxiliary": len(_trained_on(prepared)[1]),
        "folds": [read_json(fold.result)["n_test"] for fold in folds],
        "levels": results[0]["levels"],
        "labels": results[0]["labels"],
        **_out_of_fold(folds, answered[main], main),
    }
    if target.parts:
        content["parts"] = {one.name: _out_of_fold(folds, answered[one], one, one.name) for one in parts if one != main}
    error = float(
        np.mean([member.val_mae_ten for fold in folds for member in checkpoint.read_card(fold.model).members])
    )
    card = checkpoint.Card(
        recipe=config,
        target=target,
        members=tuple(checkpoint.Member(seed, seed, error) for seed in config.seeds),  # of the folds: it has none
        elements=tuple(results[0]["elements"]),
        seen=tuple(crystals.keys),
        encoder_fingerprint=first.encoder.fingerprint() if first.frozen else None,
        versions=plugins.versions({kind: config.plugins[kind] for kind in ("encoder", "readout")}),
        metrics=content,
        calibrations={one.name: _calibrated(each, one) for one, each in answered.items()},
        levels=results[0]["levels"],
        labels=results[0]["labels"],
        seen_auxiliary=tuple(tuple(source.crystals.keys) for source in prepared.auxiliary),
        potential_fingerprint=None
        if prepared.samples.force_constants is None
        else prepared.samples.force_constants.potential,
    )
    checkpoint.save(folder.model, card, [read_checkpoint(folder.seed(seed).best) for seed in config.seeds])
    pooled = once_each([answer.mean for answer in answered[main]])
    write_predictions(folder.model / "predictions.csv", {PART: pooled}, main)
    encoder = first.encoder if first.frozen else checkpoint.load(folder.model)[1][0].encoder
    _novelty(prepared, encoder, folds).save(folder.model)
    folder.figures.mkdir(exist_ok=True)
    for one, each in answered.items():
        figures = folder.figures if one == main else folder.figures / one.name
        figures.mkdir(exist_ok=True)
        test = once_each([answer.mean for answer in each])
        for plot in plots.plots_of(one):
            plot(test.predicted, test.true, test.systems, one, figures / f"{plot.__name__}.png")
        checksums.seal(figures)
    write_text(folder.model / model_card.NAME, refit_card.page(folder, card))
    write_json(folder.result, content)
    return content


def _tested(fold: RunFolder, target: TensorTarget, main: TensorTarget) -> Answered:
    """Predictions of the ensemble of a fold for its test part."""
    config = recipe.read(str(fold.recipe))
    return Answered.read([fold.seed(seed) for seed in config.seeds], PART, target, main)


def _calibrated(each: Sequence[Answered], target: TensorTarget) -> Calibration:
    """Intervals that hold the test crystals of all folds; all folds have as many members."""
    members = np.concatenate([answer.members for answer in each], axis=1)
    return Calibration.fit(members, np.concatenate([answer.mean.true for answer in each]), target)


def _out_of_fold(
    folds: Sequence[RunFolder], each: Sequence[Answered], target: TensorTarget, part: str | None = None
) -> dict[str, Any]:
    """Errors of one tensor over the folds' ensembles, and how often intervals calibrated on the others hold a fold."""
    saved = [read_json(fold.result) for fold in folds]
    saved = saved if part is None else [content["parts"][part] for content in saved]
    counted = [
        _calibrated([*each[:k], *each[k + 1 :]], target).coverage(answer.members, answer.mean.true, target)
        for k, answer in enumerate(each)
    ]
    return {
        "test": metrics.over_seeds([answer.mean.errors(target)["all"] for answer in each]),
        "test_members": metrics.over_seeds(
            [{name: entry["mean"] for name, entry in content["test"].items()} for content in saved]
        ),
        "test_mean_baseline": metrics.over_seeds(
            [{name: entry["mean"] for name, entry in content["test_mean_baseline"].items()} for content in saved]
        ),
        "per_crystal_system": {},
        "calibration": {"n": sum(len(answer.mean.keys) for answer in each), "test": _together(counted)},
    }


def _together(counted: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Coverage over all folds: shares of all their crystals, and the mean of the median widths."""
    out: dict[str, dict[str, Any]] = {}
    for name in counted[0]:
        of_folds = [one[name] for one in counted if name in one]
        total = sum(one["n"] for one in of_folds)
        levels = [level for level in of_folds[0]["levels"] if all(level in one["levels"] for one in of_folds)]
        out[name] = {"n": total, "levels": {}}
        for level in levels:
            at = [(one["n"], one["levels"][level]) for one in of_folds]
            out[name]["levels"][level] = {
                "covered": sum(n * found["covered"] for n, found in at) / total,
                "width": float(np.mean([found["width"] for _, found in at])),
            }
    return out


def _novelty(prepared: train.Prepared, encoder: Encoder, folds: Sequence[RunFolder]) -> Novelty:
    """Describe all crystals; the threshold is the median of those that the folds' test crystals set."""
    crystals, samples = prepared.crystals, prepared.samples
    index = {key: i for i, key in enumerate(crystals.keys)}
    described = describe_samples(encoder, samples, range(len(samples.graphs)), prepared.device)
    thresholds = []
    for fold in folds:
        split = read_json(fold.seed(recipe.read(str(fold.recipe)).seeds[0]).split)
        own = [index[key] for key in split["train"]]
        more = numbers_of(prepared.auxiliary, len(index), partial(Source.trained_on, split=split))
        tested = [index[key] for key in split[PART]]
        thresholds.append(Novelty.of([], None, described[[*own, *more]], described[tested]).threshold)
    names = [
        {"key": key, "formula": formula, "crystal_system": system}
        for store in (crystals, *(source.crystals for source in prepared.auxiliary))
        for key, formula, system in zip(store.keys, store.formulas, store.systems(), strict=True)
    ]
    tensors = None if samples.per_atom else finish.norms_of(crystals.target, samples.tensors)
    found = Novelty.of(names, tensors, described, described[:1])
    return dataclasses.replace(found, threshold=float(np.median(thresholds)))


def resumed(path: Path) -> tuple[Recipe, list[RunFolder]]:
    """Recipe and folds of a refit that was stopped.

    Raises:
        ZooError: the folder is none, or a fold is gone.
    """
    folder = RefitFolder.existing(path)
    if not folder.folds.is_file():
        raise ZooError(f"{folder.folds} is missing: start anew in another folder")
    paths = read_json(folder.folds)
    if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
        raise ZooError(f"{folder.folds} is no list of run folders: start anew in another folder")
    return recipe.read(str(folder.recipe)), folds_of([Path(one) for one in paths])[1]
