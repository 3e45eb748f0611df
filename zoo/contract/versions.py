"""Check that e3nn is recent enough: another package may have installed one that is too old to import."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distributions, version

from zoo.errors import ZooError

E3NN = (0, 5, 6)
"""The oldest version that will do, as in setup.cfg: earlier ones cannot be imported beside torch 2.6 and newer."""


def require_e3nn() -> None:
    """Check the installed version by its metadata alone: importing e3nn takes a second.

    Raises:
        ZooError: e3nn is missing or too old; the line names the package that pins the old one, if there is one.
    """
    needed = ".".join(map(str, E3NN))
    try:
        found = version("e3nn")
    except PackageNotFoundError:
        raise ZooError(f"e3nn is not installed: pip install 'e3nn>={needed}'") from None
    if tuple(map(int, re.findall(r"\d+", found)[:3])) >= E3NN:
        return
    told = f"e3nn {found} is installed, the zoo needs {needed} or newer"
    pins = _pinned_by()
    if not pins:
        raise ZooError(f"{told}: pip install 'e3nn>={needed}'")
    names, which = " and ".join(pins), ", ".join(f"{name} {pin}" for name, pin in pins.items())
    raise ZooError(
        f"{told}; {which}, so it cannot live in one environment with the zoo: keep it in another (python -m venv), and "
        f"here: pip uninstall {names}, then pip install 'e3nn>={needed}' "
        "(zoo convert reads the weights of other packages without them)"
    )


def _pinned_by() -> dict[str, str]:
    """Installed packages that want an exact version of e3nn, and which: {"mace-torch": "pins e3nn==0.4.4"}."""
    found = {}
    for one in distributions():
        for line in one.requires or ():
            exact = re.match(r"e3nn\s*\(?(==\s*[\w.]+)", line)
            if exact is not None and "extra ==" not in line:
                found[one.name] = f"pins e3nn{exact[1]}"
    return found
