"""A built wheel, installed outside of the repository, is whole: recipes, embedded data, plugins, the command."""

from __future__ import annotations

import configparser
import email
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from zoo.contract.versions import E3NN

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git tracks, in a folder of its own, so that nothing is left in the checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout, to know which files belong to it")
    place = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            target = place / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(place / "source")],
        check=True,
        capture_output=True,
    )
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(place), str(wheel)],
        check=True,
        capture_output=True,
    )
    return place


def zoo(installed: Path, cwd: Path, *arguments: str) -> str:
    """The wheel's command, in a folder that is not the repository."""
    code = (
        "import sys, zoo; assert zoo.__file__.startswith(sys.argv[1]), zoo.__file__;"
        "sys.argv = ['zoo', *sys.argv[2:]]; from zoo.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(installed), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    packages = {name.split(".")[0] for name in options["options"]["packages"].split()}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    for name in (
        "zoo_recipes/dtnet_total.yaml",
        "zoo/data/petousis2017/petousis2017.json.gz",
        "zoo/py.typed",
        "zoo/contract/references.bib",
        "zoo/report/model_card.html",
        "zoo/ui/assets/page.css",
        "zoo/ui/examples/molybdite.cif",
    ):
        assert name in names
    assert "zoo/templates/encoder/plugin.py" in names and "zoo/templates/pyproject.toml" in names
    assert any(name.endswith("LICENSE.md") for name in names), "the licence of the embedded data"


BOX = ("zoo/box/zoo-dielectric-1/model.json", "zoo/box/zoo-dielectric-1/member_4.safetensors")
WEIGHTS = ("weights/SevenNet-0.safetensors", "weights/SevenNet-l3i5.safetensors", "weights/LICENSE.md")


def test_the_model_in_the_box_is_in_the_wheel_which_stays_small(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {*BOX, *(f"zoo_sevennet/{name}" for name in WEIGHTS)} <= set(names)
    assert wheel.stat().st_size < 20e6


def test_a_source_distribution_holds_the_box(wheel: Path) -> None:
    """The fixture has left the sources beside the wheel."""
    subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(wheel.parent), "source"],
        cwd=wheel.parent,
        check=True,
        capture_output=True,
    )
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as packed:
        names = {name.split("/", 1)[-1] for name in packed.getnames()}
    assert {*BOX, *(f"encoders/zoo_sevennet/{name}" for name in WEIGHTS)} <= names


def test_an_installed_wheel_answers_at_once(installed: Path, tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.to(str(tmp_path / "NaCl.cif"))
    (answer,) = json.loads(zoo(installed, tmp_path, "predict", "NaCl.cif", "--format", "json"))
    assert answer["formula"] == "NaCl" and answer["electronic"]["polycrystalline"] > 1


def test_the_extras_that_are_spoken_of_are_there(wheel: Path) -> None:
    """`pip install "crystal-tensor-zoo[mace]"` is valid, and brings nothing that could not live beside the zoo."""
    packed = zipfile.ZipFile(wheel)
    name = next(name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(packed.read(name))
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"sevennet", "mace", "tensornet", "optuna", "ui", "test", "dev"} <= extras
    wanted = metadata.get_all("Requires-Dist", [])
    assert "e3nn>=" + ".".join(map(str, E3NN)) in wanted
    assert not [line for line in wanted if line.startswith(("mace-torch", "matgl"))]
    pattern = re.compile(r"crystal-tensor-zoo\[([\w,-]+)\]|pip install -e \"\.\[([\w,-]+)\]")
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *(ROOT / "zoo").rglob("*.py"),
        *ROOT.glob("encoders/*/*.py"),
    ]
    spoken = {
        extra
        for page in pages
        for found in pattern.findall(page.read_text(encoding="utf-8"))
        for extra in "".join(found).split(",")
    }
    assert "sevennet" in spoken and spoken <= extras


def test_an_installed_wheel_finds_its_recipes_and_trains(installed: Path, tmp_path: Path) -> None:
    assert "dtnet_total" in zoo(installed, tmp_path, "recipes")
    small = [
        "encoder={name: nequip, cutoff: 3.0, layers: 1, channels: 4}",
        "readout={name: dtnet, width: 8, blocks: 1}",
        "training.max_epochs=1",
        "data.limit=24",
        "tracking.enabled=false",
    ]
    out = zoo(installed, tmp_path, "run", "dtnet_total", *small, "--out", "mine")
    assert "MAE_ten" in out
    assert (tmp_path / "mine" / "model" / "model.json").is_file()
    assert (tmp_path / "mine" / "model" / "card.html").is_file()
