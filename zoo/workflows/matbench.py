"""Matbench's dielectric task: the refractive index, by a model of the electronic tensor.

Dunn, Wang, Ganose, Dopp, Jain, npj Comput. Mater. 6, 138 (2020). The labels are refractive indices alone, so the
model's tensor is trained by them: the error of a crystal is |n - sqrt(max(tr ε∞ / 3, 1))|. No tensor of these crystals
is looked up elsewhere.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pymatgen.core import Structure
from sklearn.model_selection import KFold, train_test_split
from torch import Tensor

from zoo.config.recipe import Recipe
from zoo.data.petousis2017 import Petousis2017
from zoo.data.pipeline import prepare
from zoo.data.tensors import DIELECTRIC
from zoo.errors import ZooError, clear_disk_errors
from zoo.graphs.crystal import Crystal
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
from zoo.training.trainer import EpochRow, Trainer, predict_all, seed_everything
from zoo.workflows.provenance import record, record_resumption

TASK = "matbench_dielectric"
# Of a fold, and with mean and standard deviation of all; the last is that of predicting the mean.
ERRORS = ("mae", "rmse", "max_error", "mae_of_mean")
FOLD_SEED = 18012019
"""Seed of the five folds where Matbench's own are not at hand; Matbench's were drawn with the same one."""

Source = Literal["auto", "matbench", "petousis2017"]


@dataclass(frozen=True)
class Crystals:
    """Labelled crystals: keys, structures and refractive indices (n,)."""

    keys: list[str]
    structures: Sequence[Structure] | Sequence[Crystal]
    indices: np.ndarray


@dataclass(frozen=True)
class Folds:
    """Crystals, and which of them each fold trains on and is tested on.

    Attributes:
        name: `matbench` or `petousis2017`.
        folds: of each fold the positions of its training and of its test crystals.
        submit: writes the leaderboard's file from every fold's predictions, in the order of its test crystals, and
            returns its path; None where there is no leaderboard for these folds.
    """

    name: str
    crystals: Crystals
    folds: list[tuple[np.ndarray, np.ndarray]]
    submit: Callable[[Sequence[np.ndarray], Recipe, Path], Path] | None = None


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


def open_folds(source: Source, limit: int | None = None, echo: Callable[[str], None] = lambda line: None) -> Folds:
    """Matbench's own folds where package and data are at hand, else five folds of `petousis2017`.

    Args:
        source: `auto` takes Matbench's where it can.
        limit: only the first so many crystals, to try something out; such folds make no submission.
        echo: takes the line that says why Matbench's could not be had.

    Raises:
        ZooError: Matbench's are asked for and cannot be had.
    """
    if source != "petousis2017":
        try:
            return _limited(_matbench(), limit)
        except ZooError as error:
            if source == "matbench":
                raise
            echo(f"not Matbench's own folds: {error}")
    return _limited(_petousis(), limit)


def _limited(folds: Folds, limit: int | None) -> Folds:
    if limit is None:
        return folds
    kept = [(train[train < limit], test[test < limit]) for train, test in folds.folds]
    if any(len(train) < 10 or len(test) < 1 for train, test in kept):
        raise ZooError(f"data.limit {limit} leaves too few crystals for {len(kept)} folds; raise it")
    return dataclasses.replace(folds, folds=kept, submit=None)


def _petousis() -> Folds:
    """n = sqrt(tr ε∞ / 3) of the embedded table's electronic tensors."""
    dataset = Petousis2017(Petousis2017.Hypers())
    ready = prepare(dataset, "electronic", cleaning=None, deduplicate=True, frame=None, on_bad_record="stop")
    found = ready.crystals
    traces = np.array([np.trace(found.tensor(i)) for i in range(len(found))])
    crystals = Crystals(found.keys, found, np.sqrt(traces / 3))
    folds = KFold(5, shuffle=True, random_state=FOLD_SEED).split(crystals.keys)
    return Folds("petousis2017", crystals, list(folds))


def _matbench() -> Folds:
    if importlib.util.find_spec("matbench") is None or importlib.util.find_spec("matminer") is None:
        raise ZooError(
            "the package matbench is not installed. It pins versions from before Python 3.11: "
            "pip install --no-deps matbench && pip install matminer"
        )
    try:
        from matbench.bench import MatbenchBenchmark

        benchmark = MatbenchBenchmark(autoload=False, subset=[TASK])
        task = benchmark.matbench_dielectric
        task.load()
    except Exception as error:  # of matminer's download, of pandas, of versions that do not go together
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ZooError(
            f"the data of {TASK} cannot be had ({reason}): matminer downloads {TASK}.json.gz into its data folder "
            "(environment variable MATMINER_DATA); put the file there on a machine without network"
        ) from error
    frame = task.df
    crystals = Crystals(list(frame.index), list(frame["structure"]), frame["n"].to_numpy(dtype=np.float64))
    position = {key: i for i, key in enumerate(crystals.keys)}

    def positions(inputs: Any) -> np.ndarray:
        return np.array([position[key] for key in inputs.index])

    folds = [
        (positions(task.get_train_and_val_data(k)[0]), positions(task.get_test_data(k, include_target=False)))
        for k in task.folds
    ]

    def submit(predictions: Sequence[np.ndarray], config: Recipe, path: Path) -> Path:
        for number, predicted in zip(task.folds, predictions, strict=True):
            task.record(number, predicted, params={"recipe": config.name})
        benchmark.add_metadata({"algorithm": f"zoo: {config.encoder.name} + {config.readout.name}"})
        benchmark.to_file(str(path))
        return path

    return Folds("matbench", crystals, folds, submit)


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

    Of a fold's training crystals the recipe's share `split.val` is the validation part. One seed, the recipe's first.

    Returns:
        The content of metrics.json: `folds`, a list of {fold, n_train, n_val, n_test, mae, rmse, max_error,
        mae_of_mean} (the last of predicting the mean of the training part), and mean and standard deviation of each.

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


def _train_fold(
    ready: _Ready, number: int, place: SeedFolder, on_epoch: Callable[[int, EpochRow], None] | None
) -> None:
    if place.result.is_file():
        return
    config, samples = ready.config, ready.samples
    train_and_val, test = ready.folds.folds[number]
    seed = config.seeds[0]
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
        model,
        batches(train, shuffled=True),
        batches(val),
        config.training,
        seed,
        place.path,
        keep,
        f"fold {number}",
        config.encoder.learning_rate,
        index_errors,
    )
    restart_history(place, map(of_index, trainer.history.rows))
    trainer.run()
    checksums.seal(place.path, [path.name for path in (place.history, place.best, place.last)])
    tensors, _ = predict_all(model, batches(test))
    predicted = refractive_index(torch.from_numpy(tensors)).numpy().astype(np.float64)
    if not np.isfinite(predicted).all():
        raise ZooError(f"fold {number}: predictions are not finite; lower training.learning_rate")
    true = ready.folds.crystals.indices[test]
    keys = [ready.folds.crystals.keys[i] for i in test]
    columns = zip(keys, true.tolist(), predicted.tolist(), strict=True)
    write_rows(place.predictions, [{"key": key, "true_n": t, "predicted_n": p} for key, t, p in columns])
    counts = {"n_train": len(train), "n_val": len(val), "n_test": len(test)}
    of_mean = float(np.abs(true - float(known.double().mean())).mean())
    write_json(place.result, {"fold": number, **counts, **_errors(predicted, true), "mae_of_mean": of_mean})


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
