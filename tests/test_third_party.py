"""A stranger's distribution, which knows `zoo.api` alone, is trained, registered, reloaded, served like ours."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import refused, zoo
from pymatgen.core import Lattice, Structure
from scoring import free_port, running
from stranger import Environment

pytestmark = pytest.mark.extended

SOURCE = Path(__file__).parent / "third_party_plugin"
RECIPE = {
    "dataset": {"name": "induced-dipoles", "size": 120},
    "target": "point_dipole",
    "encoder": {"name": "moments", "channels": 8},
    "device": "cpu",
}
RECIPES = {
    "bonds": RECIPE
    | {
        "name": "bonds",
        "readout": {"name": "bond-polarisability", "width": 16},
        "training": {"max_epochs": 60, "batch_size": 8, "learning_rate": 0.01},
    },
    "theirs_and_ours": RECIPE
    | {
        "name": "theirs_and_ours",
        "readout": {"name": "dtnet", "width": 8, "blocks": 1},
        "training": {"max_epochs": 2, "batch_size": 16},
    },
}
PREDICT = """
import json, mlflow, sys
mlflow.set_tracking_uri("sqlite:///mlflow.db")
answer = mlflow.pyfunc.load_model("models:/bonds@champion").predict([{"cif": open("NaCl.cif").read()}])[0]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.with_installed(SOURCE, tmp_path_factory.mktemp("third_party"))


@pytest.fixture(scope="module")
def folder(stranger: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, `bonds` and `theirs_and_ours`, and the MLflow database that holds their models."""
    place = tmp_path_factory.mktemp("workplace")
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.to(str(place / "NaCl.cif"))
    for name, content in RECIPES.items():
        (place / f"{name}.yaml").write_text(yaml.safe_dump(content))
    stranger.each(*[["zoo", "run", f"{name}.yaml", "--out", name] for name in RECIPES], cwd=place)
    return place


@pytest.fixture(scope="module")
def predicted(stranger: Environment, folder: Path) -> dict[str, np.ndarray]:
    """Run folder or registered name -> the tensor of NaCl."""
    models = [*RECIPES, *[name.replace("_", "-") for name in RECIPES if "_" in name], "models:/bonds@champion"]
    shown = stranger.each(*[["zoo", "predict", model, "NaCl.cif", "--format", "json"] for model in models], cwd=folder)
    return {model: np.array(json.loads(text)[0]["tensor"]) for model, text in zip(models, shown, strict=True)}


def test_of_the_zoo_it_imports_the_api_alone() -> None:
    seen: dict[str, set[str]] = {"src": set(), "tests": set()}
    for part, names in seen.items():
        for path in (SOURCE / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add(str(node.module))
    ours = {part: {name for name in names if name.startswith("zoo")} for part, names in seen.items()}
    assert ours == {"src": {"zoo.api"}, "tests": {"zoo.api", "zoo.testing"}}


def test_it_is_listed_and_paired_with_ours(stranger: Environment, tmp_path: Path) -> None:
    listed = {entry["name"]: entry for entry in json.loads(stranger.zoo("list", "--json", cwd=tmp_path))}
    for name in ("moments", "bond-polarisability", "induced-dipoles"):
        assert listed[name]["package"] == "bond-polarisability 0.3.0"
        assert listed[name]["error"] is None
    pairs = {(p["encoder"], p["readout"]): p for p in json.loads(stranger.zoo("compat", "--json", cwd=tmp_path))}
    for pair in (("moments", "bond-polarisability"), ("moments", "dtnet"), ("nequip", "bond-polarisability")):
        assert pairs[pair]["works"], pairs[pair]
    assert "moments" not in zoo("list", cwd=tmp_path).stdout, "the test session itself has it installed"


def test_its_own_tests_pass(stranger: Environment) -> None:
    """Conformance of its encoder and readout with each other and with ours, its encoder as a potential, its dataset."""
    assert stranger.passes_its_tests(stranger.site.parent / "source_0") > 60


def test_it_learns(folder: Path) -> None:
    """Tensors of a formula: sixty epochs on a hundred crystals are below the error of the mean, anisotropy too."""
    content = json.loads((folder / "bonds" / "metrics.json").read_text())
    for name, share in (("mae_ten", 0.5), ("mae_off_diag", 0.9)):
        assert content["test"][name]["mean"] < share * content["test_mean_baseline"][name]["mean"], content["test"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_registered_model_answers_as_the_run_folder(predicted: dict[str, np.ndarray], name: str) -> None:
    registered = {"bonds": "models:/bonds@champion", "theirs_and_ours": "theirs-and-ours"}
    by_folder, by_name = predicted[name], predicted[registered[name]]
    np.testing.assert_allclose(by_name, by_folder, rtol=1e-6)
    np.testing.assert_allclose(by_folder, by_folder[0, 0] * np.eye(3), atol=1e-4)


def test_the_registered_model_requires_its_package(folder: Path) -> None:
    (path,) = (p for p in (folder / "mlruns").rglob("requirements.txt") if "bonds" in _model_json(p))
    assert "bond-polarisability==0.3.0" in path.read_text().splitlines()


def _model_json(requirements: Path) -> str:
    return next(requirements.parent.rglob("model.json")).read_text().split('"dataset"')[0]


def test_pyfunc_answers_as_predict(stranger: Environment, folder: Path, predicted: dict[str, np.ndarray]) -> None:
    done = stranger.python("-c", PREDICT, cwd=folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    np.testing.assert_allclose(answer["tensor"], predicted["bonds"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_server_answers_as_predict(stranger: Environment, folder: Path, predicted: dict[str, np.ndarray]) -> None:
    crystal = {"cif": (folder / "NaCl.cif").read_text()}
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/bonds@champion"]
    environment = stranger.variables | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    with running([*command, "--env-manager", "local", "--port", str(port)], port, folder, environment) as server:
        answer, bad = server.ask([crystal]), server.ask([{"cif": "nonsense"}])
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    np.testing.assert_allclose(prediction["tensor"], predicted["bonds"], rtol=1e-5, atol=1e-5)
    assert bad.status_code == 400
    assert "Traceback" not in bad.json()["message"]


@pytest.mark.parametrize("name", RECIPES)
def test_without_the_package_one_line_names_it(folder: Path, name: str) -> None:
    """This process has not got it: as after `pip uninstall bond-polarisability`."""
    refused(zoo("predict", name, "NaCl.cif", cwd=folder), "moments", "not installed", "bond-polarisability 0.3.0")
