"""What may import what, and that every plugin folder is registered."""

from __future__ import annotations

import ast
import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN_FOLDERS = sorted(p for kind in ("encoders", "readouts") for p in (ROOT / kind).glob("zoo_*") if p.is_dir())


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS, ids=lambda p: p.name)
def test_of_the_zoo_a_plugin_imports_the_api_alone(folder: Path) -> None:
    for path in folder.rglob("*.py"):
        foreign = {
            name
            for name in imports(path)
            if name.split(".")[0] == "zoo" and name != "zoo.api" and name != "zoo.testing"
        }
        other = {n for n in imports(path) if n.startswith("zoo_") and n.split(".")[0] != folder.name}
        assert not foreign | other, f"{path} imports {sorted(foreign | other)}, not zoo.api alone"


def test_the_core_imports_no_plugin() -> None:
    names = {folder.name for folder in PLUGIN_FOLDERS}
    for path in (ROOT / "zoo").rglob("*.py"):
        assert not names & {name.split(".")[0] for name in imports(path)}, f"{path} imports a plugin"


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS, ids=lambda p: p.name)
def test_a_plugin_folder_is_packaged_and_registered(folder: Path) -> None:
    options = setup()
    assert folder.name in options["options"]["packages"].split(), f"add {folder.name} to packages in setup.cfg"
    points = options["options.entry_points"][f"zoo.{folder.parent.name}"]
    assert f"{folder.name}:" in points, f"register {folder.name} under zoo.{folder.parent.name} in setup.cfg"


def test_what_setup_cfg_registers_is_installed() -> None:
    from importlib.metadata import entry_points

    from zoo.config.plugins import GROUPS

    for group in GROUPS.values():
        written = {
            line.split("=")[0].strip() for line in setup()["options.entry_points"][group].splitlines() if "=" in line
        }
        installed = {point.name for point in entry_points(group=group) if point.dist.name == "crystal-tensor-zoo"}
        assert written == installed, "setup.cfg has changed: pip install -e . again"


def test_all_packages_are_listed() -> None:
    listed = set(setup()["options"]["packages"].split())
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "zoo").rglob("__init__.py")}
    assert there <= listed, f"add {sorted(there - listed)} to packages in setup.cfg"


def test_the_folder_mlflow_is_no_package() -> None:
    assert not (ROOT / "mlflow" / "__init__.py").exists(), "it would shadow the library of that name"
    import mlflow

    assert mlflow.__file__ is not None
    assert ROOT not in Path(mlflow.__file__).parents or "site-packages" in mlflow.__file__


def test_api_is_complete() -> None:
    from zoo import api

    for name in api.__all__:
        assert getattr(api, name).__doc__, f"{name} has no docstring"
