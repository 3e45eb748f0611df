"""A distribution that is not the zoo's, installed for some processes alone: this one does not learn of its plugins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """A folder of packages that comes before all others."""

    site: Path

    @classmethod
    def with_installed(cls, source: Path, place: Path) -> Environment:
        """Build a copy of `source` as pip does, without network, and install it under `place`."""
        copy = place / "source"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
        done = subprocess.run(
            [*command, "--target", str(place / "site"), str(copy)], capture_output=True, text=True, check=False
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

    def passes_its_tests(self, folder: Path) -> int:
        """Run the tests of a distribution as its author does; the number that passed."""
        done = self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        summary = done.stdout.strip().splitlines()[-1]
        return int(summary.split(" passed")[0].split()[-1])
