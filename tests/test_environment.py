"""Where mace-torch has brought an old e3nn, whoever calls the zoo is told so in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from zoo.contract import versions
from zoo.contract.versions import require_e3nn
from zoo.errors import ZooError


def pretend(place: Path, name: str, version: str, *requires: str) -> None:
    """A distribution that is nothing but metadata."""
    folder = place / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes before all other packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def told() -> str:
    with pytest.raises(ZooError) as caught:
        require_e3nn()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_installed_here_will_do() -> None:
    require_e3nn()


@pytest.mark.parametrize("version", ["0.5.6", "0.5.10", "0.6", "1.0.0rc1", "0.6.0+cpu"])
def test_new_ones_will_do(site: Path, version: str) -> None:
    pretend(site, "e3nn", version)
    require_e3nn()


@pytest.mark.parametrize("version", ["0.4.4", "0.5", "0.5.5"])
def test_an_old_one_that_nobody_wants(site: Path, version: str) -> None:
    pretend(site, "e3nn", version)
    message = told()
    assert f"e3nn {version} " in message and "pip install 'e3nn>=0.5.6'" in message


@pytest.mark.parametrize("requirement", ["e3nn==0.4.4", "e3nn (==0.4.4)"])
def test_the_package_that_wants_the_old_one_is_named(site: Path, requirement: str) -> None:
    pretend(site, "e3nn", "0.4.4")
    pretend(site, "mace-torch", "0.3.16", "torch>=1.12", requirement)
    pretend(site, "innocent", "1.0", "e3nn", "e3nn-jax==0.20; extra == 'jax'")
    message = told()
    assert "e3nn 0.4.4 " in message and "0.5.6" in message and "mace-torch pins e3nn==0.4.4" in message
    assert "pip uninstall mace-torch" in message
    assert "innocent" not in message


def test_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", missing)
    message = told()
    assert "not installed" in message and "pip install 'e3nn>=0.5.6'" in message


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("import sys; sys.argv = ['zoo', 'list']; from zoo.cli import main; main()", "zoo: e3nn 0.4.4"),
        ("import zoo.api", "zoo.errors.ZooError: e3nn 0.4.4"),
    ],
    ids=["command line", "Python"],
)
def test_where_a_user_meets_it(tmp_path: Path, code: str, last: str) -> None:
    pretend(tmp_path, "e3nn", "0.4.4")
    pretend(tmp_path, "mace-torch", "0.3.16", "e3nn==0.4.4")
    # As the real one, which torch 2.6 and newer refuses: the metadata must have been looked at before.
    (tmp_path / "e3nn").mkdir()
    (tmp_path / "e3nn" / "__init__.py").write_text("raise RuntimeError('imported')")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith(last) and "mace-torch pins" in lines[-1]
    if last.startswith("zoo: "):
        assert done.returncode == 2 and len(lines) == 1
