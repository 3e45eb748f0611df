"""The card of a trained model: what it says is what was measured, and nothing in it comes from elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from pymatgen.core import Element

from zoo.config import plugins
from zoo.data import pipeline
from zoo.evaluation import error_table
from zoo.evaluation.predictions import read_predictions
from zoo.graphs.elements import symbols
from zoo.model import checkpoint
from zoo.report import model_card
from zoo.storage.run_folder import RunFolder, read_json, write_json

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tables as rows of text, the limits by title, and whatever would fetch or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.limits: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "dt":
            self.limits.append(["", ""])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] in ("dt", "dd"):
            self.limits[-1][self.open[-1] == "dd"] += data

    def table(self, name: str) -> list[list[str]]:
        """The one whose header holds a name."""
        return next(table for table in self.tables if name in table[0])

    def limit(self, title: str) -> str:
        """What is said of a limit."""
        return dict(self.limits)[title]


def page_of(folder: RunFolder) -> Page:
    return Page((folder.model / model_card.NAME).read_text(encoding="utf-8"))


@pytest.fixture
def page(trained: Path) -> Page:
    return page_of(RunFolder(trained / "run"))


@pytest.fixture
def again(trained: Path, tmp_path: Path) -> Callable[..., Page]:
    """Write the card of a copy of the run, after changes to its files (`report`) or to what is known of the model."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(trained / "run", folder.path)
    card, members = checkpoint.load(folder.model)
    config = card.recipe
    dataset = plugins.load("dataset", config.dataset.name)(plugins.hypers("dataset", config.dataset.name, {}))
    ready = pipeline.prepare(
        dataset,
        config.target,
        cleaning=config.data.cleaning,
        deduplicate=True,
        frame=config.data.frame,
        on_bad_record="stop",
    )
    crystals = ready.crystals.select(range(config.data.limit))
    tested = read_predictions(folder.model / "predictions.csv", "test", card.target)

    def write(report: dict[str, Any] | None = None, **changes: Any) -> Page:
        if report is not None:
            path = folder.path / "data_report.json"
            write_json(path, read_json(path) | report)
        model_card.write(folder, dataclasses.replace(card, **changes), crystals, members[0].encoder, tested)
        return page_of(folder)

    write.card = card  # type: ignore[attr-defined]
    return write


def test_the_registered_version_has_the_card_and_says_so(trained: Path) -> None:
    uri = f"sqlite:///{trained / 'mlflow.db'}"
    with contextlib.chdir(trained):
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(tracking_uri=uri)
        version = client.get_model_version("small-total", "1")
        listed = mlflow.artifacts.list_artifacts(artifact_uri="models:/small-total/1/artifacts/model", tracking_uri=uri)
        assert "artifacts/model/card.html" in {item.path for item in listed}
        place_of = mlflow.artifacts.download_artifacts("models:/small-total/1/artifacts/model/card.html")
    assert Path(place_of).read_bytes() == (trained / "run" / "model" / "card.html").read_bytes()
    error = read_json(trained / "run" / "metrics.json")["test"]["mae_ten"]
    assert f"{error['mean']:.3f} ± {error['std']:.3f}" in version.description
    assert "artifacts/model/card.html" in version.description


def test_it_stands_alone(page: Page, trained: Path) -> None:
    assert not page.tags & {"script", "link", "iframe", "a", "object", "form"}
    assert len(page.sources) >= 5 and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert (trained / "run" / "model" / "card.html").stat().st_size < 2_000_000


def test_its_errors_are_those_of_metrics_json(page: Page, trained: Path) -> None:
    content = read_json(trained / "run" / "metrics.json")
    header, *rows = page.table("MAE_ten")
    column = {name: header.index(title) for name, title in error_table.COLUMNS.items() if title in header}
    shown = {row[0]: row for row in rows}
    for system, values in {"all": content["test"], **content["per_crystal_system"]}.items():
        assert shown[system][1] == f"{values['n']['mean']:.0f}"
        for name in ("mae_ten", "frobenius"):
            entry = values[name]
            spread = "" if entry["std"] is None else f" ± {entry['std']:.3f}"
            assert shown[system][column[name]] == f"{entry['mean']:.3f}{spread}"
    # Two seeds with splits of their own: the one that is kept has a row, and is named.
    kept = checkpoint.read_card(trained / "run" / "model").members[0].seed
    index = content["seeds"].index(kept)
    error = f"{content['test']['mae_ten']['each'][index]:.3f}"
    assert shown[f"this model (seed {kept})"][column["mae_ten"]] == error
    # It is compared with the mean of its own training tensors on its own test part, not with that of all seeds.
    own, baselines = dict(page.tables[0])["Test error"], content["test_mean_baseline"]["mae_ten"]
    baseline = f"{baselines['each'][index]:.3f}"
    assert baseline != f"{baselines['mean']:.3f}"
    assert own.startswith(error) and baseline in own and f"{baselines['mean']:.3f}" not in own
    assert shown[f"predicting the mean (seed {kept})"][column["mae_ten"]] == baseline
    assert f"seed {kept}" in dict(page.tables[0])["Model"]
    assert "test crystal once" in page.text


