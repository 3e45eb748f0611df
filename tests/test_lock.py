"""The lock for a deployment (`scripts/lock.py`): a version and a hash each, and no address."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", Path(__file__).parents[1] / "scripts" / "lock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def item(name: str, version: str, **archive: Any) -> dict[str, Any]:
    """One package of pip's report."""
    download = {"url": f"https://index.example/{name}.whl", "archive_info": archive}
    return {"metadata": {"name": name, "version": version}, "download_info": download}


def test_a_version_and_a_hash_each_and_no_address(lock: ModuleType) -> None:
    ours = {
        "metadata": {"name": "crystal_tensor.zoo", "version": "1"},
        "download_info": {"url": "file:///x", "dir_info": {}},
    }
    report = {
        "install": [
            item("Torch", "2.9", hashes={"sha256": "b" * 64}),
            ours,
            item("a_b", "1", hashes={"sha256": "a" * 64}),
        ]
    }
    head, *lines = lock.locked(report).splitlines()
    assert head.startswith("# Made by scripts/lock.py for Python 3.")
    assert lines == ["a-b==1 \\", f"    --hash=sha256:{'a' * 64}", "torch==2.9 \\", f"    --hash=sha256:{'b' * 64}"]


def test_a_package_without_a_hash_is_refused(lock: ModuleType) -> None:
    with pytest.raises(ValueError, match="torch comes without a hash"):
        lock.locked({"install": [item("torch", "2.9")]})
