"""Matbench's dielectric task: the refractive index, by a model of the electronic tensor.

Dunn, Wang, Ganose, Dopp, Jain, npj Comput. Mater. 6, 138 (2020). The labels are refractive indices alone, so the
model's tensor is trained by them: the error of a crystal is |n - sqrt(max(tr ε∞ / 3, 1))|. No tensor of these crystals
is looked up elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from zoo.config.recipe import Recipe
from zoo.data.tensors import DIELECTRIC
from zoo.errors import ZooError, clear_disk_errors
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.store import GraphStore
from zoo.model import tensor_model as models
from zoo.model.embedding_store import EmbeddingStore
from zoo.runtime.devices import choose_device
from zoo.storage import checksums
from zoo.storage.cache import content_key
from zoo.storage.run_folder import (
    RunFolder,
    SeedFolder,
    append_row,
    each_row,
    read_json,
    restart_history,
    write_json,
    write_rows,
)
from zoo.training.batches import Batches, Samples
from zoo.training.precision import refuse_precision
from zoo.training.tensor_learner import TensorLearner, predict_all
from zoo.training.trainer import EpochRow, Trainer, seed_everything
from zoo.workflows.matbench_folds import Folds
from zoo.workflows.provenance import record, record_resumption

# Of a fold, and with mean and standard deviation of all; the last is that of predicting the mean.
ERRORS = ("mae", "rmse", "max_error", "mae_of_mean")


def refractive_index(tensors: Tensor) -> Tensor:
    """(n, 3, 3) -> (n,) sqrt(max(tr ε∞ / 3, 1)): no dielectric is thinner than the vacuum."""
    constant = tensors.diagonal(dim1=1, dim2=2).mean(dim=1)
    return constant.clamp_min(1.0).sqrt()


def index_errors(tensors: Tensor, indices: Tensor) -> Tensor:
    """Errors |n - sqrt(max(tr ε∞ / 3, 1))|, (n,); below 1 the trace keeps the slope that it has at 1, not to be stuck.

    Args:
        tensors: (n, 3, 3), predicted ε∞.
        indices: (n,), true refractive indices.
    """
    constant = tensors.diagonal(dim1=1, dim2=2).mean(dim=1)
    below = 0.5 * (constant.clamp_max(1.0) - 1.0)
    index = refractive_index(tensors)
    # Its value is the clamped one; the second term, zero in value, gives the slope.
    return (index + below - below.detach() - indices).abs()


@dataclass(frozen=True)
class _Ready:
    """State that all folds share."""

    config: Recipe
    folds: Folds
    first: models.TensorModel
    samples: Samples
    device: torch.device


def run(
    config: Recipe,
    folds: Folds,
    folder: RunFolder,
    echo: Callable[[str], None],
    on_epoch: Callable[[int, EpochRow], None] | None = None,
) -> dict[str, Any]:
    """Train and test the recipe's model on every fold, or go on where an earlier call in this folder was stopped.

    Of a fold's training crystals the recipe's share `split.val` is the validation part, drawn by the seed. Several
    seeds are the members of an ensemble in every fold, whose prediction is the mean of theirs.

    Returns:
        The content of metrics.json: `folds`, a list of {fold, n_train, n_val, n_test, mae, rmse, max_error,
        mae_of_mean, val_mae} (of predicting the mean of the training part, and of the validation part; of several
        members their mean), and mean and standard deviation of each but the last.

    Raises:
        ZooError: something that the user can put right.
    """
    with clear_disk_errors(folder.path):
        seed_everything(config.seeds[0])
        first = models.build(config.encoder, config.readout, DIELECTRIC["electronic"])
        device = choose_device(config.device)
        refuse_precision(config.training.precision, device)
        with folder.alone():
            _same_as_before(config, folds, folder)
            ready = _Ready(config, folds, first, _samples(config, folds, first, device, echo), device)
            for number in range(len(folds.folds)):
                _train_fold(ready, number, fold_folder(folder, number), on_epoch)
            return _finish(ready, folder)


def _same_as_before(config: Recipe, folds: Folds, folder: RunFolder) -> None:
    """Remember which crystals and folds a folder is about; at a resumption, see that they are still the same.

    Raises:
        ZooError: they are not: Matbench's data have come or gone in between.
    """
    crystals = folds.crystals
    key = content_key(folds.name, crystals.keys, crystals.indices, [[train, test] for train, test in folds.folds])
    if not folder.provenance.is_file():
        record(folder, config.plugins, data=folds.name, folds=key)
    elif read_json(folder.provenance)["folds"] != key:
        before = read_json(folder.provenance)["data"]
        raise ZooError(f"{folder.path} was begun with folds of {before}, these are others: choose another folder")
    else:
        record_resumption(folder, config.plugins)


def of_index(row: EpochRow) -> EpochRow:
    """Call the validation error of an epoch what it is: that of the refractive index."""
    return {"val_mae_n" if name == "val_mae_ten" else name: value for name, value in row.items()}


def fold_folder(folder: RunFolder, number: int) -> SeedFolder:
    """Return the folder of one fold."""
    return SeedFolder(folder.path / f"fold_{number}")


def _samples(
    config: Recipe, folds: Folds, first: models.TensorModel, device: torch.device, echo: Callable[[str], None]
) -> Samples:
    crystals, encoder = folds.crystals, first.encoder
    echo(f"data      {folds.name}: {len(crystals.keys):,} refractive indices, {len(folds.folds)} folds")
    graphs = GraphStore.build(crystals.structures, encoder.cutoff, crystals.keys, backend=config.graph.backend)
    refuse_unknown_elements(encoder, crystals.keys, graphs)
    embeddings = None
    if first.caches_embeddings:
        embeddings = EmbeddingStore.build(encoder, graphs, device=device, dtype=config.cache.dtype)
        embeddings.precompute(first.readout, encoder, device)
    return Samples(graphs, torch.from_numpy(crystals.indices).float(), encoder, embeddings)


def member_folders(place: SeedFolder, seeds: Sequence[int]) -> list[SeedFolder]:
    """Return the folders of a fold's members; a single member is in the folder of the fold itself."""
    return [place] if len(seeds) == 1 else [SeedFolder(place.path / f"seed_{seed}") for seed in seeds]


