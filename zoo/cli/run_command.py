"""`zoo run`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.main import main

if TYPE_CHECKING:
    from zoo.config.recipe import Recipe
    from zoo.sweep.sweep_config import Plan


@click.command("run")
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; default: a new one under runs/.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN_DIR", help="Go on with a run that was stopped.")
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Train in N processes on this machine.")
def run_command(
    recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: Path | None, processes: int | None
) -> None:
    """Train what RECIPE describes: a YAML file, or the name of one that ships (`zoo recipes`).

    \b
    zoo run dtnet_total
    zoo run dtnet_total training.max_epochs=5 'seeds=[0,1,2,3,4]'
    zoo run recipes/dtnet_total.yaml --out runs/mine
    zoo run --resume runs/mine
    zoo run nequip_dtnet_total --processes 2

    A recipe with a `sweep` section is run for each combination of what varies, and ends in one table and one figure:

    \b
    zoo run ablation_layers
    zoo run dtnet_total 'sweep.grid.readout.width=[32,64,128]'
    """
    from zoo.errors import ZooError
    from zoo.runtime.devices import device_named
    from zoo.runtime.distributed import from_first, joined, launch, started
    from zoo.sweep.sweep_config import Plan

    if resume is not None and (recipe is not None or overrides or out is not None):
        raise ZooError("--resume takes the recipe from the run folder: give nothing else")
    if recipe is None and resume is None:
        raise ZooError("say which recipe: zoo run dtnet_total (zoo recipes lists them)")
    made = what_to_run(recipe, overrides, resume)
    several = started() if processes is None else processes
    if isinstance(made, Plan) and several > 1:
        raise ZooError("a sweep trains each cell in one process; a second terminal takes its share: zoo run --resume")
    if processes is not None and started() > 1:
        raise ZooError("--processes starts them by itself: leave it out, or start without torchrun")
    if processes is not None and processes > 1:
        assert not isinstance(made, Plan)
        device_named(made.device, processes)
        chosen = ["--resume", str(resume)] if resume is not None else [str(recipe), *overrides]
        launch(main, ["run", *chosen, *(["--out", str(out)] if out is not None else [])], processes)
    elif isinstance(made, Plan):
        from zoo.cli import sweep_command
        from zoo.sweep.sweep_folder import SweepFolder

        path = where_to(made.base.name, out, resume)
        with unless_refused(path):
            sweep_command.run_and_show(made, SweepFolder(path))
    else:
        with joined(made.device):
            path = Path(from_first(lambda: str(where_to(made.name, out, resume))))
            with unless_refused(path):
                train_and_show(made, path)


def what_to_run(recipe: str | None, overrides: tuple[str, ...], resume: Path | None) -> Recipe | Plan:
    """The recipe of a name or file, or of the folder of an earlier run.

    Raises:
        ZooError: it is not there or not right.
    """
    from zoo.config import recipe as recipes
    from zoo.storage.run_folder import RunFolder
    from zoo.sweep import sweep_config

    if resume is None:
        assert recipe is not None
        return sweep_config.read(recipe, overrides)
    if (resume / "sweep.yaml").is_file():
        return sweep_config.read(str(resume / "sweep.yaml"))
    return recipes.read(str(RunFolder.existing(resume).recipe))


def where_to(name: str, out: Path | None, resume: Path | None) -> Path:
    """The folder for everything.

    Raises:
        ZooError: `resume` is finished, or `out` holds something already.
    """
    from zoo.errors import ZooError
    from zoo.storage.run_folder import RunFolder

    if resume is not None:
        if RunFolder(resume).finished and not (resume / "sweep.yaml").is_file():
            raise ZooError(f"{resume} is finished; zoo predict {resume} FILE asks its model")
        return resume
    return new_folder(name, out)


def new_folder(name: str, out: Path | None, command: str = "run") -> Path:
    """`out` or, without it, a new folder under runs/.

    Raises:
        ZooError: `out` holds something already.
    """
    from zoo.errors import ZooError
    from zoo.storage.run_folder import RunFolder

    if out is None:
        return RunFolder.new(name).path
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ZooError(f"{out} is not empty; choose another folder, or go on with it: zoo {command} --resume {out}")
    return out


def of_folder(recipe: str | None, overrides: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Of a search that is gone on with: without a recipe, what stands in its place is an override."""
    return (None, (recipe, *overrides)) if recipe is not None and "=" in recipe else (recipe, overrides)


@contextmanager
def unless_refused(path: Path) -> Iterator[None]:
    """Take the new folder away again where the recipe is refused before anything is in it."""
    from zoo.errors import ZooError

    try:
        yield
    except ZooError:
        with suppress(OSError):  # there is something in it
            path.rmdir()
        raise


def train_and_show(made: Recipe, path: Path) -> None:
    """One recipe; of several processes the first one alone prints, and speaks to MLflow."""
    from zoo.runtime.distributed import is_first
    from zoo.storage.run_folder import RunFolder

    if is_first():
        from zoo.cli import report

        report.run_and_show(made, RunFolder(path))
    else:
        from zoo.workflows import train as runs

        runs.run(made, RunFolder(path), lambda line: None)
