"""How the packages of zoo/ may import each other: downwards only, without a circle, each file name once."""

from __future__ import annotations

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up: a package imports from those before it. zoo/__init__.py and zoo/__main__.py gather everything.
ORDER = (
    "old_names",
    "errors",
    "runtime",
    "storage",
    "contract",
    "convolution",
    "api",
    "graphs",
    "config",
    "data",
    "evaluation",
    "phonons",
    "model",
    "training",
    "inference",
    "report",
    "tracking",
    "workflows",
    "pretraining",
    "sweep",
    "oracles",
    "discovery",
    "ui",
    "testing",
    "cli",
)


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of zoo/, but for the templates, which are texts."""
    paths = (path for path in (ROOT / "zoo").rglob("*.py") if "templates" not in path.parts)
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the zoo that a module imports, wherever in it the statement stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else str(node.module))
    return found - {name, "zoo"}  # of the package itself only the version is imported


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(name, path, known) for name, path in known.items()}


def package(module: str) -> str:
    return module.split(".")[1]


def test_no_circle_of_imports(arrows: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_a_package_imports_from_lower_ones_alone(arrows: dict[str, set[str]]) -> None:
    floor = {name: number for number, name in enumerate(ORDER)}
    upwards = [
        f"{module} imports {other}"
        for module, others in arrows.items()
        if module not in ("zoo", "zoo.__main__")
        for other in others
        if other == "zoo.__main__" or floor[package(other)] > floor[package(module)]
    ]
    assert not upwards, "; ".join(upwards)


def test_every_package_has_its_place(arrows: dict[str, set[str]]) -> None:
    assert {package(module) for module in arrows if module not in ("zoo", "zoo.__main__")} == set(ORDER)


def test_a_file_name_occurs_once() -> None:
    names = Counter(path.name for path in modules().values())
    twice = {name for name, count in names.items() if count > 1 and name != "__init__.py"}
    assert not twice, f"two files of one name: {sorted(twice)}"
