"""The main job: a recipe in, a folder with trained models, their errors and pictures out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zoo.config import recipe
from zoo.config.recipe import Recipe
from zoo.contract.level_of_theory import LEVELS
from zoo.contract.target import TensorTarget
from zoo.data import pipeline
from zoo.data.auxiliary import Source, numbers_of, sources
from zoo.data.crystals import CrystalStore, ManyCrystals
from zoo.data.labels import Labels
from zoo.data.subset import dataset_of
from zoo.data.tensors import target_named
from zoo.errors import ZooError, clear_disk_errors
from zoo.evaluation.predictions import errors_by_element, write_predictions
from zoo.graphs import neighbour_backends
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.store import GraphStore
from zoo.model import tensor_model as models
from zoo.model.embedding_store import EmbeddingStore
from zoo.phonons.force_constants_store import CombinedForceConstants, ForceConstantsStore
from zoo.runtime.devices import choose_device
from zoo.runtime.distributed import first_goes_first, is_first, wait
from zoo.storage.cache import content_key
from zoo.storage.run_folder import (
    RunFolder,
    SeedFolder,
    read_json,
    write_json,
    write_text,
)
from zoo.training.batches import Batches, Samples
from zoo.training.label_errors import label_errors
from zoo.training.precision import refuse_precision
from zoo.training.tensor_learner import predict_all
from zoo.training.trainer import EpochRow, seed_everything
from zoo.workflows import finish, seed_results, seed_training, training_force_constants
from zoo.workflows.provenance import record, record_resumption

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """State that all seeds of a run share: names and a few numbers of each crystal are in memory, the rest on disk.

    Of the samples the first are the crystals of the recipe's dataset; those of auxiliary sources come after them.
    """

    recipe: Recipe
    target: TensorTarget
    crystals: CrystalStore
    samples: Samples
    device: torch.device
    auxiliary: tuple[Source, ...] = ()


def target_of(config: Recipe) -> TensorTarget:
    """The target that a recipe names, after all that can be checked without data has been checked.

    Raises:
        ZooError: an unknown plugin or setting or target, or a pair that cannot work.
    """
    for choice in config.auxiliary:
        target_named(dataset_of(choice).targets(), config.target, f"the auxiliary dataset '{choice.name}'")
    known = dataset_of(config.dataset).targets()
    return target_named(known, config.target, f"dataset '{config.dataset.name}'")


def run(config: Recipe, folder: RunFolder, echo: Echo, on_epoch: Callable[[int, EpochRow], None] | None = None) -> dict:
    """Train what a recipe describes, or go on where an earlier call in the same folder was stopped.

    In several processes (`zoo.runtime.distributed`) all call this alike; the first one writes.

    Args:
        config: the recipe.
        folder: where everything goes.
        echo: takes the lines that tell what is going on.
        on_epoch: told of every epoch of every seed, (seed, row).

    Returns:
        The content of metrics.json.

    Raises:
        ZooError: something that the user can put right.
    """
    with clear_disk_errors(folder.path):
        target = target_of(config)
        seed_everything(config.seeds[0])
        first = models.build(config.encoder, config.readout, target, config.force_constants.potential)
        device = choose_device(config.device)
        refuse_precision(config.training.precision, device)
        neighbour_backends.choose(config.graph.backend)  # what is missing is said before any data are read
        with folder.alone() if is_first() else nullcontext():
            with first_goes_first():
                refuse_another_recipe(config, folder)
                if not folder.recipe.is_file():
                    write_text(folder.recipe, recipe.dump(config))
                prepared = prepare(config, target, first, device, folder, echo)
                remember(prepared, folder)
            for number, seed in enumerate(config.seeds, 1):
                place = folder.seed(seed)
                if place.result.is_file():
                    echo(f"seed {seed}  is done already")
                    continue
                title = f"seed {seed}" if len(config.seeds) == 1 else f"seed {seed} ({number} of {len(config.seeds)})"
                train_seed(prepared, first, seed, place, title, on_epoch)
            content = (
                finish.finish(config, first, prepared.crystals, prepared.samples, prepared.auxiliary, folder)
                if is_first()
                else {}
            )
            wait()
            return content or read_json(folder.result)


def refuse_another_recipe(config: Recipe, folder: RunFolder) -> None:
    """Check that a folder was begun with the same recipe, if at all: what two recipes trained must not be mixed.

    Raises:
        ZooError: it was not.
    """
    # Read, not compared as text: one of an earlier zoo lacks the keys that came later, which then have their defaults.
    if folder.recipe.is_file() and _what_is_trained(recipe.read(str(folder.recipe))) != _what_is_trained(config):
        raise ZooError(f"{folder.path} was begun with another recipe; choose another folder with --out")


def _what_is_trained(config: Recipe) -> dict[str, Any]:
    content = recipe.resolved(config)
    recipe.make_path_absolute(content["dataset"])
    recipe.make_path_absolute(content["auxiliary"])
    # All backends of `graph` find the same edges; `convolution` no longer changes anything.
    without = ("tracking", "description", "graph", "convolution")
    return {key: value for key, value in content.items() if key not in without}


def remember(prepared: Prepared, folder: RunFolder) -> None:
    """Write down code and data at the first start; at a resumption, see that the data are still the same.

    Raises:
        ZooError: they are not: seeds trained on different data must not be averaged.
    """
    samples = prepared.samples
    data = content_key(samples.graphs.key, samples.graphs.keys, samples.tensors.numpy())
    beside = {"auxiliary": _key_of_auxiliary(prepared)} if prepared.auxiliary else {}
    if not folder.provenance.is_file():
        record(folder, prepared.recipe.plugins, data=data, **beside, **_facts(prepared))
        return
    known = read_json(folder.provenance)
    if known["data"] != data or known.get("auxiliary") not in (None, beside.get("auxiliary")):
        raise ZooError(
            f"the data have changed since {folder.path} was begun; start anew in another folder, or bring them back"
        )
    if is_first():
        record_resumption(folder, prepared.recipe.plugins)


def _facts(prepared: Prepared) -> dict[str, Any]:
    """Describe device and datasets (first the recipe's, then the auxiliary ones) for whoever looks at the run."""
    config = prepared.recipe
    stores = [prepared.crystals, *(source.crystals for source in prepared.auxiliary)]
    datasets = [
        {"name": choice.name, "licence": dataset_of(choice).licence, "key": store.key, "crystals": len(store)}
        for choice, store in zip([config.dataset, *config.auxiliary], stores, strict=True)
    ]
    return {"device": str(prepared.device), "datasets": datasets}


def _key_of_auxiliary(prepared: Prepared) -> str:
    """Hash of what auxiliary sources bring beside crystals and tensors: further labels, and which are twins."""
    labels = prepared.samples.labels
    assert labels is not None  # prepare
    tensors = [labels.level, labels.band_gap, labels.means, *([] if labels.born is None else [labels.born])]
    twins = [[sorted(one) for one in source.twins] for source in prepared.auxiliary]
    return content_key([tensor.numpy() for tensor in tensors], twins)


def usable(config: Recipe) -> pipeline.Prepared:
    """Read the usable part of the recipe's dataset, with the reason for everything that is left out.

    Raises:
        ZooError: as `zoo.data.pipeline.prepare`.
    """
    return pipeline.prepare_by(config.data, dataset_of(config.dataset), config.target)


def prepare(
    config: Recipe,
    target: TensorTarget,
    model: models.TensorModel,
    device: torch.device,
    folder: RunFolder,
    echo: Echo,
) -> Prepared:
    """Crystals, graphs and, for a frozen encoder, embeddings, all on disk."""
    data = config.data
    ready = usable(config)
    crystals = ready.crystals.select(range(len(ready.crystals))[: data.limit])
    more = sources(config.auxiliary, config.target, config.dataset, data, echo)
    if is_first():
        report = {**ready.report, "limit": data.limit, "used": len(crystals)}
        if more:
            report["auxiliary"] = [{"dataset": source.name, **source.report} for source in more]
        write_json(folder.path / "data_report.json", report)
    if len(crystals) < 10:
        raise ZooError(f"only {len(crystals)} crystals are left of dataset '{config.dataset.name}': too few to split")
    first = f"; of these the first {len(crystals)}" if len(crystals) < len(ready.crystals) else ""
    echo(f"data      {config.dataset.name}, {config.target}: {summary(ready.report)}{first}")
    encoder = model.encoder
    stores = [crystals, *(source.crystals for source in more)]
    everything = ManyCrystals.of(stores)
    graphs = GraphStore.build(everything, encoder.cutoff, everything.keys, backend=config.graph.backend)
    echo(f"graphs    {graphs.n_atoms.sum():,} atoms, {graphs.n_edges.sum():,} edges within {encoder.cutoff:g} Å")
    refuse_unknown_elements(encoder, graphs.keys, graphs)
    embeddings = None
    atoms = f"{type(encoder).provides(encoder.hypers).atoms} an atom"
    if model.caches_embeddings:
        encoder.to(device)
        embeddings = EmbeddingStore.build(encoder, graphs, device=device, dtype=config.cache.dtype)
        embeddings.precompute(model.readout, encoder, device)
        echo(f"encoder   {config.encoder.name}, frozen: {atoms}, cached")
    elif model.frozen:
        echo(
            f"encoder   {config.encoder.name}, frozen: {atoms}; {config.readout.name} differentiates it: nothing "
            "is cached"
        )
    else:
        words = "fine-tuned" if encoder.pretrained else "trained from a random start"
        echo(f"encoder   {config.encoder.name}, {words}: {atoms}")
    labels = Labels.of(stores)
    tensors = crystals.tensors()
    if more:
        tensors = torch.cat([store.tensors() for store in stores])
        _tell_of_levels(model, labels, echo)
    constants: ForceConstantsStore | CombinedForceConstants | None = None
    if model.readout.needs.force_constants:
        if more:
            constants = training_force_constants.with_auxiliary(
                config, len(crystals), graphs, everything, tensors, labels, device, echo
            )
        else:
            constants = training_force_constants.force_constants(config, graphs, device, echo)
    parts = target if target.parts else None
    samples = Samples(graphs, tensors, encoder, embeddings, target.per_atom, constants, parts, labels)
    return Prepared(config, target, crystals, samples, device, tuple(more))


def _tell_of_levels(model: models.TensorModel, labels: Labels, echo: Echo) -> None:
    """Say by which levels of theory the crystals are labelled, and whether the readout is told."""
    counts = torch.bincount(labels.level, minlength=len(LEVELS)).tolist()
    found = [f"{count:,} {name}" for name, count in zip(LEVELS, counts, strict=True) if count]
    pooled = "" if model.reads_level or len(found) == 1 else "; the readout is not told which (level_of_theory: true)"
    echo(f"levels    {', '.join(found)}{pooled}")


def train_seed(
    prepared: Prepared,
    first: models.TensorModel,
    seed: int,
    place: SeedFolder,
    title: str,
    on_epoch: Callable[[int, EpochRow], None] | None,
) -> None:
    """One model: split, train, predict the test part. A frozen encoder is taken over from the model `first`."""
    config, crystals, samples, device = prepared.recipe, prepared.crystals, prepared.samples, prepared.device
    place.path.mkdir(parents=True, exist_ok=True)
    split_seed = seed if config.split.seed is None else config.split.seed
    split = pipeline.split(crystals.keys, crystals.formulas, config.split, split_seed)
    if is_first():
        write_json(place.split, {"seed": split_seed, "train": split.train, "val": split.val, "test": split.test})
    parts = parts_of(prepared, split)

    train_rows = samples.rows(parts["train"])
    model, samples = model_of_seed(prepared, first, seed, train_rows)

    def batches(part: str) -> Batches:
        return Batches(samples, parts[part], config.training, device)

    more = parts["all"][len(parts["train"]) :]
    train = Batches(samples, parts["train"], config.training, device, seed, more)
    history = seed_training.fit(config, model, train, batches("val"), seed, place, title, on_epoch)
    found = {part: predict_all(model, batches(part)) for part in ("val", "test")}
    twins = numbers_of(prepared.auxiliary, len(crystals), lambda source: source.tested_on(vars(split)))
    beside = label_errors(model, Batches(samples, [*parts["test"], *twins.tolist()], config.training, device))
    if not is_first():
        return

    outcome: dict[str, Any] = {
        "seed": seed,
        "split_seed": split_seed,
        "best_epoch": int(min(history, key=lambda row: row["val_mae_ten"])["epoch"]),
        "epochs": len(history),
        "val_error": min(row["val_mae_ten"] for row in history),
        **{f"n_{name}": len(parts[name]) for name in ("train", "val", "test")},
        "elements": sorted({int(z) for i in parts["all"] for z in samples.graphs[i].numbers}),
    }
    outcome["levels"] = seed_results.seen_levels(samples, parts["train"], more)
    outcome["labels"] = seed_results.seen_labels(samples, parts["all"], model.readout.also_makes, config.training)
    if prepared.auxiliary:
        outcome["n_auxiliary"] = len(parts["all"]) - len(parts["train"])
    if beside:
        outcome["test_labels"] = beside
    chosen = {part: crystals.select(parts[part]) for part in ("val", "test")}
    errors = {}
    for target, of_part in seed_results.by_target(prepared.target, chosen, found).items():
        write_predictions(place.predictions_of(target.name, prepared.target.main.name), of_part, target)
        errors[target.name] = seed_results.errors(
            target, of_part, seed_results.labels_of(prepared.target, target, samples.tensors[train_rows])
        )
        if target == prepared.target.main:
            errors[target.name]["test_by_element"] = errors_by_element(of_part["test"], chosen["test"])
    outcome |= errors.pop(prepared.target.main.name)
    if errors:
        outcome["parts"] = errors
    write_json(place.result, outcome)


def model_of_seed(
    prepared: Prepared, first: models.TensorModel, seed: int, rows: np.ndarray
) -> tuple[models.TensorModel, Samples]:
    """A model of random weights, and what it reads: a frozen encoder, and its embeddings, are those of `first`.

    Args:
        prepared: of the run.
        first: a model of the same recipe.
        seed: of the weights.
        rows: of the training crystals in the samples' tensors, which set the scale of the predictions.
    """
    config, samples = prepared.recipe, prepared.samples
    seed_everything(seed)
    model = models.build(config.encoder, config.readout, prepared.target, config.force_constants.potential)
    if model.frozen:
        model.encoder = first.encoder
    known = samples.tensors[rows]
    if not prepared.target.parts:
        known = known[~known.flatten(1).isnan().any(dim=1)]
    model.fit_normaliser(known)
    model.to(prepared.device)
    return model, samples if model.frozen else dataclasses.replace(samples, encoder=model.encoder, embeddings=None)


def parts_of(prepared: Prepared, split: pipeline.Split) -> dict[str, list[int]]:
    """The numbers of the samples of each part of a split; `all` are those that are trained on.

    Beside the training part they are the auxiliary crystals without a twin in the other two parts.
    """
    index = {key: i for i, key in enumerate(prepared.crystals.keys)}
    parts = {name: [index[key] for key in getattr(split, name)] for name in ("train", "val", "test")}
    more = numbers_of(prepared.auxiliary, len(index), lambda source: source.trained_on(vars(split)))
    if not prepared.target.parts and not prepared.target.per_atom:  # a single label may be lost (largest_auxiliary)
        more = more[~prepared.samples.tensors[more].flatten(1).isnan().any(dim=1).numpy()]
    parts["all"] = [*parts["train"], *more.tolist()]
    return parts


def summary(report: dict[str, Any]) -> str:
    """Summarise in one line what became of the records."""
    words = {
        "read": "cannot be read",
        "target": "lack the target",
        "clean": "out of range",
        "frame": "break the symmetry of their structure",
        "duplicate": "duplicates",
    }
    lost = [f"{count} {words[stage]}" for stage, count in report["counts"].items() if count]
    check = report["frame"]
    over = len(check["over_tolerance"]) if check and not check["drop"] else 0
    frame = f"; {over} used that break the symmetry of their structure (data_report.json)" if over else ""
    return f"{report['used']} crystals" + (f" ({', '.join(lost)} left out)" if lost else "") + frame