def test_its_elements_are_those_of_the_seeds_test_parts(page: Page, trained: Path) -> None:
    folder = RunFolder(trained / "run")
    each = [read_json(folder.seed(seed).result)["test_by_element"] for seed in (0, 1)]
    shown = {row[0]: row[1:] for row in page.table("MAE")[1:]}
    for symbol in {*each[0], *each[1]}:
        found = [one[symbol] for one in each if symbol in one]
        count = sum(one["n"] for one in found)
        mean = sum(one["n"] * one["mae_ten"] for one in found) / count
        assert shown[symbol][1:] == [str(count), f"{mean:.3f}"]
    trained_on = {symbol for symbol, row in shown.items() if row[0] != "0"}
    assert trained_on == set(symbols(np.array(checkpoint.read_card(folder.model).elements)))


def test_its_limits_are_computed(page: Page, trained: Path) -> None:
    folder = RunFolder(trained / "run")
    card = checkpoint.read_card(folder.model)
    said = page.limit("Elements never seen")
    assert said.startswith(f"{len(card.elements)} elements occur")
    never = said.split("Never seen: ")[1].split(", and all")[0].split(", ")
    assert {Element(symbol).Z for symbol in never} == set(range(1, 95)) - set(card.elements)
    assert "first 40 crystals" in page.limit("Trained on a part of the data")
    assert "(15 here)" in page.limit("Range of values")
    assert "over 4 crystals" in page.limit("A small test part")
    assert "without a spread" in page.limit("No uncertainty")
    assert "3 Å" in page.limit("What the encoder sees")
    assert "Symmetry of the data" not in dict(page.limits)


def test_data_split_and_recipe(page: Page, trained: Path) -> None:
    folder = RunFolder(trained / "run")
    kept = checkpoint.read_card(folder.model).members[0].seed
    split = read_json(folder.seed(kept).split)
    assert page.table("validation")[-1] == ["all", *[str(len(split[part])) for part in ("train", "val", "test")]]
    assert "Petousis et al." in page.text
    assert "15 that have" in page.text
    assert "max_epochs: 2" in page.text


def test_what_comes_from_data_is_escaped(again: Callable[..., Page]) -> None:
    evil = "<script>alert(1)</script>"
    config = again.card.recipe
    over = {"key": "mp-1", "formula": evil, "crystal_system": "cubic", "residual": 0.5}
    page = again(
        report={
            "left_out": [{"key": evil, "stage": "clean", "reason": f"{evil} <b>"}],
            "frame": {"tolerance": 0.05, "drop": True, "symprec": 0.01, "over_tolerance": [over], "undefined": []},
        },
        recipe=config.model_copy(
            update={"description": evil, "dataset": config.dataset.model_copy(update={"path": evil})}
        ),
        target=dataclasses.replace(again.card.target, quantity=f"{evil} dielectric"),
    )
    assert "script" not in page.tags and "b" in page.tags  # the card's own bold, not the reason's
    # Description, quantity, a record's key and reason, a formula, and twice in the recipe.
    assert page.text.count(evil) == 7
    assert f"mp-1 ({evil}, 0.50)" in page.limit("Crystals that break symmetry")


def test_a_run_of_before_errors_by_element(again: Callable[..., Page], tmp_path: Path) -> None:
    old = {name: value for name, value in again.card.metrics.items() if name != "per_element"}
    for metrics in (old, old | {"per_element": {}}):
        page = again(metrics=metrics)
        assert "errors by element" in page.text
        assert all(row[2:] == ["0", "–"] for row in page.table("MAE")[1:])


def test_an_ensemble_and_how_often_its_intervals_hold(again: Callable[..., Page]) -> None:
    card = again.card
    levels = {"0.5": {"covered": 0.75, "width": 1.5}, "0.9": {"covered": 0.25, "width": 3e12}}
    metrics = card.metrics | {
        "ensemble_test": {name: entry["each"][0] for name, entry in card.metrics["test"].items()},
        "calibration": {"n": 4, "test": {"tensor": {"n": 4, "levels": levels}}},
    }
    page = again(metrics=metrics, members=tuple(dataclasses.replace(card.members[0], seed=seed) for seed in (0, 1)))
    row = page.table("90 %")[1]
    assert row == ["tensor (radius)", "4", "75 % (1.50)", "25 % (3e+12)"]
    assert "25 % of" in page.limit("Uncertainty")
    shown = {line[0]: line for line in page.table("MAE_ten")}
    assert shown["ensemble"][2] == f"{card.metrics['test']['mae_ten']['each'][0]:.3f}"
    assert dict(page.tables[0])["Model"].startswith("ensemble of 2")


def test_a_symmetry_breaking_crystal_that_is_not_used_is_not_named(again: Callable[..., Page]) -> None:
    over = {"key": "mp-nowhere", "formula": "X", "crystal_system": "cubic", "residual": 0.5}
    frame = {"tolerance": 0.05, "drop": False, "symprec": 0.01, "over_tolerance": [over], "undefined": []}
    assert "mp-nowhere" not in again(report={"frame": frame}).text
    assert "not checked" in again(report={"frame": None}).limit("Symmetry of the data")
