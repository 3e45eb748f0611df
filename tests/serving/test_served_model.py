"""The served model in Python: mlflow.pyfunc.load_model, without a server."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from cli import accept, refused, zoo
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from zoo.errors import ZooError
from zoo.inference.predictor import Predictor
from zoo.registry import box
from zoo.tracking import served_model
from zoo.tracking.request_validation import OPTIONS
from zoo.tracking.served_model import EXAMPLE, LOGGED


@pytest.fixture(autouse=True)
def in_registry(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained}/mlflow.db")
    with contextlib.chdir(trained):
        mlflow.set_tracking_uri(f"sqlite:///{trained}/mlflow.db")
        yield


@pytest.fixture(scope="module")
def uri() -> str:
    return "models:/small-total@champion"


def test_it_is_logged_with_types_options_and_limits_and_without_pickles(uri: str) -> None:
    info = mlflow.models.get_model_info(uri)
    assert info.signature is not None
    assert {"cif", "structure"} <= {field.name for field in info.signature.inputs.inputs[0].type.properties}
    options = {"symprec", "coverage", "neighbours", "explain", "functional"}
    assert {option.name for option in info.signature.params} == options
    assert info.flavors["python_function"]["config"] == LOGGED["model_config"]
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert "served_model.py" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin"))]


def test_a_level_of_theory_is_asked_for(uri: str, salt: dict[str, Any], tmp_path: Path) -> None:
    """A model that has some answers at it; one that has none, or not this one, says so."""
    path = tmp_path / "box"
    mlflow.pyfunc.save_model(
        path=path,
        python_model=str(Path(served_model.__file__)),
        artifacts={"model": str(box.folder_of(box.DEFAULT))},
        pip_requirements=["crystal-tensor-zoo"],
        **LOGGED,
    )
    model = mlflow.pyfunc.load_model(str(path))
    own, first, other = (
        model.predict([salt], params={"functional": level})[0]["tensor"] for level in ("", "PBE", "PBEsol")
    )
    assert own == first != other
    with pytest.raises(MlflowException, match="PBE, PBEsol") as caught:
        model.predict([salt], params={"functional": "LDA" * 50})
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE" and len(caught.value.message) < 200
    with pytest.raises(MlflowException, match="PBEsol"):
        mlflow.pyfunc.load_model(uri).predict([salt], params={"functional": "PBEsol"})


def test_a_model_that_was_registered_without_an_option_is_loaded_and_answers(
    salt: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    """Its signature does not name the option: the code of today takes the default for it."""
    path = tmp_path / "before"
    before = {name: value for name, value in OPTIONS.items() if name != "functional"}
    mlflow.pyfunc.save_model(
        path=path,
        python_model=str(Path(served_model.__file__)),
        artifacts={"model": str(trained / "run" / "model")},
        pip_requirements=["crystal-tensor-zoo"],
        **LOGGED | {"input_example": (EXAMPLE, before)},
    )
    model = mlflow.pyfunc.load_model(str(path))
    assert "functional" not in {option.name for option in model.metadata.signature.params}
    plain, asked = (model.predict([salt], params=params)[0] for params in ({}, {"coverage": 0.9}))
    assert plain["tensor"] == asked["tensor"]


def test_limits_are_set_when_it_is_loaded(uri: str, salt: dict[str, Any]) -> None:
    model = mlflow.pyfunc.load_model(uri, model_config={"max_atoms": 4})
    with pytest.raises(MlflowException, match=r"8 atoms .*at most 4"):
        model.predict([salt])


def test_too_many_crystals_are_refused_by_the_model_itself(uri: str, salt: dict[str, Any]) -> None:
    """So that plain `mlflow models serve`, which has none of our middleware, refuses them, too."""
    model = mlflow.pyfunc.load_model(uri, model_config={"max_crystals": 2})
    with pytest.raises(MlflowException, match=r"3 crystals .*at most 2"):
        model.predict([salt] * 3)


def test_an_error_that_nobody_foresaw_stays_with_its_crystal(
    uri: str, salt: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks at the same time is answered; where that was all, it is a 500 without a stack trace."""
    whole = Predictor.predict_each

    def failing(self: Predictor, crystals: Any, **options: Any) -> Any:
        if any(len(crystal) == 2 for crystal in crystals):
            raise RuntimeError("made\nup")
        return whole(self, crystals, **options)

    model: PyFuncModel = mlflow.pyfunc.load_model(uri)
    monkeypatch.setattr(Predictor, "predict_each", failing)
    cell = {"matrix": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]}
    sites = [{"species": [{"element": e, "occu": 1}], "abc": [x] * 3} for e, x in (("Na", 0), ("Cl", 0.5))]
    two = {"structure": json.dumps({"lattice": cell, "sites": sites})}
    good, bad = model.predict([salt, two])
    assert good["formula"] == "NaCl" and "RuntimeError" in bad["error"]
    assert "made\nup" in caplog.text
    with pytest.raises(MlflowException) as caught:
        model.predict([two])
    assert caught.value.get_http_status_code() == 500 and "made" not in caught.value.message


def test_a_plugin_that_is_missing_and_a_newer_format_are_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, change, words in (
        ("alien", alien, ("'alien'", "stranger 1.2")),
        ("newer", newer, ("format version 99", "zoo 9.9", "pip install -U")),
    ):
        register(name, trained / "run" / "model", tmp_path / name, change)
        with pytest.raises(ZooError) as caught:
            mlflow.pyfunc.load_model(f"models:/{name}/1")
        for word in words:
            assert word in str(caught.value)
        refused(zoo("predict", f"models:/{name}/1", "NaCl.cif", cwd=trained), *words)
        refused(zoo("serve", f"models:/{name}/1", cwd=trained), *words)


def alien(card: dict[str, Any]) -> None:
    card["recipe"]["encoder"] = {"name": "alien"}
    card["versions"]["encoder"] = "alien (stranger 1.2)"


def newer(card: dict[str, Any]) -> None:
    card["format_version"] = 99
    card["versions"]["zoo"] = "zoo 9.9"


def register(name: str, folder: Path, place: Path, change: Any) -> None:
    """A version of a registered model whose model.json is changed."""
    shutil.copytree(folder, place)
    card = json.loads((place / "model.json").read_text())
    change(card)
    (place / "model.json").write_text(json.dumps(card))
    accept(place / "model.json")
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(served_model.__file__)),
            artifacts={"model": str(place)},
            pip_requirements=["crystal-tensor-zoo"],
            registered_model_name=name,
        )