def predicted_by_key(folder: RunFolder) -> dict[str, float]:
    """Return the predicted refractive indices of all test crystals of a finished run."""
    fold_numbers = (fold["fold"] for fold in read_json(folder.result)["folds"])
    rows = (row for number in fold_numbers for row in each_row(fold_folder(folder, number).predictions))
    return {row["key"]: float(row["predicted_n"]) for row in rows}


def _train_fold(
    ready: _Ready, number: int, place: SeedFolder, on_epoch: Callable[[int, EpochRow], None] | None
) -> None:
    if place.result.is_file():
        return
    seeds = ready.config.seeds
    members = member_folders(place, seeds)
    for seed, member in zip(seeds, members, strict=True):
        if not member.result.is_file():
            _train_member(ready, number, seed, member, on_epoch)
    if len(members) > 1:
        results = [read_json(member.result) for member in members]
        means = {name: float(np.mean([result[name] for result in results])) for name in ("mae_of_mean", "val_mae")}
        predicted = np.mean([list(_predicted(member)) for member in members], axis=0)
        counts = {name: results[0][name] for name in ("n_train", "n_val", "n_test")}
        _write_result(ready, number, place, predicted, counts, means)


def _train_member(
    ready: _Ready, number: int, seed: int, place: SeedFolder, on_epoch: Callable[[int, EpochRow], None] | None
) -> None:
    config, samples = ready.config, ready.samples
    train_and_val, test = ready.folds.folds[number]
    train, val = train_test_split(train_and_val, test_size=config.split.val, random_state=seed)
    place.path.mkdir(parents=True, exist_ok=True)
    seed_everything(seed)
    model = models.build(config.encoder, config.readout, DIELECTRIC["electronic"])
    if model.frozen:
        model.encoder = ready.first.encoder
    else:
        samples = dataclasses.replace(samples, encoder=model.encoder, embeddings=None)
    known = samples.tensors[train]
    model.fit_normaliser(known.square()[:, None, None] * torch.eye(3))
    model.to(ready.device)

    def batches(part: np.ndarray, shuffled: bool = False) -> Batches:
        return Batches(samples, part.tolist(), config.training, ready.device, seed if shuffled else None)

    def keep(row: EpochRow) -> None:
        append_row(place.history, of_index(row))
        if on_epoch is not None:
            on_epoch(number, row)

    trainer = Trainer(
        TensorLearner(model, config.training.labels.model_dump(), config.encoder.learning_rate, index_errors),
        batches(train, shuffled=True),
        batches(val),
        config.training,
        seed,
        place.path,
        keep,
        f"fold {number}" if len(config.seeds) == 1 else f"fold {number}, seed {seed}",
    )
    restart_history(place, map(of_index, trainer.history.rows))
    trainer.run()
    checksums.seal(place.path, [path.name for path in (place.history, place.best, place.last)])
    tensors, _ = predict_all(model, batches(test))
    predicted = refractive_index(torch.from_numpy(tensors)).numpy().astype(np.float64)
    if not np.isfinite(predicted).all():
        raise ZooError(f"fold {number}: predictions are not finite; lower training.learning_rate")
    counts = {"n_train": len(train), "n_val": len(val), "n_test": len(test)}
    true = ready.folds.crystals.indices[test]
    beside = {
        "mae_of_mean": float(np.abs(true - float(known.double().mean())).mean()),
        "val_mae": min(row["val_mae_ten"] for row in trainer.history.rows),
    }
    _write_result(ready, number, place, predicted, counts, beside)


