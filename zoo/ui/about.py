"""Description of a model on the page: its parts, its training data, and its errors on crystals it had not seen."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from zoo.model.checkpoint import Card


def about(model: str, card: Card) -> Component:
    """One paragraph.

    Args:
        model: what the page calls it.
        card: of it.
    """
    config, target = card.recipe, card.target
    members = f"ensemble of {len(card.members)}" if len(card.members) > 1 else "single model"
    unit = "" if target.unit == "1" else f" {target.unit}"
    parts = [f"{config.encoder.name} + {config.readout.name}, {target.name}, {members}"]
    training = _count(card.metrics.get("n_train"))
    parts.append(f"trained on {f'{training} crystals of ' if training else ''}{config.dataset.name}")
    error = card.metrics.get("ensemble_test") or card.metrics.get("test") or {}
    mean = error.get("mae_ten")
    mean = mean.get("mean") if isinstance(mean, dict) else mean
    if mean is not None:
        tested = _count(card.metrics.get("n_test")) or "0"
        parts.append(f"mean absolute error of a component on {tested} test crystals {mean:.3g}{unit}")
    return html.P([html.Strong(model), ": ", "; ".join(parts), "." + _coverage(card)], className="about")


def _count(number: int | list[int] | None) -> str:
    """Write a number of crystals: members with splits of their own may have different ones."""
    each = number if isinstance(number, list) else [number or 0]
    low, high = min(each, default=0), max(each, default=0)
    return f"{low:,} to {high:,}" if low < high else f"{high:,}" if high else ""


def _coverage(card: Card) -> str:
    """Say how often the 90 % interval held in the test part: the user's measure of what the intervals are worth."""
    found = (card.metrics.get("calibration") or {}).get("test", {})
    for name in ("polycrystalline", "bulk_modulus", "tensor"):
        level = found.get(name, {}).get("levels", {}).get("0.9", {})
        if level.get("covered") is not None:
            what = "tensor" if name == "tensor" else name.replace("_", " ") + (" value" if name[0] == "p" else "")
            return f" The 90 % interval of the {what} held {100 * level['covered']:.0f} % of the test crystals."
    return ""
