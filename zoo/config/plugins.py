"""Discovery of plugins through entry points; a plugin is imported only when a recipe names it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from zoo.contract.discovery import Acquisition, Objective, Oracle
from zoo.contract.plugin import Dataset, Encoder, Hypers, Readout
from zoo.errors import ZooError, did_you_mean, explain_validation

BASES: dict[str, type] = {
    "encoder": Encoder,
    "readout": Readout,
    "dataset": Dataset,
    "objective": Objective,
    "acquisition": Acquisition,
    "oracle": Oracle,
}
GROUPS: dict[str, str] = {kind: f"zoo.{kind}s" for kind in BASES}


@cache
def registered(kind: str) -> dict[str, list[EntryPoint]]:
    """Return all entry points of a kind (`encoder`, `objective`, ...) by name; nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUPS[kind]), key=lambda point: point.name):
        found.setdefault(point.name, []).append(point)
    return found


def available(kind: str) -> dict[str, EntryPoint]:
    """Return the entry point of each plugin of a kind by name; nothing is imported."""
    return {name: points[-1] for name, points in registered(kind).items()}


def origin(point: EntryPoint) -> str:
    """Return the `distribution version` that an entry point belongs to."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def load(kind: str, name: str) -> Any:
    """Import and return the class of a plugin.

    Raises:
        ZooError: there is none of that name, or two, or its module cannot be imported.
    """
    points = available(kind)
    if name not in points:
        raise ZooError(f"there is no {kind} '{name}'.{did_you_mean(name, points)} (zoo list)")
    rivals = {point.value for point in registered(kind)[name]}
    if len(rivals) > 1:
        raise ZooError(f"two packages register the {kind} '{name}': {' and '.join(sorted(rivals))}; uninstall one")
    try:
        plugin = points[name].load()
    except Exception as error:  # a stranger's module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ZooError(f"{kind} '{name}' of {origin(points[name])} cannot be imported ({reason})") from error
    if not (isinstance(plugin, type) and issubclass(plugin, BASES[kind])):
        raise ZooError(f"{kind} '{name}' of {origin(points[name])} is no subclass of zoo.api.{BASES[kind].__name__}")
    return plugin


def hypers(kind: str, name: str, settings: dict[str, Any]) -> Hypers:
    """Validate the settings of a plugin in a recipe and return its hyperparameters.

    Raises:
        ZooError: a key that the plugin does not know, or a value that it refuses.
    """
    model: type[Hypers] = load(kind, name).Hypers
    try:
        return model(**settings)
    except ValidationError as error:
        raise ZooError(explain_validation(error, model, f"{kind} '{name}'")) from None


def on_weights(choice: dict[str, Any]) -> dict[str, Any]:
    """Read the choice of an encoder with weights of `zoo pretrain`, if it takes none itself, as `pretrained` of it.

    Of a choice that was read before, settings that came later (a sweep's `encoder.layer`) are the inner encoder's.
    Any other choice stays as it is.
    """
    name = choice.get("name")
    if not isinstance(name, str) or name not in available("encoder"):
        return choice
    inner: dict[str, Any] = {"name": name}
    if name == "pretrained":
        if not isinstance(choice.get("encoder"), dict):
            return choice
        inner = choice["encoder"]
    elif "weights" in load("encoder", name).Hypers.model_fields:
        return choice
    kept: dict[str, Any] = {key: choice[key] for key in ("weights", "trainable", "learning_rate") if key in choice}
    settings = {key: value for key, value in choice.items() if key not in ("name", "encoder", *kept)}
    return {"name": "pretrained", "encoder": {**inner, **settings}, **kept}


def versions(names: dict[str, str]) -> dict[str, str]:
    """Return `{kind: "name (distribution version)"}` for the plugins of a recipe."""
    return {kind: f"{name} ({origin(available(kind)[name])})" for kind, name in names.items()}


def extras_of(point: EntryPoint) -> list[str]:
    """Return the extra of a plugin's distribution that has its name, which a machine must install to run it."""
    extras = point.dist.metadata.get_all("Provides-Extra", []) if point.dist else []
    return [extra for extra in extras if extra == point.name]
