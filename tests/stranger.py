"""A distribution that is not the zoo's, installed for some processes alone: this one does not learn of its plugins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EACH = """
import contextlib, io, json, pathlib, sys
sys.path.append(sys.argv[1])

def tests(arguments):
    import pytest
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = pytest.main(["-p", "no:cacheprovider", *arguments])
    assert code == 0, out.getvalue()[-4000:]
    return out.getvalue()

def command(words):
    from cli import zoo
    done = zoo(*words, cwd=pathlib.Path.cwd())
    assert done.returncode == 0, f"zoo {' '.join(words)}: {done.stderr}"
    return done.stdout

for program, *words in json.load(sys.stdin):
    print(json.dumps(tests(words) if program == "pytest" else command(words)))
"""

# A process for each build, as pip has, but forked: most of a short build is the start of Python and setuptools.
BUILD = """
import importlib, json, os, sys, tomllib
import setuptools.build_meta
for source, wheels in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        os.chdir(source)
        with open("pyproject.toml", "rb") as file:
            backend = tomllib.load(file)["build-system"]["build-backend"]
        importlib.import_module(backend).build_wheel(wheels)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"{source}: {status}"
"""


@dataclass(frozen=True)
class Environment:
    """A folder of packages that comes before all others."""

    site: Path

    @classmethod
    def with_installed(cls, source: Path, place: Path, *others: Path) -> Environment:
        """Build wheels of copies of `source` and `others`, without network; pip installs them under `place`."""
        copies = [place / f"source_{number}" for number in range(1 + len(others))]
        for original, copy in zip((source, *others), copies, strict=True):
            shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
        wheels = place / "wheels"
        wheels.mkdir()
        build = [sys.executable, "-c", BUILD]
        given = json.dumps([(str(copy), str(wheels)) for copy in copies])
        done = subprocess.run(build, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        built = sorted(map(str, wheels.glob("*.whl")))
        assert len(built) == len(copies), built
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
        done = subprocess.run(
            [*install, "--target", str(place / "site"), *built], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return cls(place / "site")

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of a process that finds the packages."""
        path = [str(self.site), *filter(None, [os.environ.get("PYTHONPATH")])]
        # The scripts of this environment, for it need not be activated: mlflow starts uvicorn by name.
        scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PATH": scripts, "OMP_NUM_THREADS": "1"}

    def python(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """`python ARGUMENTS...` in the folder `cwd`."""
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=self.variables, capture_output=True, text=True, check=False
        )

    def zoo(self, *arguments: str, cwd: Path) -> str:
        """What `zoo ARGUMENTS...` prints; it must succeed."""
        done = self.python("-c", "from zoo.cli import main; main()", *arguments, cwd=cwd)
        assert done.returncode == 0, f"zoo {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def each(self, *commands: Sequence[str], cwd: Path) -> list[str]:
        """Run several commands (`zoo ...`, `pytest ...`) one after the other in one process; return what each prints.

        Most of a short one is its start.
        """
        done = subprocess.run(
            [sys.executable, "-c", EACH, str(Path(__file__).parent)],
            cwd=cwd, env=self.variables, input=json.dumps(commands), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def passes_its_tests(self, folder: Path) -> int:
        """Run the tests of a distribution as its author does; the number that passed."""
        done = self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        summary = done.stdout.strip().splitlines()[-1]
        return int(summary.split(" passed")[0].split()[-1])
