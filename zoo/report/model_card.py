"""The model card: one HTML file beside the weights that says what the model is, how wrong it is, and where it fails.

It stands alone: pictures are in it, no script and nothing from elsewhere. All that comes from data is escaped. Numbers
come from `zoo.report.run_summary`, words from `model_card.html`.
"""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from zoo.config import plugins, recipe
from zoo.config.recipe import Recipe
from zoo.contract.plugin import Encoder
from zoo.data.crystals import CrystalStore
from zoo.evaluation import error_table
from zoo.graphs.elements import symbols
from zoo.model.checkpoint import Card
from zoo.report.plots import words_of
from zoo.report.run_summary import RunSummary
from zoo.storage.run_folder import RunFolder, read_json, write_text

if TYPE_CHECKING:  # it calls the card
    from zoo.evaluation.predictions import Predictions

NAME = "card.html"
_WIDTH = 1600  # pixels of a picture, at most

CAPTIONS = {
    "parity_components": "Predicted against true: the independent components of the test tensors.",
    "parity_polycrystalline": "Predicted against true: a third of the trace.",
    "parity_eigenvalues": "Predicted against true: the eigenvalues, sorted.",
    "parity_moduli": "Predicted against true: bulk and shear modulus (Voigt-Reuss-Hill).",
    "error_by_crystal_system": "Mean absolute error of the components by crystal system.",
    "calibration": "Share of test crystals within their intervals against the promised share; grey: chance.",
}
"""Name of a figure -> what it shows; the order is that of the card."""

STAGES = {
    "read": "could not be read",
    "target": "lack the target",
    "clean": "have a component out of range",
    "frame": "have a tensor that breaks the symmetry of their structure",
    "duplicate": "are the same crystal as one that was kept",
}
"""Stage of the preparation of data -> why it leaves out records."""


def write(folder: RunFolder, card: Card, crystals: CrystalStore, encoder: Encoder, tested: Predictions) -> Path:
    """Write `card.html` into the model folder of a run.

    Args:
        folder: folder of the run; its figures are drawn already.
        card: card of the registered model; `card.metrics` is what metrics.json will hold.
        crystals: all crystals that the run used.
        encoder: encoder of the model.
        tested: predictions of the registered model for its test part.
    """
    seeds = [member.seed for member in card.members]
    split = read_json(folder.seed(seeds[0]).split)
    one_split = len({read_json(folder.seed(seed).split)["seed"] for seed in card.metrics["seeds"]}) == 1
    report = read_json(folder.path / "data_report.json")
    dataset = plugins.load("dataset", card.recipe.dataset.name)
    name, errors = _registered(card)
    page = compiled_template().render(
        run=RunSummary(card, crystals, split, tested, report, encoder, one_split),
        card=card,
        config=card.recipe,
        recipe_yaml=recipe.dump(card.recipe),
        target=card.target,
        unit="" if card.target.unit == "1" else f" {card.target.unit}",
        unit_words=words_of(card.target.unit),
        metrics=card.metrics,
        seeds=seeds,
        origin=read_json(folder.provenance),
        own=name,
        error=errors["mae_ten"],
        baseline=_of_seed(card, "test_mean_baseline")["mae_ten"],
        errors=_error_table(card),
        coverage=_coverage_table(card),
        labels=error_table.of_labels(card.metrics),
        figures=figures_of(folder, seeds),
        about=inspect.cleandoc(dataset.__doc__ or "").split("\n\n")[0],
        licence=dataset.licence,
        stages=STAGES,
    )
    path = folder.model / NAME
    write_text(path, page)
    return path


@cache
def compiled_template(name: str = "model_card.html") -> Template:
    """Return the template of a card, by its file here, compiled once: a discovery writes many cards."""
    environment = Environment(
        loader=PackageLoader("zoo.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "date": lambda text: f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "symbols": lambda numbers: ", ".join(symbols(np.array(numbers, dtype=int))),
        "mae": lambda error: error_table.cell({"mean": error, "std": None}, "mae_ten"),
    }
    return environment.get_template(name)


def in_short(config: Recipe, content: Mapping[str, Any]) -> str:
    """One line of Markdown from metrics.json: what the model predicts, by which parts, and how wrong it is."""
    unit = "" if content["unit"] == "1" else f" {content['unit']}"
    entry, how = content["test"]["mae_ten"], "mean ± std over seeds" if len(content["seeds"]) > 1 else "one seed"
    if "ensemble_test" in content:
        entry, how = {"mean": content["ensemble_test"]["mae_ten"], "std": None}, "the ensemble"
    baseline = error_table.cell(content["test_mean_baseline"].get("mae_ten"), "mae_ten")
    error = error_table.cell(entry, "mae_ten")
    return (
        f"**{config.target}** by {config.encoder.name} + {config.readout.name} on {config.dataset.name}. Test error "
        f"(MAE of the components, {how}): **{error}{unit}**; by the mean: {baseline}{unit}."
    )


def _of_seed(card: Card, part: str) -> dict[str, float | None]:
    """Errors of the first member's seed, or of its baseline (`test_mean_baseline`); members share their test part."""
    index = card.metrics["seeds"].index(card.members[0].seed)
    return {name: entry["each"][index] for name, entry in card.metrics[part].items()}


def _registered(card: Card) -> tuple[str, Mapping[str, float | None]]:
    """Return the name of this folder's model in the table, and its test errors."""
    if "ensemble_test" in card.metrics:
        return "ensemble", card.metrics["ensemble_test"]
    return f"this model (seed {card.members[0].seed})", _of_seed(card, "test")


def _error_table(card: Card) -> error_table.Rows:
    """Build the table of `zoo run`; one of several seeds with splits of their own has a row, and so has its baseline.

    The baseline over all seeds is that of other test crystals, so the error of one seed says nothing beside it.
    """
    table = error_table.of_errors(card.metrics)
    if "ensemble_test" in card.metrics or len(card.metrics["seeds"]) == 1:
        return table
    columns = [name for name in error_table.COLUMNS if name in card.metrics["test"]]
    name = f"predicting the mean (seed {card.members[0].seed})"
    own = error_table.one_model(*_registered(card), columns)
    baseline = error_table.one_model(name, _of_seed(card, "test_mean_baseline"), columns)
    return error_table.Rows(table.title, table.header, (*table.rows, own, baseline))


def _coverage_table(card: Card) -> error_table.Rows | None:
    """Build the table of coverage; None where predictions have no intervals (one model, tensors per atom)."""
    has = "calibration" in card.metrics and not card.target.per_atom
    return error_table.of_coverage(card.metrics["calibration"]) if has else None


def figures_of(folder: RunFolder, seeds: Sequence[int]) -> dict[str, tuple[str, str]]:
    """Name -> caption and data URI of the figures that were drawn, with the learning curves of the members."""
    curves = {
        f"learning_curve_seed_{seed}": f"Error on training and validation part by epoch, seed {seed}." for seed in seeds
    }
    drawn = {name: folder.figures / f"{name}.png" for name in (*CAPTIONS, *curves)}
    return {name: ((CAPTIONS | curves)[name], _data_uri(path)) for name, path in drawn.items() if path.is_file()}


def _data_uri(path: Path) -> str:
    """Encode a picture for the page; 256 colours do, and take a third of the bytes."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((_WIDTH, _WIDTH))
    small = io.BytesIO()
    picture.quantize(256, Image.Quantize.FASTOCTREE).save(small, "PNG")
    return f"data:image/png;base64,{base64.b64encode(small.getvalue()).decode()}"
