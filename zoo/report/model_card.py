"""The model card: one HTML file beside the weights that says what the model is, how wrong it is, and where it fails.

It stands alone: pictures are in it, no script and nothing from elsewhere. All that comes from data is escaped.
"""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from zoo.config import plugins, recipe
from zoo.config.recipe import Recipe
from zoo.contract.plugin import Encoder
from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.evaluation import error_table
from zoo.graphs.elements import symbols
from zoo.model.checkpoint import Card
from zoo.report.limitations import RunSummary, known_limits
from zoo.report.plots import words_of
from zoo.storage.run_folder import RunFolder, read_json, write_text

if TYPE_CHECKING:  # it calls the card
    from zoo.evaluation.predictions import Predictions

NAME = "card.html"
_WIDTH = 1600  # pixels of a picture, at most
_LEFT_OUT = 100  # records named, of those left out

CAPTIONS = {
    "parity_components": "Predicted against true: the independent components of the test tensors.",
    "parity_polycrystalline": "Predicted against true: a third of the trace.",
    "parity_eigenvalues": "Predicted against true: the eigenvalues, sorted.",
    "parity_moduli": "Predicted against true: bulk and shear modulus (Voigt-Reuss-Hill).",
    "error_by_crystal_system": "Mean absolute error of the components by crystal system.",
    "calibration": "Share of test crystals within their intervals against the promised share; grey: chance.",
}
"""Name of a figure -> what it shows; the order is that of the card."""

_STAGES = {
    "read": "could not be read",
    "target": "lack the target",
    "clean": "have a component out of range",
    "frame": "have a tensor that breaks the symmetry of their structure",
    "duplicate": "are the same crystal as one that was kept",
}


def write(folder: RunFolder, card: Card, crystals: CrystalStore, encoder: Encoder, tested: Predictions) -> Path:
    """Write `card.html` into the model folder of a run.

    Args:
        folder: the run's; its other figures are drawn.
        card: of the registered model; `card.metrics` is what metrics.json will hold.
        crystals: all that the run used.
        encoder: the model's.
        tested: the test part as the registered model answers it.
    """
    seeds = [member.seed for member in card.members]
    split = read_json(folder.seed(seeds[0]).split)
    known = RunSummary(card, crystals, split, tested, read_json(folder.path / "data_report.json"), encoder)
    one_split = len({read_json(folder.seed(seed).split)["seed"] for seed in card.metrics["seeds"]}) == 1
    by_element = element_errors(card.metrics, one_split)
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(resources.files("zoo.report").joinpath("model_card.html").read_text(encoding="utf-8"))
    page = template.render(
        name=card.recipe.registered_name,
        description=card.recipe.description,
        made=card.recipe,
        facts=_facts(card, read_json(folder.provenance)),
        target=card.target,
        members=card.members,
        metrics=card.metrics,
        own=_registered(card)[0],
        seeds=card.metrics["seeds"],
        other_splits=len(card.metrics["seeds"]) > 1 and len(card.members) == 1,
        data=_data(known),
        split=split,
        composition=_composition(known),
        recipe_yaml=recipe.dump(card.recipe),
        errors=_errors(card),
        by_element=_element_rows(by_element, known),
        counted_by_element=bool(by_element),
        one_split=one_split,
        coverage=_coverage(card),
        figures=_figures(folder, seeds),
        limits=known_limits(known),
    )
    path = folder.model / NAME
    write_text(path, page)
    return path


def in_short(config: Recipe, content: Mapping[str, Any]) -> str:
    """One line of Markdown from metrics.json: what the model predicts, by which parts, and how wrong it is."""
    unit = "" if content["unit"] == "1" else f" {content['unit']}"
    entry, how = content["test"]["mae_ten"], "mean ± std over seeds" if len(content["seeds"]) > 1 else "one seed"
    if "ensemble_test" in content:
        entry, how = {"mean": content["ensemble_test"]["mae_ten"], "std": None}, "the ensemble"
    baseline = error_table.cell(content["test_mean_baseline"].get("mae_ten"), "mae_ten")
    return (
        f"**{config.target}** by {config.encoder.name} + {config.readout.name} on {config.dataset.name}. Test error "
        "(MAE of "
        f"the components, {how}): **{error_table.cell(entry, 'mae_ten')}{unit}**; by the mean: {baseline}{unit}."
    )


def element_errors(content: Mapping[str, Any], one_split: bool) -> dict[str, dict[str, float]]:
    """Symbol -> `n` and `mae_ten`, from metrics.json; empty for a run of before it had them.

    Where the seeds have splits of their own, `n` counts the test crystals of all, and a seed weighs as its crystals do.
    """
    found = {}
    for symbol, entry in content.get("per_element", {}).items():
        each = [
            (n, mae)
            for n, mae in zip(entry["n"]["each"], entry["mae_ten"]["each"], strict=True)
            if n and mae is not None
        ]
        count = sum(n for n, _ in each)
        if count:
            mean = sum(n * mae for n, mae in each) / count
            found[symbol] = {"n": each[0][0] if one_split else count, "mae_ten": mean}
    return found


