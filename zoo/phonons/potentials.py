"""Potentials by name: encoders whose energy is read."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.config import plugins
from zoo.config.recipe import Plugin, Recipe
from zoo.contract.plugin import Encoder, Hypers
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
    refuse_without_energy(potential.name, kind, hypers)
    built: Encoder = kind(hypers)
    return built.double().eval().requires_grad_(False)


def refuse_without_energy(name: str, kind: type[Encoder], hypers: Hypers) -> None:
    """Check that an encoder of these settings is a potential.

    Raises:
        ZooError: it is not; the line says why where the weights do, and which encoders are.
    """
    if kind.provides(hypers).energy:
        return
    reason = hypers.without_energy() if isinstance(hypers, ConvertedHypers) else None
    having = ", ".join(with_energy())
    raise ZooError(reason or f"the encoder '{name}' has no energy; those that have: {having} (zoo list)")


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
