"""From a sweep section to the cells' recipes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cli import refused, zoo

from zoo.config import recipe
from zoo.errors import ZooError
from zoo.sweep import sweep_config
from zoo.sweep.cells import expand
from zoo.sweep.check import check_all


def test_a_cell_for_each_combination_the_first_axis_slowest(plan_of) -> None:
    cells = expand(plan_of({"grid": {"target": ["total", "ionic"], "training.batch_size": [8, 16]}}))
    chosen = [(cell.recipe.target, cell.recipe.training.batch_size) for cell in cells]
    assert chosen == [("total", 8), ("total", 16), ("ionic", 8), ("ionic", 16)]
    assert [cell.slug for cell in cells][:2] == ["total-batch_size-8", "total-batch_size-16"]
    assert cells[0].recipe.name == "small-total-batch_size-8"
    assert not any(cell.recipe.tracking.register_model for cell in cells)
    assert cells[0].recipe.training.learning_rate == 0.01, "what no axis sets stays as it is"


def test_a_plugin_given_whole_leaves_no_setting_of_another_behind(plan_of) -> None:
    model = {
        "ours": {"encoder": {"name": "nequip"}, "training": {"learning_rate": 0.5}},
        "theirs": {"encoder": {"name": "sevennet", "layer": 2}, "readout": {"name": "dtnet-simple"}},
        "as it is": {},
        "deeper": {"encoder": {"layers": 2}},
    }
    ours, theirs, same, deeper = (cell.recipe for cell in expand(plan_of({"grid": {"model": model}})))
    assert ours.encoder.settings == {}
    assert (ours.readout.settings, ours.training.learning_rate) == ({"width": 8, "blocks": 1}, 0.5)
    assert ours.training.batch_size == 16, "a section that is no plugin's is changed, not replaced"
    assert (theirs.encoder.settings, theirs.readout.settings) == ({"layer": 2}, {})
    assert same.encoder.settings == {"cutoff": 3.0, "layers": 1, "channels": 4}
    assert deeper.encoder.settings == {"cutoff": 3.0, "layers": 2, "channels": 4}


def test_a_list_of_whole_sections_does_the_same(plan_of) -> None:
    cells = expand(plan_of({"grid": {"encoder": [{"name": "nequip"}, {"name": "sevennet", "layer": [1, 2]}]}}))
    assert [cell.recipe.encoder.settings for cell in cells] == [{}, {"layer": [1, 2]}]
    assert [cell.slug for cell in cells] == ["nequip", "sevennet-layer-1-2"]


def test_folders_differ_where_labels_look_alike(plan_of) -> None:
    choices = {"a b": {}, "a-b": {}, "A-B": {}}
    slugs = [cell.slug for cell in expand(plan_of({"grid": {"model": choices}}))]
    assert slugs == ["a-b", "a-b-2", "A-B-3"]


def test_axes_on_the_command_line(plan_of, small: dict, tmp_path: Path) -> None:
    grid = {"target": ["total", "ionic"], "model": {"a": {}, "b": {"training": {"max_epochs": 4}}}}
    changes = (
        "sweep.grid.target=null",
        "sweep.grid.model.a=null",
        "sweep.grid.model.b.training.max_epochs=7",
        "sweep.grid.training.batch_size=[4, 8]",
        "training.gradient_clip=1",
    )
    cells = expand(plan_of({"grid": grid}, *changes))
    assert [cell.slug for cell in cells] == ["b-batch_size-4", "b-batch_size-8"]
    assert {(cell.recipe.training.max_epochs, cell.recipe.training.gradient_clip) for cell in cells} == {(7, 1.0)}
    plain = tmp_path / "plain.yaml"
    plain.write_text(yaml.safe_dump(small, sort_keys=False))
    assert isinstance(sweep_config.read(str(plain)), recipe.Recipe)
    made = sweep_config.read(str(plain), ("sweep.grid.readout.width=[4, 8]",))
    assert isinstance(made, sweep_config.Plan)
    assert [cell.recipe.readout.settings["width"] for cell in expand(made)] == [4, 8]


def test_the_plan_reads_back(plan_of, tmp_path: Path) -> None:
    plan = plan_of({"grid": {"target": ["total", "ionic"]}, "compare": {"target": "total"}})
    (tmp_path / "sweep.yaml").write_text(plan.dump())
    again = sweep_config.read(str(tmp_path / "sweep.yaml"))
    assert isinstance(again, sweep_config.Plan)
    assert expand(again) == expand(plan)
    assert recipe.read(str(tmp_path / "sweep.yaml")) == plan.base


def test_a_path_of_the_data_becomes_absolute(plan_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for grid in ({"dataset": [{"name": "file", "path": "mine.json"}]}, {"dataset.path": ["mine.json"]}):
        assert expand(plan_of({"grid": grid}))[0].recipe.dataset.settings["path"] == str(tmp_path / "mine.json")
    named = {"data": {"mine": {"dataset": {"name": "file", "path": "mine.json"}}}}
    assert expand(plan_of({"grid": named}))[0].recipe.dataset.settings["path"] == str(tmp_path / "mine.json")


@pytest.mark.parametrize("sweep", [{"grid": [1, 2]}, {"optuna": 3}, {"grid": {1: [2]}}])
def test_an_axis_is_added_to_a_section_only(plan_of, sweep: dict) -> None:
    place = "optuna.search" if "optuna" in sweep else "grid"
    with pytest.raises(ZooError, match="must map keys"):
        plan_of(sweep, f"sweep.{place}.target=[total]")
    assert len(expand(plan_of({"grid": None}, "sweep.grid.target=[total]"))) == 1


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+pysqlite"])
def test_the_database_of_a_study_becomes_absolute(plan_of, tmp_path: Path, monkeypatch, driver: str) -> None:
    monkeypatch.chdir(tmp_path)
    search = {"target": {"choices": ["total"]}}
    for given, there in (
        ("mine.db?timeout=9", f"{tmp_path}/mine.db?timeout=9"), ("/a/b.db", "/a/b.db"), (":memory:", ":memory:"),
    ):  # fmt: skip
        plan = plan_of({"optuna": {"search": search, "storage": f"{driver}:///{given}"}})
        assert plan.sweep.optuna.storage == f"{driver}:///{there}"


@pytest.mark.parametrize(
    ("sweep", "words"),
    {
        "typo in a key": ({"grid": {"traget": ["total"]}}, "'target'?"),
        "typo in a section": ({"grid": {"training.max_epoch": [1]}}, "'max_epochs'?"),
        "typo in the sweep": ({"gird": {}}, "'grid'?"),
        "bad value": ({"grid": {"training.batch_size": [8, 0]}}, "got 0"),
        "neither": ({}, "'grid' or 'optuna'"),
        "no list": ({"grid": {"target": "total"}}, "a list of"),
        "empty": ({"grid": {"target": []}}, "has no values"),
        "twice": ({"grid": {"target": ["total", "total"]}}, "twice"),
        "undone": ({"grid": {"encoder.layers": [1, 2], "encoder": [{"name": "nequip"}]}}, "undoes"),
        "no such axis": ({"grid": {"target": ["total"]}, "compare": {"taget": "total"}}, "'target'?"),
        "no such value": ({"grid": {"target": ["total"]}, "compare": {"target": "totl"}}, "'total'?"),
        "plugin's setting": ({"grid": {"readout.widht": [4, 8]}}, "'width'?"),
        "target": ({"grid": {"target": ["totl"]}}, "'total'?"),
        "all blocked": ({"grid": {"encoder": [{"name": "no-such"}]}}, "no cell"),
        "settings left behind": ({"grid": {"encoder.name": ["nequip", "sevennet"]}}, "leaves the base"),
        "password": (
            {"optuna": {"search": {"target": {"choices": ["total"]}}, "storage": "mysql://me:secret@db/x"}},
            "holds a password",
        ),
        "number as a key": ({1: 2}, "a text"),
        "number as a choice's key": ({"grid": {"model": {"A": {1: 2}}}}, "a text"),
        "password in the query": (
            {"optuna": {"search": {"target": {"choices": ["total"]}}, "storage": "mysql://db/x?user=u&passwd=secret"}},
            "holds a password",
        ),
    }.values(),
)  # fmt: skip
def test_what_is_wrong_in_the_recipe_is_refused_before_anything_runs(
    small: dict, tmp_path: Path, sweep: dict, words: str
) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**small, "sweep": sweep}, sort_keys=False))
    result = zoo("run", "mine.yaml", "--out", "out", cwd=tmp_path)
    refused(result, words)
    assert not (tmp_path / "out").exists()
    assert "secret" not in result.stderr


def test_what_cannot_work_here_is_the_cells_own_failure(plan_of) -> None:
    choices = [{"name": "nequip"}, {"name": "no-such-encoder"}]
    cells = expand(plan_of({"grid": {"encoder": choices}}))
    blocked = check_all(cells)
    assert list(blocked) == ["no-such-encoder"]
    assert "encoder 'no-such-encoder'" in blocked["no-such-encoder"]


def test_the_shipped_sweeps_expand_and_are_listed(tmp_path: Path) -> None:
    plans = {name: sweep_config.read(name) for name in recipe.for_command("run")}
    counts = {name: len(expand(plan)) for name, plan in plans.items() if isinstance(plan, sweep_config.Plan)}
    assert counts == {
        "ablation_bonds": 6, "ablation_layers": 5, "ablation_models": 15, "ablation_pretrained": 2, "ablation_size": 4,
    }  # fmt: skip
    shown = zoo("recipes", cwd=tmp_path).stdout
    assert "sweep of 15 cells" in " ".join(shown.split())
