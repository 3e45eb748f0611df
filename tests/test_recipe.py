"""Recipes: what is refused, overrides, and that those that ship are complete and commented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from zoo.config import plugins, recipe
from zoo.discovery import screen_config
from zoo.errors import ZooError
from zoo.pretraining import pretraining_config
from zoo.workflows.train import target_of


def test_an_unknown_key_names_the_nearest(small: dict) -> None:
    with pytest.raises(ZooError, match=r"'training.max_epoch'.* 'max_epochs'\?"):
        recipe.parse(small | {"training": {"max_epoch": 3}}, "mine.yaml")
    with pytest.raises(ZooError, match=r"'traning'.* 'training'\?"):
        recipe.parse(small | {"traning": {}}, "mine.yaml")
    with pytest.raises(ZooError, match=r"'data.cleaning.mim'.* 'min'\?"):
        recipe.parse(small | {"data": {"cleaning": {"mim": 0}}}, "mine.yaml")


def test_a_bad_value_says_where_and_what(small: dict) -> None:
    with pytest.raises(ZooError, match=r"training.batch_size: .*got 0"):
        recipe.parse(small | {"training": {"batch_size": 0}}, "mine.yaml")
    with pytest.raises(ZooError, match="'target' is missing"):
        recipe.parse({k: v for k, v in small.items() if k != "target"}, "mine.yaml")


@pytest.mark.parametrize("seeds", [[], [-1], [2**32], [0, 0]])
def test_seeds_are_checked(small: dict, seeds: list[int]) -> None:
    with pytest.raises(ZooError, match="seeds"):
        recipe.parse(small | {"seeds": seeds}, "mine.yaml")


def test_a_password_does_not_reach_the_run_folder(small: dict) -> None:
    secret = "http://alice:s3cret@127.0.0.1:5000"
    config = recipe.parse(small | {"tracking": {"uri": secret}}, "mine.yaml")
    assert "s3cret" not in recipe.dump(config)


def test_a_mistyped_path_is_no_shipped_recipe() -> None:
    with pytest.raises(ZooError, match=r"no recipe 'configs/dtnet_total\.yaml'"):
        recipe.find("configs/dtnet_total.yaml")


def test_a_key_that_a_plugin_does_not_know_is_refused() -> None:
    with pytest.raises(ZooError, match=r"'dtnet'.* 'widht'.* 'width'\?"):
        plugins.hypers("readout", "dtnet", {"widht": 8})


def test_overrides(tmp_path, small: dict) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small))
    config = recipe.read(str(path), ("training.max_epochs=5", "seeds=[1, 2]", "encoder.layers=2", "split.seed=3"))
    assert config.training.max_epochs == 5
    assert config.seeds == (1, 2)
    assert config.encoder.settings["layers"] == 2
    assert config.split.seed == 3
    for override, message in {
        "training.max_epochs": "write key=value",
        "name.x=1": "'name' is a value, not a section",
        "seeds=[1": "no valid YAML",
        "training.max_epoch=1": "Did you mean 'max_epochs'",
    }.items():
        with pytest.raises(ZooError, match=message):
            recipe.read(str(path), (override,))


def test_a_plugin_by_name_leaves_the_settings_of_the_file_s_own() -> None:
    config = recipe.read("best_total", ("encoder.name=mace", "encoder.trainable=true", "readout.name=matten"))
    assert config.encoder.settings == {"layer": [1, 2, 3, 4]}, "it has the same" and config.encoder.trainable
    assert recipe.read("best_total").readout.settings == {"width": 128, "blocks": 2, "dropout": 0.2}
    assert set(config.readout.settings) < {"width", "blocks", "dropout"}
    assert plugins.hypers("readout", "matten", config.readout.settings)
    assert screen_config.read("screen_total", ("acquisition.name=greedy",)).acquisition.settings == {}
    assert screen_config.read("screen_total", ("acquisition.name=ucb",)).acquisition.settings == {"kappa": 1.5}
    said = screen_config.read("screen_total", ("acquisition.kappa=2", "acquisition.name=greedy"))
    assert said.acquisition.settings == {"kappa": 2}, "what is said is not left out: it is refused later on"
    with pytest.raises(ZooError, match="encoder"):
        recipe.read("best_total", ("encoder.name=mace", "encoder=foo"))


def test_scientific_notation_is_a_number(tmp_path, small: dict) -> None:
    """YAML 1.1 reads 1e-4, without a dot, as a text."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small))
    assert recipe.read(str(path), ("training.learning_rate=1e-4",)).training.learning_rate == 1e-4


@pytest.mark.parametrize(
    "text", ["name: [", "- a\n- b\n", "!!python/object/apply:os.system ['true']", "just words"], ids=range(4)
)
def test_what_is_no_recipe_is_refused_in_one_line(tmp_path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ZooError) as caught:
        recipe.read(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ZooError, match=r"'dtnet_total'\?"):
        recipe.find("dtnet_totl")


def test_the_resolved_recipe_reads_back(small: dict) -> None:
    config = recipe.parse(small, "mine.yaml")
    assert recipe.parse(yaml.safe_load(recipe.dump(config)), "dumped") == config


@pytest.mark.parametrize("name", sorted(recipe.for_command("run")))
def test_a_shipped_recipe_is_valid_and_commented(name: str) -> None:
    path = recipe.shipped()[name]
    config = recipe.read(name)
    assert config.name == name
    assert config.description
    target_of(config)
    plugins.hypers("encoder", config.encoder.name, config.encoder.settings)
    plugins.hypers("readout", config.readout.name, config.readout.settings)
    assert_commented(path)


@pytest.mark.parametrize("name", sorted(recipe.for_command("pretrain")))
def test_a_shipped_pretraining_is_valid_and_commented(name: str) -> None:
    config = pretraining_config.read(name)
    assert config.name == name and config.description
    plugins.hypers("encoder", config.encoder.name, config.encoder.settings)
    assert_commented(recipe.shipped()[name])


def assert_commented(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = [
        line
        for number, line in enumerate(lines)
        if re.match(r"\s*\w+:\s*\S", line)
        and "#" not in line
        and not lines[number - 1].lstrip().startswith("#")
        and not re.match(r"(name|description):", line)
    ]
    assert not bare, f"keys without a comment: {bare}"


def test_aliases_that_hold_more_than_memory_are_refused_in_a_short_line(tmp_path) -> None:
    lists = "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 8)}]\n" for i in range(1, 12))
    path = tmp_path / "bomb.yaml"
    path.write_text(f"b0: &b0 [x, x, x]\n{lists}name: *b11\n")
    with pytest.raises(ZooError, match="anchors") as caught:
        recipe.read(str(path))
    assert len(str(caught.value)) < 600
