"""The card of a potential: one page about what it was trained on and how wrong it is, with its parity plot."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from zoo.report.plots import STYLE
from zoo.storage.run_folder import write_text

PANELS = {
    "energy": ("Energy", "eV an atom"),
    "atomic_energies": ("Energies of atoms", "eV"),
    "forces": ("Forces", "eV/Å"),
    "stress": ("Stress", "eV/Å³"),
    "force_constants": ("Force constants, Φv", "eV/Å²"),
}
"""Label -> title and unit of its panel."""
MOST_POINTS = 20_000
"""Points of a panel; of more, evenly chosen ones are drawn."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ about.name }}</title>
<style>body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}td,th{padding:.2em 1em .2em 0;
text-align:left}img{max-width:100%}pre{background:#f4f4f4;padding:1em;overflow-x:auto}</style>
<h1>{{ about.name }}</h1>
<p>An interatomic potential of the encoder {{ about.encoder.name }}:
{% if about.kind == "own" %}its own energy, tuned{% else %}an energy of width {{ about.width }} put on its invariant
features, trained with it{% endif %}. Trained with zoo {{ about.zoo }} on {{ about.n_train }} crystals, validated on
{{ about.n_val }} of other formulas; epoch {{ about.best_epoch }} of {{ about.epochs }} was the best.</p>
<h2>Mean absolute errors of the validation part</h2>
<table><tr><th></th><th>this potential</th>{% if before %}<th>before</th>{% endif %}</tr>
{% for name, error in about.val.items() %}<tr><td>{{ name }}</td><td>{{ "%.4g" | format(error) }}</td>
{% if before %}<td>{{ "%.4g" | format(before[name]) }}</td>{% endif %}</tr>
{% endfor %}</table>
<p><img alt="predicted against true labels" src="{{ picture }}"></p>
<h2>Sources</h2>
<ul>{% for one in about.sources %}<li>{{ one.source.name }}{% if one.source.path %} ({{ one.source.path }}){% endif %}:
{{ one.used }} crystals, {{ one.twins_left_out }} twins of held-out crystals left out; licence: {{ one.licence }}</li>
{% endfor %}</ul>
<p>Elements: {{ about.elements | join(", ") }}.</p>
<p>SHA-256 of potential.safetensors ({{ about.weights.bytes }} bytes): {{ about.weights.sha256 }}</p>
<h2>Recipe</h2><pre>{{ recipe }}</pre></html>
"""


def parity(answers: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> Path:
    """Draw predictions against labels, a panel for each kind.

    Args:
        answers: by label predicted and true numbers, flat.
        path: of the PNG.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.6 * len(answers), 3.9), layout="constrained")
        for (name, (predicted, true)), axes in zip(
            answers.items(), figure.subplots(1, len(answers), squeeze=False)[0], strict=True
        ):
            title, unit = PANELS[name]
            drawn = np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).astype(int)
            middle = float(true.mean())
            axes.axline((middle, middle), slope=1, color="#777777", linewidth=0.8)
            axes.scatter(true[drawn], predicted[drawn], s=5, alpha=0.4, linewidths=0, color="#0072B2")
            axes.set_title(f"{title}\nMAE {np.abs(predicted - true).mean():.3g} {unit}, n = {len(true):,}")
            axes.set(xlabel=f"true ({unit})", ylabel=f"predicted ({unit})")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    return path


def write(path: Path, about: Mapping[str, Any], recipe: str, picture: Path) -> None:
    """Write the card; all that comes from data is escaped, the picture is in it.

    Args:
        path: of the page.
        about: content of metrics.json.
        recipe: as YAML.
        picture: the parity plot.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    encoded = base64.b64encode(picture.read_bytes()).decode()
    page = environment.from_string(PAGE).render(
        about=about, before=about.get("val_before"), recipe=recipe, picture=f"data:image/png;base64,{encoded}"
    )
    write_text(path, page)