def _write_result(
    ready: _Ready,
    number: int,
    place: SeedFolder,
    predicted: np.ndarray,
    counts: dict[str, int],
    beside: dict[str, float],
) -> None:
    """Write predictions and, last, the errors of a fold or of one member of it."""
    crystals, test = ready.folds.crystals, ready.folds.folds[number][1]
    true = crystals.indices[test]
    columns = zip(test.tolist(), true.tolist(), predicted.tolist(), strict=True)
    write_rows(place.predictions, [{"key": crystals.keys[i], "true_n": t, "predicted_n": p} for i, t, p in columns])
    write_json(place.result, {"fold": number, **counts, **_errors(predicted, true), **beside})


def _errors(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    difference = predicted - true
    return {
        "mae": float(np.abs(difference).mean()),
        "rmse": float(np.sqrt((difference**2).mean())),
        "max_error": float(np.abs(difference).max()),
    }


def _finish(ready: _Ready, folder: RunFolder) -> dict[str, Any]:
    places = [fold_folder(folder, number) for number in range(len(ready.folds.folds))]
    results = [read_json(place.result) for place in places]
    write_rows(folder.path / "folds.csv", results)
    content: dict[str, Any] = {
        "data": ready.folds.name,
        "encoder": ready.config.encoder.name,
        "readout": ready.config.readout.name,
        "members": len(ready.config.seeds),
        "note": ready.folds.note,
        "folds": results,
    }
    for name in ERRORS:
        values = [result[name] for result in results]
        content[name] = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1))}
    if ready.folds.submit is not None:
        predictions = [np.array(list(_predicted(place)), dtype=np.float64) for place in places]
        content["submission"] = ready.folds.submit(predictions, ready.config, folder.path / "results.json.gz").name
    write_json(folder.result, content)
    return content


def _predicted(place: SeedFolder) -> Iterator[float]:
    return (float(row["predicted_n"]) for row in each_row(place.predictions))
