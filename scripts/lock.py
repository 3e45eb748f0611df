"""A lock for a deployment, for `pip install --require-hashes`: each package with its version and its file's SHA-256.

    python scripts/lock.py requirements.lock [sevennet,ui]

The versions are those of constraints.txt, the files those that pip would take with this Python on this platform: make
it where it is to be installed, or on a machine of that kind. No address of an index is in it.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OURS = "crystal-tensor-zoo"


def resolved(extras: str) -> dict[str, Any]:
    """Ask pip what it would install for the zoo with these extras, and return its report; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
        command += ["--ignore-installed", "-c", str(ROOT / "constraints.txt"), "--report", str(report)]
        subprocess.run([*command, f"{ROOT}[{extras}]" if extras else str(ROOT)], check=True)
        content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return content


def locked(report: dict[str, Any]) -> str:
    """The lock as text, from pip's report.

    Raises:
        ValueError: a package comes without a hash.
    """
    packages = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name == OURS:
            continue
        sha256 = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if not sha256:
            raise ValueError(f"{name} comes without a hash: take it from an index that gives one")
        packages[name] = f"{name}=={item['metadata']['version']} \\\n    --hash=sha256:{sha256}\n"
    head = (
        f"# Made by scripts/lock.py for Python {platform.python_version()} on {sys.platform}, {platform.machine()}.\n"
    )
    return head + "".join(packages[name] for name in sorted(packages))


def main() -> None:
    """Write the file that the first argument names."""
    out, extras = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    out.write_text(locked(resolved(extras)), encoding="utf-8")
    print(f"{out}: pip install --require-hashes -r {out}, then pip install --no-deps {OURS}")


if __name__ == "__main__":
    main()
