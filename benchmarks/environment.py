"""Environments for packages that cannot share the zoo's: made once, below the environment that runs this.

    python benchmarks/environment.py NAME REQUIREMENT...     # prints the path of its Python

What the zoo's environment has already, torch above all, is seen from it and not installed again, unless a requirement
wants another version. They are kept in .venv/foreign (`FOREIGN` for another folder) and made anew when the requirements
change.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from filelock import FileLock

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def environment(name: str, *requirements: str) -> Path:
    """The Python of the environment `name`, which has what `requirements` say.

    Raises:
        SystemExit: they cannot be installed; the end of pip's log is shown.
    """
    place = Path(os.environ.get("FOREIGN", Path(sys.prefix) / "foreign")).absolute()
    place.mkdir(parents=True, exist_ok=True)
    folder = place / name
    python, done = folder / "bin" / "python", folder / ".installed"
    with FileLock(place / f"{name}.lock"):
        if not done.is_file() or done.read_text().split() != list(requirements):
            print(f"making {folder}", file=sys.stderr)
            _make(folder, python, requirements)
            done.write_text("\n".join(requirements))
    return python


def _make(folder: Path, python: Path, requirements: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (Path(paths["purelib"]) / "zoo.pth").write_text("\n".join(seen))
    torch = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))  # no other one
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", torch, *requirements]
    pip = subprocess.run(install, capture_output=True, text=True)
    if pip.returncode:
        raise SystemExit(f"{folder}: pip failed\n{pip.stdout[-1000:]}{pip.stderr[-2000:]}")


if __name__ == "__main__":
    print(environment(*sys.argv[1:]))
