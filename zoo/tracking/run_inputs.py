"""Datasets of a run in MLflow: each part of the split, and each auxiliary source, as an input with its context."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from zoo.config.recipe import Plugin, Recipe
from zoo.storage.cache import content_key
from zoo.storage.run_folder import RunFolder, read_json

CONTEXTS = {"train": "train", "val": "validation", "test": "test"}
"""Part of a split -> context of the input."""


def dataset_input(name: str, digest: Any, context: str, source: Mapping[str, Any], **profile: Any) -> DatasetInput:
    """Describe an input as MLflow keeps it: no crystal is in it.

    Args:
        name: of the dataset.
        digest: what identifies the crystals, of any kind; its hash is shown.
        context: train, validation or test.
        source: where the crystals come from, as `source_of` returns it.
        profile: counts; `num_rows` is what MLflow shows.
    """
    kind = "local" if "uri" in source else "code"
    shown = Dataset(name, content_key(digest)[:12], kind, json.dumps(source), profile=json.dumps(profile))
    return DatasetInput(shown, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def source_of(choice: Plugin, origin: str | None = None) -> dict[str, Any]:
    """Say where a dataset's crystals come from: its file, else its plugin with its settings, as MLflow names code.

    Args:
        choice: the dataset of a recipe.
        origin: the plugin's distribution and version, where it is known.
    """
    if isinstance(path := choice.settings.get("path"), str):
        return {"uri": path}
    return {"tags": {"mlflow.source.name": origin or choice.name, **choice.settings}}


def name_of(choice: Plugin) -> str:
    """The dataset's name, or that of the file that it reads."""
    path = choice.settings.get("path")
    return Path(path).name if choice.name == "file" and isinstance(path, str) else choice.name


def inputs_of_seed(folder: RunFolder, config: Recipe, seed: int) -> list[DatasetInput]:
    """The three parts of a seed's split, and what else it is trained on."""
    split = read_json(folder.seed(seed).split)
    parts = {part: split[part] for part in CONTEXTS}
    return [*_parts(folder, config, parts, split["seed"]), *_auxiliary(folder, config)]


def inputs_of_run(folder: RunFolder, config: Recipe) -> list[DatasetInput]:
    """The inputs of all seeds together: their parts where they share a split, else the dataset as a whole."""
    splits = [read_json(folder.seed(seed).split) for seed in config.seeds]
    if len({split["seed"] for split in splits}) == 1:
        return inputs_of_seed(folder, config, config.seeds[0])
    everything = {"all": [key for part in CONTEXTS for key in splits[0][part]]}
    return [*_parts(folder, config, everything, None), *_auxiliary(folder, config)]


def inputs_of_refit(folder: RunFolder, config: Recipe, keys: Sequence[str]) -> list[DatasetInput]:
    """The inputs of a refit: all crystals of its dataset, by their keys, are trained on."""
    return [*_parts(folder, config, {"train": keys}, None), *_auxiliary(folder, config)]


def _parts(
    folder: RunFolder, config: Recipe, parts: Mapping[str, Sequence[str]], split_seed: int | None
) -> Iterator[DatasetInput]:
    origin, report = read_json(folder.provenance), read_json(folder.path / "data_report.json")
    # Runs of before run.json described the datasets know a hash of crystals and graphs together.
    known = origin.get("datasets", [{"key": origin["data"]}])[0]
    source = source_of(config.dataset, origin["plugins"].get("dataset"))
    profile = {"target": config.target, "used": report["used"], **_licence(known)}
    profile |= {f"left_out_{stage}": count for stage, count in report["counts"].items() if count}
    if split_seed is not None:
        profile |= {"split": config.split.kind, "split_seed": split_seed}
    for part, keys in parts.items():
        digest, context = [known["key"], sorted(keys)], CONTEXTS.get(part, part)
        yield dataset_input(name_of(config.dataset), digest, context, source, num_rows=len(keys), **profile)


def _auxiliary(folder: RunFolder, config: Recipe) -> Iterator[DatasetInput]:
    """Inputs of the auxiliary sources, twins of held-out crystals included; none for runs of before run.json had them.

    How many crystals a seed trains on without these is its parameter `n_auxiliary`.
    """
    known = read_json(folder.provenance).get("datasets", [])[1:]
    for choice, one in zip(config.auxiliary, known, strict=False):
        profile = {"num_rows": one["crystals"], "auxiliary": True, **_licence(one)}
        yield dataset_input(name_of(choice), one["key"], "train", source_of(choice), **profile)


def _licence(known: Mapping[str, Any]) -> dict[str, str]:
    return {"licence": known["licence"]} if "licence" in known else {}