def _facts(card: Card, origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Collect the facts at the head of the card."""
    target, config, content = card.target, card.recipe, card.metrics
    seeds = ", ".join(str(member.seed) for member in card.members)
    if len(card.members) > 1:
        kind = f"ensemble of {len(card.members)} (seeds {seeds}) trained on one split; it answers with their mean"
    elif len(content["seeds"]) > 1:
        kind = (
            f"one model, seed {seeds}: of {len(content['seeds'])} seeds with splits of their own the one of lowest "
            "validation error relative to that of the mean tensor on the same crystals"
        )
    else:
        kind = f"one model, seed {seeds}"
    quantity = f" ({target.quantity})" if target.quantity else ""
    resumed = [_when(again["started"]) for again in origin["resumed"]]
    return [
        ("Predicts", f"{target.name}{quantity}: {_shape(target)}"),
        ("Unit", words_of(target.unit)),
        (
            "Parts",
            f"{config.encoder.name} (encoder) + {config.readout.name} (readout), trained on {config.dataset.name}",
        ),
        ("Model", kind),
        ("Test error", _headline(card)),
        ("Begun", _when(origin["started"]) + (f", last resumed {resumed[-1]}" if resumed else "")),
        ("zoo", f"{origin['zoo']}, git commit {origin['git_commit'] or 'not known (an installed wheel)'}"),
        ("Plugins", "; ".join(f"{kind} {said}" for kind, said in origin["plugins"].items())),
        ("Python", f"{origin['python']}, torch {origin['packages'].get('torch', 'not known')}"),
    ]


def _when(said: str) -> str:
    """A time in ISO 8601, for people."""
    return f"{datetime.fromisoformat(said).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _shape(target: TensorTarget) -> str:
    whose = "an atom" if target.per_atom else "a crystal"
    size = "×".join("3" * target.rank) if target.rank else "scalar"
    count = len(target.independent)
    return f"one {size} tensor {whose}, index symmetry {target.formula}, {count} independent components"


def _headline(card: Card) -> str:
    unit = "" if card.target.unit == "1" else f" {card.target.unit}"
    error, baseline = (
        error_table.cell({"mean": errors["mae_ten"], "std": None}, "mae_ten")
        for errors in (_registered(card)[1], _of_seed(card, "test_mean_baseline"))
    )
    return (
        f"{error}{unit} mean absolute error of the components, of this model; predicting the mean of its training "
        f"tensors gives {baseline}{unit} on the same crystals"
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


def _errors(card: Card) -> error_table.Rows:
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


def _coverage(card: Card) -> error_table.Rows | None:
    """None where answers have no intervals: of a single model, of tensors of atoms."""
    has = "calibration" in card.metrics and not card.target.per_atom
    return error_table.of_coverage(card.metrics["calibration"]) if has else None


def _data(known: RunSummary) -> dict[str, Any]:
    """The data set, how many of its crystals were used, what was left out and why."""
    plugin = plugins.load("dataset", known.card.recipe.dataset.name)
    left_out = known.report["left_out"]
    return {
        "about": inspect.cleandoc(plugin.__doc__ or "").split("\n\n")[0],
        "licence": plugin.licence,
        "used": len(known.crystals),
        "limit": known.report.get("limit"),
        "counts": [(_STAGES.get(stage, stage), n) for stage, n in known.report["counts"].items() if n],
        "left_out": left_out[:_LEFT_OUT],
        "more": max(0, len(left_out) - _LEFT_OUT),
    }


def _composition(known: RunSummary) -> list[tuple[str, list[int]]]:
    """Crystal system -> how many crystals of the training, validation and test part."""
    parts = ("train", "val", "test")
    rows = [(system, [known.systems[part][system] for part in parts]) for system in CRYSTAL_SYSTEMS]
    return [*rows, ("all", [len(known.split[part]) for part in parts])]


def _element_rows(errors: Mapping[str, Mapping[str, float]], known: RunSummary) -> list[tuple[str, int, str, str]]:
    """Symbol, training crystals, test crystals (of atoms' tensors: atoms), MAE; by atomic number."""
    train = known.elements["train"]
    numbers = {symbol: number for number, symbol in enumerate(symbols(np.arange(1, 119)), 1)}
    trained = {symbol for symbol, number in numbers.items() if train[number]}
    rows = []
    for symbol in sorted({*errors, *trained}, key=numbers.__getitem__):
        found = errors.get(symbol)
        tested, mae = ("0", "–") if found is None else (f"{found['n']:.0f}", f"{found['mae_ten']:.3f}")
        rows.append((symbol, train[numbers[symbol]], tested, mae))
    return rows


def _figures(folder: RunFolder, seeds: Sequence[int]) -> dict[str, tuple[str, str]]:
    """Name -> caption and data URI, of the figures that were drawn; of learning curves the registered members'."""
    curves = {
        f"learning_curve_seed_{seed}": f"Error on training and validation part by epoch, seed {seed}." for seed in seeds
    }
    paths = {name: folder.figures / f"{name}.png" for name in (*CAPTIONS, *curves)}
    captions = CAPTIONS | curves
    return {name: (captions[name], _data_uri(path)) for name, path in paths.items() if path.is_file()}


def _data_uri(path: Path) -> str:
    """A picture within the page; 256 colours do, and take a third of the bytes."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((_WIDTH, _WIDTH))
    small = io.BytesIO()
    picture.quantize(256, Image.Quantize.FASTOCTREE).save(small, "PNG")
    return f"data:image/png;base64,{base64.b64encode(small.getvalue()).decode()}"
