"""A pretraining: a recipe in; a potential, its errors and its card out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from zoo import __version__
from zoo.config.sections import Plugin
from zoo.errors import clear_disk_errors
from zoo.graphs import neighbour_backends
from zoo.graphs.elements import symbols_of
from zoo.pretraining import potential_card, reference_energies, trained_potential
from zoo.pretraining.labelled_batches import LabelledSamples
from zoo.pretraining.labelled_data import LabelledData, prepare
from zoo.pretraining.potential_loss import PotentialLearner, in_units, predictions
from zoo.pretraining.pretraining_config import Pretraining, parse
from zoo.pretraining.pretraining_folder import PretrainingFolder
from zoo.pretraining.trained_potential import TrainedPotential, dtype_of
from zoo.runtime.devices import choose_device
from zoo.runtime.distributed import first_goes_first, is_first, wait
from zoo.storage import checksums
from zoo.storage.cache import content_key
from zoo.storage.run_folder import append_row, read_json, restart_history, write_json
from zoo.storage.weights import Weights, save_weights, sha256_of
from zoo.training.precision import refuse_precision
from zoo.training.trainer import EpochRow, Trainer, seed_everything
from zoo.workflows import provenance

Echo = Callable[[str], None]
Answers = dict[str, tuple[np.ndarray, np.ndarray]]
"""By label predicted and true numbers, flat, in eV and Å."""

EDGES_AT_ONCE = 20_000  # when a potential is only evaluated


def pretrain(
    config: Pretraining, folder: PretrainingFolder, echo: Echo, on_epoch: Callable[[EpochRow], None] | None = None
) -> dict[str, Any]:
    """Train the potential that a recipe describes, or go on where an earlier call in the same folder was stopped.

    In several processes (`zoo.runtime.distributed`) all call this alike; the first one writes.

    Args:
        config: the recipe.
        folder: where everything goes.
        echo: takes the lines that tell what is going on.
        on_epoch: told of every epoch.

    Returns:
        The content of metrics.json.

    Raises:
        ZooError: something that the user can put right.
    """
    with clear_disk_errors(folder.path):
        device = choose_device(config.device)
        refuse_precision(config.training.precision, device)
        neighbour_backends.choose(config.graph.backend)  # what is missing is said before any data are read
        seed_everything(config.seed)
        potential = trained_potential.build(config.encoder, config.width, device, dtype_of(config.dtype))
        with folder.alone() if is_first() else nullcontext():
            with first_goes_first():
                data = prepare(config, potential.encoder, not potential.own, echo)
                if potential.head is not None:
                    reference_energies.start(potential, potential.head, data.samples, data.all_train)
                if is_first():
                    _begin(config, folder, data)
            words = "its own energy is tuned" if potential.own else f"an energy of width {config.width} is put on it"
            numbers = sum(p.numel() for p in potential.parameters() if p.requires_grad)
            echo(f"encoder   {config.encoder.name}: {words}, {numbers:,} parameters")
            echo(f"split     {len(data.all_train):,} crystals to train on, {len(data.val):,} to validate on")
            history = _train(config, folder, potential, data, device, on_epoch)
            content = _finish(config, folder, potential, data, history, device) if is_first() else {}
            wait()
            return content or read_json(folder.result)


def _begin(config: Pretraining, folder: PretrainingFolder, data: LabelledData) -> None:
    """Write down recipe, code and data, or check that they are those of the earlier call."""
    known = content_key(data.samples.crystals.key, data.train, data.val)
    provenance.begin(folder, config, parse, {"data": known})
    write_json(folder.report, data.report)
    write_json(folder.training.split, {"train": data.keys(data.all_train), "val": data.keys(data.val)})


def _train(
    config: Pretraining,
    folder: PretrainingFolder,
    potential: TrainedPotential,
    data: LabelledData,
    device: torch.device,
    on_epoch: Callable[[EpochRow], None] | None,
) -> list[EpochRow]:
    """Train to the end; leaves the best weights in the potential, and returns the history."""

    def keep(row: EpochRow) -> None:
        append_row(folder.training.history, row)
        if on_epoch is not None:
            on_epoch(row)

    train, val = data.batches(config, device)
    learner, settings = PotentialLearner(potential, config.loss), config.training
    trainer = Trainer(learner, train, val, settings, config.seed, folder.path, keep, warm_up=settings.warm_up)
    if is_first():
        restart_history(folder.training, trainer.history.rows)
    trainer.run()
    return trainer.history.rows


def _finish(
    config: Pretraining,
    folder: PretrainingFolder,
    potential: TrainedPotential,
    data: LabelledData,
    history: list[EpochRow],
    device: torch.device,
) -> dict[str, Any]:
    """Write the weights, ask the file as anybody would, and write down how wrong it is."""
    place = folder.training
    checksums.seal(folder.path, [path.name for path in (place.history, place.best, place.last)])
    elements = data.elements()
    weights, name = potential.weights(elements), base_of(config.encoder).name
    about: dict[str, Any] = {
        "name": config.name,
        "encoder": config.encoder.model_dump(mode="json"),
        "kind": "own" if potential.own else "head",
        "width": None if potential.own else config.width,
        "zoo": __version__,
        "sources": [
            {key: account[key] for key in ("source", "licence", "used", "twins_left_out")}
            for account in data.report["sources"]
        ],
        "n_train": len(data.all_train),
        "n_val": len(data.val),
        "epochs": len(history),
        "best_epoch": int(min(history, key=lambda row: row["val_loss"])["epoch"]),
    }
    save_weights(name, Weights(weights.tensors, {**weights.metadata, "pretraining": about}), folder.weights)
    own = base_of(config.encoder).settings
    named = Plugin(**{**own, "name": name, "weights": str(folder.weights)})
    found = _answers_of(config, named, data, device)
    about["val"] = in_units(errors_of(found))
    if potential.own:
        about["val_before"] = in_units(errors_of(_answers_of(config, config.encoder, data, device)))
    save_weights(name, Weights(weights.tensors, {**weights.metadata, "pretraining": about}), folder.weights)
    checksums.seal(folder.path, [folder.weights.name])
    content = {
        **about,
        "elements": sorted(symbols_of(elements)),
        "weights": {"sha256": sha256_of(folder.weights), "bytes": folder.weights.stat().st_size},
    }
    potential_card.parity(found, folder.parity)
    potential_card.write(folder.card, content, config.dump(), folder.parity)
    write_json(folder.result, content)
    return content


def base_of(choice: Plugin) -> Plugin:
    """The encoder that weights belong to: the one within `pretrained`, else the one that is named."""
    return Plugin(**choice.settings["encoder"]) if choice.name == "pretrained" else choice


def _answers_of(config: Pretraining, choice: Plugin, data: LabelledData, device: torch.device) -> Answers:
    """Predictions of an encoder's own potential for the validation part, and the labels."""
    potential = trained_potential.build(choice, config.width, device, dtype_of(config.dtype))
    return answers(potential, data.samples, data.val, device)


def answers(potential: TrainedPotential, samples: LabelledSamples, indices: list[int], device: torch.device) -> Answers:
    """Predictions of a potential for crystals, and their labels, by label; on this process alone."""
    potential.eval()
    pieces: list[list[int]] = [[]]
    edges = 0
    for index in indices:
        edges += int(samples.graphs.n_edges[index])
        if pieces[-1] and edges > EDGES_AT_ONCE:
            pieces.append([])
            edges = int(samples.graphs.n_edges[index])
        pieces[-1].append(index)
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for piece in pieces:
        batch = samples.batch(samples.load(piece, np.zeros(0), {}), device)
        for name, (predicted, true) in predictions(potential, batch, create_graph=False).items():
            parts.setdefault(name, []).append((predicted.detach().cpu().numpy(), true.cpu().numpy()))
    return {
        name: (np.concatenate([p for p, _ in found]), np.concatenate([t for _, t in found]))
        for name, found in parts.items()
    }


def errors_of(found: Answers) -> dict[str, float]:
    """By label the mean absolute error."""
    return {name: float(np.abs(predicted - true).mean()) for name, (predicted, true) in found.items()}
