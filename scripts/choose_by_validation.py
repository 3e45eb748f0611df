"""Validation errors of many settings of a recipe, by seed: `python scripts/choose_by_validation.py FILE`.

FILE is YAML: `recipe` (name or path), `seeds`, `out` (CSV), `common`, overrides of the recipe that all settings have,
and `settings`, a mapping of a name to its own overrides. A row is written for each setting and seed as it comes; what
is there already is not done again. Nothing is tested here: test errors come from `zoo run` of what was chosen.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from zoo.config import recipe
from zoo.data import pipeline
from zoo.model import tensor_model
from zoo.model.tensor_model import TensorModel
from zoo.runtime.devices import choose_device
from zoo.storage.run_folder import RunFolder
from zoo.training.batches import Batches
from zoo.training.tensor_learner import TensorLearner, predict_all
from zoo.training.trainer import Trainer, seed_everything
from zoo.workflows import train

COLUMNS = ["setting", "seed", "val_mae_ten", "best_epoch", "parameters", "seconds", "parts"]


def main() -> None:
    """Read the file, and go through settings and seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", help="names of settings")
    chosen = parser.parse_args()
    study = yaml.safe_load(chosen.file.read_text())
    out = Path(study["out"])
    done = set()
    if out.is_file():
        with out.open() as file:
            done = {(row["setting"], int(row["seed"])) for row in csv.DictReader(file)}
    else:
        out.write_text(",".join(COLUMNS) + "\n")
    for name, overrides in study["settings"].items():
        seeds = [seed for seed in study["seeds"] if (name, seed) not in done]
        if seeds and (not chosen.only or name in chosen.only):
            _setting(study["recipe"], name, [*study.get("common", []), *(overrides or [])], seeds, out)


def _setting(base: str, name: str, overrides: list[str], seeds: list[int], out: Path) -> None:
    config = recipe.read(base, tuple(overrides))
    target = train.target_of(config)
    device = choose_device(config.device)
    first = tensor_model.build(config.encoder, config.readout, target, config.force_constants.potential)
    with TemporaryDirectory() as scratch:
        prepared = train.prepare(config, target, first, device, RunFolder(Path(scratch)), lambda line: None)
    for seed in seeds:
        begin = time.monotonic()
        model, trainer, validation = trained(prepared, first, seed, name)
        rows = trainer.history.rows
        best = min(rows, key=lambda row: row["val_mae_ten"])
        predicted, true = predict_all(model, validation)
        each = {}
        for part, (one, values) in target.split(predicted).items():
            gap = abs(values - target.split(true)[part][1]).reshape(len(values), -1)[:, list(one.independent)]
            each[part] = f"{part}={gap.mean():.4f}"
        count = sum(p.numel() for p in trainer.parameters)
        line = [name, seed, f"{best['val_mae_ten']:.4f}", int(best["epoch"]), count, f"{time.monotonic() - begin:.0f}"]
        with out.open("a", newline="") as file:
            csv.writer(file).writerow([*line, " ".join(each.values())])


def trained(
    prepared: train.Prepared, first: TensorModel, seed: int, title: str
) -> tuple[TensorModel, Trainer, Batches]:
    """Train a model of the seed's split, with the encoder of `first`, and return the validation part, too."""
    config, samples, crystals = prepared.recipe, prepared.samples, prepared.crystals
    split = pipeline.split(crystals.keys, crystals.formulas, config.split, seed)
    parts = train.parts_of(prepared, split)
    seed_everything(seed)
    model = tensor_model.build(config.encoder, config.readout, prepared.target, config.force_constants.potential)
    model.encoder = first.encoder
    model.fit_normaliser(samples.tensors[samples.rows(parts["train"])])
    model.to(prepared.device)
    more = parts["all"][len(parts["train"]) :]
    training = Batches(samples, parts["train"], config.training, prepared.device, seed, more)
    validation = Batches(samples, parts["val"], config.training, prepared.device, None)
    with TemporaryDirectory() as scratch:
        learner = TensorLearner(model, config.training.labels.model_dump())
        trainer = Trainer(
            learner, training, validation, config.training, seed, Path(scratch), lambda row: None, f"{title} {seed}"
        )
        trainer.run()
    return model, trainer, validation


if __name__ == "__main__":
    main()
