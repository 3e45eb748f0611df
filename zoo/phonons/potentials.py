"""Potentials by name: encoders whose energy is read."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.config import plugins
from zoo.config.recipe import Plugin, Recipe
from zoo.contract.plugin import Encoder
from zoo.contract.pretrained import ConvertedHypers
from zoo.errors import ZooError
from zoo.storage.cache import content_key


def chosen(config: Recipe) -> tuple[Plugin, ...]:
    """The potentials that a recipe's force constants are the mean of: those that it names, else its encoder."""
    named = config.force_constants.potential
    if named is None:
        return (Plugin(name=config.encoder.name, **config.encoder.settings),)
    return named if isinstance(named, tuple) else (named,)


def build(potential: Plugin) -> Encoder:
    """Build an encoder of its own, frozen, in float64 and in eval mode, whose energy can be asked for.

    Raises:
        ZooError: there is no such encoder, it refuses a setting, its weights are not here, or it has no energy.
    """
    kind = plugins.load("encoder", potential.name)
    hypers = plugins.hypers("encoder", potential.name, potential.settings)
    if not kind.provides(hypers).energy:
        reason = hypers.without_energy() if isinstance(hypers, ConvertedHypers) else None
        having = ", ".join(with_energy())
        raise ZooError(reason or f"the encoder '{potential.name}' has no energy; those that have: {having} (zoo list)")
    built: Encoder = kind(hypers)
    return built.double().eval().requires_grad_(False)


def fingerprint(potentials: Sequence[Encoder]) -> str:
    """Identifies the mean of the potentials' force constants."""
    each = [potential.energy_fingerprint() for potential in potentials]
    return each[0] if len(each) == 1 else content_key(each)


def with_energy() -> list[str]:
    """Names of the encoders that have an energy, with their default settings."""
    return [name for name in plugins.available("encoder") if _has_energy(name)]


def _has_energy(name: str) -> bool:
    try:
        kind = plugins.load("encoder", name)
        return bool(kind.provides(plugins.hypers("encoder", name, {})).energy)
    except Exception:  # a stranger's plugin may raise anything
        return False
