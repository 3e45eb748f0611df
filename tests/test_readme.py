"""Every command that the README and the guide to training show is run, training ones on a slice of the data."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from cli import zoo
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "guides" / "training.md").read_text(encoding="utf-8")
SLICE = ["data.limit=24", "training.max_epochs=1"]
FEWER = {"seeds=[0,1,2,3,4]": "seeds=[0,1]"}


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)


def commands(text: str) -> list[list[str]]:
    """All lines of code blocks that call `zoo`, without their comments."""
    lines = [line.strip() for block in blocks(text) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"zoo [a-z]", line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has at hand: the recipes, a CIF, labelled crystals as JSON and as CSV."""
    place = tmp_path_factory.mktemp("readme")
    (place / "recipes").symlink_to(ROOT / "recipes")
    quartz = Structure.from_spacegroup(
        "P3_121", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]]
    )
    quartz.to(str(place / "quartz.cif"))
    (place / "my_folder").mkdir()
    quartz.to(str(place / "my_folder" / "quartz.json"))
    ase.io.write(place / "relaxed.traj", AseAtomsAdaptor.get_atoms(quartz))
    salt = Structure(Lattice.tetragonal(4.2, 6.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    tensors = {
        "quartz": {"structure": quartz.as_dict(), "total": np.diag([4.4, 4.4, 4.6]).tolist()},
        "long salt": {"structure": salt.as_dict(), "total": np.diag([9.0, 9.0, 9.0]).tolist()},  # no model has seen it
    }
    (place / "my_tensors.json").write_text(json.dumps(tensors))
    header = "cif,total_xx,total_yy,total_zz,total_yz,total_xz,total_xy\n"
    (place / "my_tensors.csv").write_text(header + "quartz.cif,4.4,4.4,4.6,0,0,0\n")
    return place


@pytest.mark.extended
@pytest.mark.sevennet
@pytest.mark.slow
def test_the_commands_of_the_readme_run(folder: Path) -> None:
    """In the order of the pages, for later ones need what earlier ones made."""
    for words in [*commands(README), *commands(TRAINING)]:
        arguments = words[1:]
        if arguments[:2] == ["data", "fetch"]:
            continue  # downloads: tested against a local server in tests/data/test_download.py
        if arguments[0] in ("ui", "serve", "promote", "new"):
            # Go on until they are stopped: tests/ui, tests/serving; needs a challenger: tests/test_promote.py; writes a
            # package: tests/test_new.py
            continue
        if arguments[0] in ("screen", "discover"):
            continue  # needs an ensemble: tests/test_guides.py, tests/discovery
        if "ablation_models" in arguments:
            continue  # tests/test_recipes_run.py
        if arguments[0] == "convert":
            continue  # needs the published weights: tests/test_convert.py has files made by the packages
        if ">" in arguments:
            arguments, target = arguments[: arguments.index(">")], arguments[-1]
        else:
            target = None
        if "*.cif" in arguments:
            arguments[arguments.index("*.cif")] = "quartz.cif"
        arguments = [str(latest(folder, word)) if word.endswith("-...") else word for word in arguments]
        if "--resume" in arguments:
            (Path(arguments[-1]) / "metrics.json").unlink(missing_ok=True)  # as if it had been stopped before the end
        elif arguments[0] == "run":
            is_sweep = arguments[1].startswith("ablation") or any(word.startswith("sweep.") for word in arguments)
            arguments = [FEWER.get(word, word) for word in arguments] + SLICE
            arguments += ["seeds=[0]"] if is_sweep else []
            arguments += ["sweep.grid.target=[total]"] if arguments[1] == "ablation_bonds" else []
        result = zoo(*arguments, cwd=folder)
        assert result.returncode == 0, f"zoo {' '.join(arguments)}: {result.stderr}"
        if target is not None:
            assert result.stdout
            (folder / target).write_text(result.stdout)


def latest(folder: Path, shown: str) -> Path:
    """What `runs/NAME-...` stands for: the newest run of that name."""
    name = shown.removeprefix("runs/").removesuffix("...")
    found = [path for path in (folder / "runs").iterdir() if path.name.startswith(name)]
    return max(found, key=lambda path: path.stat().st_mtime)


def test_the_yaml_of_the_guide_is_a_recipe(folder: Path, small: dict) -> None:
    """The dataset section stands for the user's: with the test's small model it reads and checks."""
    text = next(block for block in blocks(TRAINING) if block.startswith("dataset:"))
    (folder / "mine.yaml").write_text(yaml.safe_dump(small | yaml.safe_load(text)))
    checked = zoo("data", "check", "mine.yaml", cwd=folder)
    assert checked.returncode == 0, checked.stderr
    assert "trigonal" in checked.stdout


@pytest.mark.extended
@pytest.mark.sevennet
def test_the_python_of_the_readme_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model in the box is asked."""
    monkeypatch.chdir(folder)
    shown: dict = {}
    exec(next(block for block in blocks(README) if "zoo.predict" in block), shown)
    assert shown["answer"].formula == "SiO2" and shown["answer"].tensor.shape == (3, 3)


def test_the_readme_is_read_to_the_end() -> None:
    assert len(README.split()) <= 900


def test_all_links_of_the_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("mlflow/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README + TRAINING, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_the_code_of_contributing_is_what_zoo_new_writes(tmp_path: Path) -> None:
    """tests/test_new.py installs such a package and runs its conformance suite."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    command = next(words for words in map(str.split, re.findall(r"`zoo (new encoder [^`]+)`", text)))
    assert zoo(*command, cwd=tmp_path).returncode == 0
    (written,) = tmp_path.glob("*/*/__init__.py")
    (test,) = tmp_path.glob("*/tests/*.py")
    shown = [
        re.sub(r"^   ", "", b, flags=re.M) for b in re.findall(r"^ +```python\n(.*?)^ +```", text, flags=re.M | re.S)
    ]
    assert shown[0] in written.read_text()
    for line in shown[1].splitlines():
        assert line in test.read_text()
    assert str(written.relative_to(tmp_path).relative_to(command[-1])) in text
    assert str(test.relative_to(tmp_path).relative_to(command[-1])) in text
