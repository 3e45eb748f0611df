"""The card of a refitted model: what it was trained on, and how wrong the folds of its cross-validation were."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.config import plugins, recipe
from zoo.evaluation import error_table
from zoo.graphs.elements import symbols
from zoo.model.checkpoint import Card
from zoo.report import model_card
from zoo.report.plots import words_of
from zoo.storage.run_folder import RunFolder, read_json

LAST_ELEMENT = 94  # plutonium


def page(folder: RunFolder, card: Card) -> str:
    """Return the card as HTML; the figures of the folder are drawn already."""
    choices = [card.recipe.dataset, *card.recipe.auxiliary]
    datasets = {choice.name: plugins.load("dataset", choice.name) for choice in choices}
    encoder = plugins.load("encoder", card.recipe.encoder.name)
    return model_card.compiled_template("refit_card.html").render(
        card=card,
        config=card.recipe,
        content=card.metrics,
        recipe_yaml=recipe.dump(card.recipe),
        unit_words=words_of(card.target.unit),
        errors=error_rows(card.metrics, card.target.main.name),
        coverage={
            name: error_table.of_coverage(own["calibration"]).rows
            for name, own in {card.target.main.name: card.metrics, **card.metrics.get("parts", {})}.items()
        },
        levels=[f"{100 * level:.0f} %" for level in (0.5, 0.68, 0.8, 0.9, 0.95)],
        sources={
            name: (inspect.cleandoc(one.__doc__ or "").split("\n\n")[0], one.licence) for name, one in datasets.items()
        },
        encoder=inspect.cleandoc(encoder.__doc__ or "").split("\n\n")[0],
        unseen=", ".join(symbols(np.array([z for z in range(1, LAST_ELEMENT + 1) if z not in card.elements], int))),
        origin=read_json(folder.provenance),
        figures=model_card.figures_of(folder, []),
    )


def error_rows(content: Mapping[str, Any], main: str) -> list[tuple[str, ...]]:
    """Rows of MAE_ten: tensor, single models, ensembles, and predicting the mean; mean ± std over the folds."""
    rows = []
    for name, own in {**content.get("parts", {}), main: content}.items():
        each = (own[key]["mae_ten"] for key in ("test_members", "test", "test_mean_baseline"))
        rows.append((name, *[error_table.cell(entry, "mae_ten") for entry in each]))
    return rows
