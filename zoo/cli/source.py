"""Resolution of the argument SOURCE: a dataset, alone or with settings, a file of the user's own, or a recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from zoo.config import plugins, recipe
from zoo.config.sections import Plugin
from zoo.config.yaml_text import parse_yaml
from zoo.contract.plugin import Dataset
from zoo.contract.target import TensorTarget
from zoo.data.tensors import target_named
from zoo.errors import ZooError, did_you_mean


def open_source(
    source: str, target: str | TensorTarget | None = None, formula: str = "ij=ji"
) -> tuple[str, Dataset, TensorTarget]:
    """Return name, dataset and target of a source: the name of a dataset plugin, a file, or a recipe.

    `{name: NAME, KEY: VALUE, ...}` is a dataset with settings, as in a recipe.
    A `TensorTarget` describes the tensor in a file completely; a name is combined with `formula`.

    Raises:
        ZooError: the source is none of these, or has no such target.
    """
    path = Path(source)
    in_file: dict[str, dict[str, object]] = {target if isinstance(target, str) else "total": {"formula": formula}}
    if isinstance(target, TensorTarget):
        in_file = {part.name: _settings(part) for part in target.parts or (target,)}
        target = target.name
    if source.lstrip().startswith("{"):
        choice = _choice(source)
        name, settings = choice.name, choice.settings
    elif source in plugins.available("dataset"):
        name, settings = source, {}
        if source == "file":
            raise ZooError("for a file of your own, name the file itself")
    elif path.is_file() and path.suffix not in (".yaml", ".yml"):
        name, settings = "file", {"path": source, "targets": in_file}
    elif path.is_file() or path.stem in recipe.shipped():
        config = recipe.read(source)
        name, settings, target = config.dataset.name, config.dataset.settings, target or config.target
    elif path.suffix:
        raise ZooError(f"{source}: no such file")
    else:
        known = [*plugins.available("dataset"), *recipe.shipped()]
        raise ZooError(f"'{source}' is no dataset, file or recipe.{did_you_mean(source, known)}")
    dataset: Dataset = plugins.load("dataset", name)(plugins.hypers("dataset", name, settings))
    targets = dataset.targets()
    if target is None:
        target = "total" if "total" in targets else next(iter(targets))
    shown = str(settings.get("path", source)) if name == "file" else name
    return shown, dataset, target_named(targets, target, source)


def _choice(source: str) -> Plugin:
    """A dataset with its settings.

    Raises:
        ZooError: no YAML, or no mapping with a name.
    """
    try:
        content = parse_yaml(source)
    except ZooError as error:
        raise ZooError(f"'{source}' {error}") from None
    name = content.get("name") if isinstance(content, dict) else None
    if not isinstance(name, str) or not all(isinstance(key, str) for key in content):
        raise ZooError(f"'{source}' names no dataset: write it as '{{name: phonondb2018, path: FOLDER}}'")
    return Plugin(**content)


def _settings(target: TensorTarget) -> dict[str, object]:
    """A tensor as the dataset `file` is told of it."""
    fields = dataclasses.asdict(target)
    return {key: value for key, value in fields.items() if key not in ("name", "parts")}
