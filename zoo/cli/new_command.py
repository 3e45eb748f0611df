"""`zoo new`."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import click

RUN = {
    "encoder": "zoo run nequip_dtnet_total name=my-plugin 'encoder={name: my-plugin}'",
    "readout": "zoo run nequip_dtnet_total name=my-plugin 'readout={name: my-plugin}'",
    "dataset": "zoo run nequip_dtnet_total name=my-plugin 'dataset={name: my-plugin}' target=total",
    "objective": "zoo screen screen_total model=runs/ensemble 'objective={name: my-plugin}'",
    "acquisition": "zoo screen screen_total model=runs/ensemble 'acquisition={name: my-plugin}'",
    "oracle": "zoo discover discover_total 'candidates={path: my_crystals}' 'oracle={name: my-plugin}'",
}
TRAINED = ("encoder", "readout", "dataset")  # for these, zoo.testing has checks


@click.command("new")
@click.argument("kind", type=click.Choice(list(RUN)))
@click.argument("name")
def new_command(kind: str, name: str) -> None:
    """Write a package with a plugin of your own into the folder NAME: code, tests, pyproject.toml, README.

    It passes the zoo's checks as it is; change it from there.

    \b
    zoo new encoder my-encoder
    cd my-encoder
    pip install -e ".[test]"
    pytest

    What a search makes large (objective), how it chooses (acquisition) and who calculates (oracle) are plugins too.
    """
    from zoo import __version__
    from zoo.errors import clear_disk_errors

    package, cls = _names(kind, name)
    folder = Path(name)
    meant = {"my-plugin": name, "MyPlugin": cls, "my_plugin": package, "zoo>=0": f"zoo>={__version__}"}
    meant |= {"A KIND": f"{'An' if kind[0] in 'aeiou' else 'A'} {kind}", "KIND": kind}
    meant["CHECKS"] = "the zoo's own checks (`zoo.testing`)" if kind in TRAINED else f"what every {kind} must do"
    run = meant["RUN"] = RUN[kind].replace("my-plugin", name)
    written = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{kind}/plugin.py": f"{package}/__init__.py",
        f"{kind}/test_plugin.py": f"tests/test_{package}.py",
    }
    with clear_disk_errors(folder, "go to another folder"):
        for template, target in written.items():
            text = _template(template)
            # In one pass: a name may hold one of the words.
            text = re.sub("|".join(map(re.escape, meant)), lambda word: meant[word[0]], text)
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).write_text(text, encoding="utf-8")
    click.echo(f"wrote {name}/: {', '.join(written.values())}")
    click.echo(f'next: cd {name}\n      pip install -e ".[test]"\n      pytest\n      {run}')


def _template(path: str) -> str:
    return resources.files("zoo").joinpath("templates", *path.split("/")).read_text(encoding="utf-8")


def _names(kind: str, name: str) -> tuple[str, str]:
    """Return the names of import package and class of a distribution.

    Raises:
        ZooError: the name is not valid for a package, or it exists already.
    """
    from zoo.config import plugins
    from zoo.errors import ZooError

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ZooError(f"'{name}' is no name for a package: small letters, digits and single hyphens, as in my-{kind}")
    package = name.replace("-", "_")
    cls = "".join(part.capitalize() for part in name.split("-"))
    if name in plugins.available(kind):
        raise ZooError(f"'{name}' is the name of an installed {kind} (zoo list): choose another one")
    if Path(name).exists():
        raise ZooError(f"{name} exists already: choose another name, or go to another folder")
    if package == "tests" or any(map(keyword.iskeyword, (package, cls))) or find_spec(package) is not None:
        raise ZooError(f"Python has a module '{package}' already: choose another name, as zoo-{name}")
    if re.search(rf"\b({cls}|{cls}Hypers)\b", _template(f"{kind}/plugin.py")):
        raise ZooError(f"the class would be called {cls}, which the code uses for something else: as my-{name}")
    return package, cls
