"""Champion and challenger: the better on the same validation crystals answers, the test error decides nothing."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import refused, zoo
from mlflow import MlflowClient

import zoo as package
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.evaluation.predictions import Predictions
from zoo.tracking.promote import contest, difference, promote

pytestmark = pytest.mark.extended

TOTAL = TensorTarget("total")


def train(folder: Path, out: str, *overrides: str) -> None:
    result = zoo("run", "rival.yaml", *overrides, "--out", out, cwd=folder)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 is the champion; 2 has learned more on the same split; 3 saw another split; 4 has learned nothing."""
    folder = tmp_path_factory.mktemp("registry")
    rival = {
        "name": "rival",
        "dataset": {"name": "petousis2017"},
        "target": "total",
        "data": {"limit": 120},
        "split": {"seed": 0, "val": 0.3},
        "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
        "readout": {"name": "dtnet", "width": 8, "blocks": 1},
        "training": {"max_epochs": 1, "batch_size": 16, "learning_rate": 1e-5},
        "device": "cpu",
    }
    (folder / "rival.yaml").write_text(yaml.safe_dump(rival))
    train(folder, "first")
    train(folder, "better", "training.max_epochs=30", "training.learning_rate=0.03")
    train(folder, "elsewhere", "split.seed=1")
    train(folder, "idle", "training.learning_rate=1e-12")
    return folder


def aliases(folder: Path) -> dict[str, str]:
    found = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_registered_model("rival").aliases
    return {alias: str(version) for alias, version in found.items()}


def test_the_better_one_becomes_champion(registry: Path) -> None:
    assert aliases(registry) == {"champion": "1", "challenger": "4"}
    dry = zoo("promote", "rival", "--version", "2", "--dry-run", cwd=registry)
    assert dry.returncode == 0, dry.stderr
    assert "version 2 would" in dry.stdout
    assert aliases(registry) == {"champion": "1", "challenger": "4"}

    done = zoo("promote", "rival", "--version", "2", cwd=registry)
    assert done.returncode == 0, done.stderr
    assert "validation" in done.stdout and "test (decides nothing)" in done.stdout
    assert aliases(registry) == {"champion": "2", "previous": "1", "challenger": "4"}
    tags = MlflowClient(f"sqlite:///{registry / 'mlflow.db'}").get_model_version("rival", "2").tags
    assert tags["zoo.promoted_over"] == "1" and tags["zoo.validation_difference"].startswith("-")
    salt = bulk_salt()
    with contextlib.chdir(registry):
        by_alias, by_folder = package.load("rival", "cpu"), package.load("better", "cpu")
    np.testing.assert_array_equal(by_alias.predict(salt).tensor, by_folder.predict(salt).tensor)

    worse = zoo("promote", "rival", cwd=registry)
    assert worse.returncode == 1 and worse.stderr == ""
    assert "version 4 is not" in worse.stdout
    assert aliases(registry)["champion"] == "2"


def test_what_is_not_resolved_is_promoted_by_force_alone(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(f"sqlite:///{registry / 'mlflow.db'}")
    client.set_registered_model_alias("rival", "champion", "1")
    found = contest("rival", "2", f"sqlite:///{registry / 'mlflow.db'}")
    assert found is not None
    open_question = dataclasses.replace(found.validation, low=-0.75, high=0.25)
    found = dataclasses.replace(found, validation=open_question)
    assert not found.won and not found.lost
    monkeypatch.setattr("zoo.tracking.promote.contest", lambda *_: found)
    left = zoo("promote", "rival", "--version", "2", cwd=registry)
    assert left.returncode == 0, left.stderr
    assert "-0.75 to +0.25" in left.stdout and "--force" in left.stdout
    assert aliases(registry)["champion"] == "1"
    forced = zoo("promote", "rival", "--version", "2", "--force", cwd=registry)
    assert forced.returncode == 0, forced.stderr
    assert aliases(registry)["champion"] == "2"
    assert "-0.75 to 0.25" in client.get_model_version("rival", "2").tags["zoo.promoted_by_force"]


def test_where_there_is_no_champion_one_is_made(registry: Path) -> None:
    client = MlflowClient(f"sqlite:///{registry / 'mlflow.db'}")
    client.delete_registered_model_alias("rival", "champion")
    bulk_salt().write(registry / "salt.cif")
    refused(zoo("predict", "rival", "salt.cif", cwd=registry), "no champion", "promote rival --version")
    refused(zoo("predict", "models:/rival", "salt.cif", cwd=registry), "models:/rival@champion")
    made = zoo("promote", "rival", "--version", "2", cwd=registry)
    assert made.returncode == 0, made.stderr
    assert "version 2 now" in made.stdout
    assert aliases(registry)["champion"] == "2"


def test_another_promotion_meanwhile_is_not_undone(registry: Path) -> None:
    uri = f"sqlite:///{registry / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.set_registered_model_alias("rival", "champion", "1")
    found = contest("rival", "2", uri)
    assert found is not None and found.won
    client.set_registered_model_alias("rival", "champion", "4")
    with pytest.raises(ZooError, match="compare again"):
        promote(found, uri)
    assert aliases(registry)["champion"] == "4"


def bulk_salt():
    from ase.build import bulk

    return bulk("NaCl", "rocksalt", a=5.64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rivel"], ["'rival'?"]),
        (["rival", "--version", "3"], ["the same crystals", "split.seed"]),
        (["rival", "--version", "99"], ["99"]),
        (["rival", "--uri", "sqlite:///nowhere.db"], ["nowhere.db", "does not exist"]),
        (["rival", "--uri", "http://127.0.0.1:9"], ["http://127.0.0.1:9"]),
    ],
)
def test_what_cannot_be_compared_is_refused(registry: Path, arguments: list[str], words: list[str]) -> None:
    refused(zoo("promote", *arguments, cwd=registry), *words)


def answers(errors: np.ndarray, keys: list[str] | None = None) -> Predictions:
    true = np.broadcast_to(np.eye(3), (len(errors), 3, 3))
    keys = keys or [str(k) for k in range(len(errors))]
    return Predictions(keys, ["cubic"] * len(errors), true + errors[:, None, None], true)


def test_the_difference_is_paired_by_key() -> None:
    """The order of the crystals does not matter; what is common to both models does not widen the interval."""
    random = np.random.default_rng(0)
    common = random.lognormal(1, 1, size=100)
    champion, challenger = answers(common), answers(common - 0.1 + 0.05 * random.random(100))
    order = random.permutation(100)
    shuffled = dataclasses.replace(
        challenger,
        keys=[challenger.keys[i] for i in order],
        predicted=challenger.predicted[order],
        true=challenger.true[order],
    )
    found, again = difference(champion, challenger, TOTAL), difference(champion, shuffled, TOTAL)
    assert found == again
    assert found is not None
    assert found.low < found.mean < found.high < 0
    assert found.high - found.low < 0.02 < np.std(common)
    same = difference(champion, champion, TOTAL)
    assert same is not None and same.mean == same.low == same.high == 0


def test_other_crystals_and_other_labels_are_told() -> None:
    one = answers(np.ones(3))
    assert difference(one, answers(np.ones(3), ["0", "1", "x"]), TOTAL) is None
    assert difference(one, dataclasses.replace(one, true=one.true + 1), TOTAL) is None
