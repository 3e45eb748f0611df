"""`zoo run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.long_work import new_folder, removed_if_refused, require_recipe_or_resume, send_finished
from zoo.cli.main import main
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.config.recipe import Recipe
    from zoo.sweep.sweep_config import Plan


@click.command("run")
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; default: a new one under runs/.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN_DIR", help="Resume a run that was stopped.")
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
    from zoo.config.recipe import Recipe
    from zoo.runtime.devices import device_named
    from zoo.runtime.distributed import from_first, joined, launch, started
    from zoo.storage.run_folder import RunFolder
    from zoo.sweep.sweep_config import Plan

    if resume is not None and (recipe is not None or overrides or out is not None):
        raise ZooError("--resume takes the recipe from the run folder: give nothing else")
    require_recipe_or_resume("run", "dtnet_total", recipe, resume)
    chosen = what_to_run(recipe, overrides, resume)
    if resume is not None and isinstance(chosen, Recipe) and RunFolder(resume).finished:
        send_finished(RunFolder(resume), chosen.tracking, f"zoo predict {resume} FILE predicts with its model")
        return
    several = started() if processes is None else processes
    if isinstance(chosen, Plan) and several > 1:
        raise ZooError("a sweep trains each cell in one process; a second terminal takes its share: zoo run --resume")
    if processes is not None and started() > 1:
        raise ZooError("--processes starts them by itself: leave it out, or start without torchrun")
    if processes is not None and processes > 1:
        assert not isinstance(chosen, Plan)
        device_named(chosen.device, processes)
        arguments = ["--resume", str(resume)] if resume is not None else [str(recipe), *overrides]
        launch(main, ["run", *arguments, *(["--out", str(out)] if out is not None else [])], processes)
    elif isinstance(chosen, Plan):
        from zoo.cli import sweep_command
        from zoo.sweep.sweep_folder import SweepFolder

        path = resume or new_folder(chosen.base.name, out, "run")
        with removed_if_refused(path):
            sweep_command.run_and_show(chosen, SweepFolder(path))
    else:
        with joined(chosen.device):
            path = Path(from_first(lambda: str(resume or new_folder(chosen.name, out, "run"))))
            with removed_if_refused(path):
                train_and_show(chosen, path)


def what_to_run(recipe: str | None, overrides: tuple[str, ...], resume: Path | None) -> Recipe | Plan:
    """Read the recipe that is named, or that of the folder of an earlier run.

    Raises:
        ZooError: the recipe does not exist or is not valid.
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


def train_and_show(recipe: Recipe, path: Path) -> None:
    """Train a recipe; only the first of several processes prints and sends to MLflow."""
    from zoo.runtime.distributed import is_first
    from zoo.storage.run_folder import RunFolder

    if is_first():
        from zoo.cli import report

        report.run_and_show(recipe, RunFolder(path))
    else:
        from zoo.workflows import train as runs

        runs.run(recipe, RunFolder(path), lambda line: None)
