"""Resolution of the argument SOURCE: a dataset, with settings or a target, a file of the user's own, or a recipe."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

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

    `{name: NAME, KEY: VALUE, ...}` is a dataset with settings, as in a recipe; `{dataset: SOURCE, target: NAME}`, here
    or in a YAML file, is one of its tensors.
    A `TensorTarget` describes the tensor in a file completely; a name is combined with `formula`.

    Raises:
        ZooError: the source is none of these, or has no such target.
    """
    path, wanted = Path(source), target
    in_file: dict[str, dict[str, object]] = {target if isinstance(target, str) else "total": {"formula": formula}}
    if isinstance(target, TensorTarget):
        in_file = {part.name: _settings(part) for part in target.parts or (target,)}
        target = target.name
    if source.lstrip().startswith("{"):
        content = _mapping(source)
        if "dataset" in content and "name" not in content:
            return _open_target(content, source, wanted, formula)
        choice = _choice(content, source)
        name, settings = choice.name, choice.settings
    elif source in plugins.available("dataset"):
        name, settings = source, {}
        if source == "file":
            raise ZooError("for a file of your own, name the file itself")
    elif path.is_file() and path.suffix not in (".yaml", ".yml"):
        name, settings = "file", {"path": source, "targets": in_file}
    elif path.is_file() or path.stem in recipe.shipped():
        content, where = recipe.read_content(source)
        if content.keys() <= {"dataset", "target"}:
            return _open_target(content, where, wanted, formula)
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


def _open_target(
    content: dict[str, Any], where: str, target: str | TensorTarget | None, formula: str
) -> tuple[str, Dataset, TensorTarget]:
    """Open {dataset: ..., target: ...}: a dataset by its name, with settings or as a file, and a tensor of it.

    Raises:
        ZooError: another key, no dataset, or as `open_source`.
    """
    unknown = next((key for key in content if key not in ("dataset", "target")), None)
    if unknown is not None:
        nearest = did_you_mean(str(unknown)[:40], ("dataset", "target"))
        raise ZooError(f"{where}: unknown key '{unknown!s:.40}'.{nearest}")
    dataset, named = content.get("dataset"), content.get("target")
    if not isinstance(dataset, str | dict) or not isinstance(named, str | None):
        raise ZooError(f"{where}: write it as '{{dataset: NAME or FILE, target: NAME}}'")
    if isinstance(target, TensorTarget) and named is not None:
        known = [target.name, *(part.name for part in target.parts)]
        if named not in known:
            raise ZooError(f"{where}: the model predicts {', '.join(dict.fromkeys(known))}, not '{named[:40]}'")
    source = dataset if isinstance(dataset, str) else json.dumps(dataset)
    return open_source(source, named if target is None else target, formula)


def _mapping(source: str) -> dict[str, Any]:
    """Read a mapping that is written on the command line.

    Raises:
        ZooError: no YAML, or no mapping.
    """
    try:
        content = parse_yaml(source)
    except ZooError as error:
        raise ZooError(f"'{source}' {error}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ZooError(_no_dataset(source))
    return content


def _choice(content: dict[str, Any], source: str) -> Plugin:
    """A dataset with its settings.

    Raises:
        ZooError: it has no name.
    """
    if not isinstance(content.get("name"), str):
        raise ZooError(_no_dataset(source))
    return Plugin(**content)


def _no_dataset(source: str) -> str:
    return f"'{source}' names no dataset: write it as '{{name: phonondb2018, path: FOLDER}}'"


def _settings(target: TensorTarget) -> dict[str, object]:
    """A tensor as the dataset `file` is told of it."""
    fields = dataclasses.asdict(target)
    return {key: value for key, value in fields.items() if key not in ("name", "parts")}
