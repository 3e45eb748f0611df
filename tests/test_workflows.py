"""Workflows of GitHub and the Dockerfile: they can be read, run the Makefile's commands, and are safe by default."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from zoo import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["on"] = content.pop(True)  # YAML 1.1 reads the key so
    return content


def steps(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in content["jobs"].values() for step in job["steps"]]


def commands(content: dict[str, Any]) -> str:
    return "\n".join(step["run"] for step in steps(content) if "run" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_alone_and_ends(path: Path) -> None:
    content = read(path)
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert set(job.get("permissions", {})) <= {"pages", "id-token"}
    for step in steps(content):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step.get("uses", "a/b@v1"))
        assert "secrets." not in str(step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_commands_of_a_workflow_exist(path: Path) -> None:
    text = commands(read(path))
    for target, rest in re.findall(r"\bmake ([\w-]+)(.*)", text):
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.M), target
        for variable in re.findall(r"\b([A-Z]+)=", rest):
            assert re.search(rf"^{variable} *\?=", MAKEFILE, flags=re.M), variable
        for place in re.findall(r"tests/[\w/.]+", rest):
            assert (ROOT / place).exists(), place
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).is_file()


def test_what_ci_runs_github_runs() -> None:
    ours = set(re.findall(r"\bmake ([\w-]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8")))
    assert ours == {"lint", "docs", "test", "test-extended"}
    assert ours <= set(re.findall(r"\bmake ([\w-]+)", commands(read(ROOT / ".github" / "workflows" / "test.yml"))))


def test_all_supported_versions_of_python_are_tested() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "test.yml")["jobs"]
    classified = set(re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"]))
    for name in ("test", "without-extras"):
        assert {entry["python"] for entry in jobs[name]["strategy"]["matrix"]["include"]} == classified
    named = {name for job in jobs.values() for name in job.get("env", {})}
    assert named == {"PACKAGE", "CONSTRAINTS"}
    for name in named:
        assert re.search(rf"^{name} *\?=", MAKEFILE, flags=re.M), name


def test_a_release_is_of_the_version_that_its_tag_names() -> None:
    content = read(ROOT / ".github" / "workflows" / "release.yml")
    assert content["on"] == {"push": {"tags": ["v*"]}}
    assert content["jobs"]["publish"]["needs"] == "build"
    check = next(step["run"] for step in steps(content) if "version" in step.get("name", ""))
    for tag, code in ((f"v{__version__}", 0), ("v99.0", 1)):
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"})
        assert done.returncode == code


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    done = subprocess.run([sys.executable, "scripts/oldest.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    pinned = dict(line.split("==") for line in done.stdout.split())
    required = SETUP["options"]["install_requires"]
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)$", required, flags=re.M))
    assert len(bounds) >= 10
    for name, bound in bounds.items():
        assert pinned[name] == f"{bound}.*"
        assert bound in SpecifierSet(f"=={pinned[name]}"), name
    assert pinned["vesin"] and "numpy" not in pinned  # of an extra; without a bound


def instructions(name: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{name} +(.*)$", joined, flags=re.M)


def test_the_image_is_not_root_and_says_whether_it_is_well() -> None:
    assert all(re.fullmatch(r"python:3\.11-slim-\w+( AS \w+)?", base) for base in instructions("FROM"))
    assert instructions("USER") == ["10001:10001"]
    assert DOCKERFILE.rindex("USER") < DOCKERFILE.index("ENTRYPOINT")
    (port,) = instructions("EXPOSE")
    assert "/ping" in instructions("HEALTHCHECK")[0] and f":{port}/" in instructions("HEALTHCHECK")[0]
    assert instructions("ENTRYPOINT") == ['["zoo"]']
    assert instructions("CMD") == [f'["serve", "--host", "0.0.0.0", "--port", "{port}"]']
    places = set(
        re.findall(r"https?://([\w.]+)", "\n".join(instructions("ARG") + instructions("RUN") + instructions("ENV")))
    )
    assert not places, "no host of an index: it is an argument"


def test_no_host_of_a_package_index_is_named_in_a_workflow() -> None:
    """A variable of the repository names the index that torch shall come from."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    assert len(texts) == 3
    for text in texts:
        assert not re.search(r"index-url\s+[\"']?http", text), text


def test_the_image_is_built_of_all_that_the_wheel_is_made_of() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*" and all((ROOT / name).exists() for name in kept)
    folders = re.findall(r"= *(\S+)$", SETUP["options"]["package_dir"], flags=re.M)
    assert {folder.split("/")[0] for folder in folders} <= kept
    assert {"setup.cfg", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= kept
