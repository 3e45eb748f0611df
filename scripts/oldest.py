"""Constraints that take the oldest version of each dependency that setup.cfg allows.

    python scripts/oldest.py > oldest.txt; pip install -c oldest.txt -e ".[test]"

A lower bound `>=8.2` becomes `==8.2.*`, the last repair of the oldest version. Pip is free where there is none.
"""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SETUP = Path(__file__).parents[1] / "setup.cfg"
LOWER = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*>=\s*([0-9.]+)")


def oldest(setup: Path) -> Iterator[str]:
    """One constraint for each requirement of setup.cfg that has a lower bound, extras included."""
    options = configparser.ConfigParser()
    options.read(setup, encoding="utf-8")
    texts = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    for line in (line.strip() for text in texts for line in text.splitlines()):
        found = LOWER.match(line)
        if found:
            yield f"{found[1]}=={found[2]}.*"


if __name__ == "__main__":
    sys.stdout.write("\n".join(sorted(set(oldest(SETUP)), key=str.lower)) + "\n")
