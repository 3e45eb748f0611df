"""Compatibility of encoders and readouts."""

from __future__ import annotations

from typing import Any

from zoo.config import plugins
from zoo.config.recipe import Plugin
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.model import tensor_model


def pairs(formula: str = "ij=ji") -> list[dict[str, Any]]:
    """List every pair of installed plugins with default hyperparameters: {encoder, readout, works, reason, caveat}.

    Without those that are nothing by themselves (`wrappers`): which pairs they make is that of what they are made of.
    The reason is that of a pair that does not work; a caveat, what one that does is known to get wrong.

    Raises:
        ZooError: `formula` is no index symmetry.
    """
    try:
        target = TensorTarget("tensor", formula)
        target.irreps  # noqa: B018 - whether e3nn understands the formula
    except Exception as error:  # e3nn raises many kinds
        raise ZooError(f"'{formula}' is no index symmetry such as ij=ji or ijkl=jikl=klij: {error}") from None
    return [
        {
            "encoder": encoder,
            "readout": readout,
            "works": (reason := _why_not(encoder, readout, target)) is None,
            "reason": reason,
            "caveat": _caveat(readout) if reason is None else None,
        }
        for encoder in _single("encoder")
        for readout in _single("readout")
    ]


def wrappers(kind: str) -> list[str]:
    """List the plugins of a kind whose settings must name another plugin that they are made of."""
    return [name for name in plugins.available(kind) if _must_name_another(kind, name)]


def _single(kind: str) -> list[str]:
    left_out = wrappers(kind)
    return [name for name in plugins.available(kind) if name not in left_out]


def _must_name_another(kind: str, name: str) -> bool:
    try:
        fields = plugins.load(kind, name).Hypers.model_fields.values()
    except ZooError:  # told with its pairs
        return False
    return any(field.is_required() and field.annotation is Plugin for field in fields)


def _why_not(encoder: str, readout: str, target: TensorTarget) -> str | None:
    """Say why a pair does not fit or, where it does, what has to be installed for it; None if nothing is missing."""
    try:
        hypers = plugins.hypers("encoder", encoder, {})
        return tensor_model.mismatch(encoder, hypers, readout, target) or plugins.load("encoder", encoder).missing(
            hypers
        )
    except ZooError as error:
        return str(error)
    except Exception as error:  # a stranger's plugin may raise anything; the other pairs are not its fault
        return f"{type(error).__name__}: {error}"


def _caveat(readout: str) -> str | None:
    return "; ".join(dict.fromkeys(plugins.load("readout", readout).violates.values())) or None
