"""What mlflow/ holds for a deployment, as it stands there: PostgreSQL, the server, and MLproject's train and serve."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from postgres import Cluster, cluster, programs
from pymatgen.core import Structure
from scoring import QUIET, Server, free_port, running

from zoo.inference.predictor import Predictor

pytestmark = pytest.mark.extended

DEPLOYMENT = Path(__file__).parents[2] / "mlflow"
PASSWORD = "not in any log"

MISSING = (
    "needs PostgreSQL's initdb and psql"
    if programs() is None
    else 'needs pip install "crystal-tensor-zoo[server]"'
    if find_spec("psycopg2") is None
    else ""
)


@pytest.fixture(scope="module")
def database() -> Iterator[Cluster]:
    place = programs()
    assert place is not None
    with cluster(place) as server:
        server.run("psql", "-c", f"CREATE ROLE mlflow LOGIN PASSWORD '{PASSWORD}'")
        server.run("createdb", "--owner", "mlflow", "mlflow")
        yield server


@pytest.fixture(scope="module")
def tracking(database: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """mlflow/server.sh with mlflow/server.env, but for ports and places."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    password = folder / "pgpass"
    password.write_text(f"127.0.0.1:{database.port}:mlflow:mlflow:{PASSWORD}\n")
    password.chmod(0o600)
    text = (DEPLOYMENT / "server.env").read_text()
    for name, value in {
        "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://mlflow@127.0.0.1:{database.port}/mlflow",
        "PGPASSFILE": str(password),
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
    }.items():
        text, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
        assert count == 1, name
    (folder / "server.env").write_text(text)
    argv = ["bash", str(DEPLOYMENT / "server.sh"), str(folder / "server.env")]
    with running(argv, port, folder, {}, health="/health") as server:
        yield server


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_train_register_serve_ask(tracking: Server, database: Cluster, tmp_path: Path, salt: dict[str, Any]) -> None:
    env = {"MLFLOW_TRACKING_URI": tracking.url}
    recipe = {
        "name": "deployed_total",
        "dataset": {"name": "petousis2017"},
        "target": "total",
        "data": {"limit": 30},
        "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
        "readout": {"name": "dtnet", "width": 8, "blocks": 1},
        "training": {"max_epochs": 1, "batch_size": 16},
        "device": "cpu",
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    run = ["mlflow", "run", str(DEPLOYMENT), "--env-manager", "local", "-e"]
    train = [*run, "train", "-P", f"recipe={tmp_path}/small.yaml", "-P", f"out={tmp_path}/run"]
    done = subprocess.run(train, env={**os.environ, **QUIET, **env}, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tracking.url}, run " in done.stdout and "models:/deployed-total/1" in done.stdout

    count = "SELECT count(*) FROM model_versions WHERE name = 'deployed-total'"
    assert database.run("psql", "-d", "mlflow", "-Atc", count).strip() == "1"
    kept = {path.name for path in (tracking.log.parent / "artifacts").rglob("*")}
    assert {"model.json", "member_0.safetensors", "served_model.py", "recipe.yaml"} <= kept

    port = free_port()
    serve = [*run, "serve", "-P", "model=deployed-total", "-P", f"port={port}"]
    structure = Structure.from_str(salt["cif"], fmt="cif")
    with running(serve, port, tmp_path, env, name="serve") as server:
        by_cif, by_dict = (server.answers(crystal)[0] for crystal in (salt, {"structure": structure.as_dict()}))
    predictor = Predictor.load(tmp_path / "run" / "model")
    assert by_dict == json.loads(json.dumps(predictor.predict(structure).as_dict()))
    assert by_cif["formula"] == "NaCl"
    said = tracking.log.read_text() + server.log.read_text() + done.stdout + done.stderr
    assert PASSWORD not in said


def test_the_server_is_for_this_machine_alone_and_says_what_it_needs(tmp_path: Path) -> None:
    settings = dict(
        line.split("=", 1)
        for line in (DEPLOYMENT / "server.env").read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    assert settings["MLFLOW_HOST"] == "127.0.0.1"
    assert settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    no_password = r"postgresql\+psycopg2://\w+@[\w.]+:\d+/\w+"
    assert re.fullmatch(no_password, settings["MLFLOW_BACKEND_STORE_URI"])
    script = ["bash", str(DEPLOYMENT / "server.sh")]
    missing = subprocess.run([*script, str(tmp_path / "none.env")], capture_output=True, text=True)
    assert missing.returncode == 2 and "server.sh: cannot read" in missing.stderr
