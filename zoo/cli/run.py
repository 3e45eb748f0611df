"""`zoo run`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("run")
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; default: a new one under runs/.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN_DIR", help="Go on with a run that was stopped.")
def run_command(recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: Path | None) -> None:
    """Train what RECIPE describes: a YAML file, or the name of one that ships (`zoo recipes`).

    \b
    zoo run dtnet_total
    zoo run dtnet_total training.max_epochs=5 'seeds=[0,1,2,3,4]'
    zoo run recipes/dtnet_total.yaml --out runs/mine
    zoo run --resume runs/mine

    A recipe with a `sweep` section is run for each combination of what varies, and ends in one table and one figure:

    \b
    zoo run ablation_layers
    zoo run dtnet_total 'sweep.grid.readout.width=[32,64,128]'
    """
    from zoo import recipe as recipes
    from zoo.cli import report
    from zoo.errors import ZooError
    from zoo.run_folder import RunFolder
    from zoo.sweep import section
    from zoo.sweep.folder import SweepFolder

    if resume is not None:
        if recipe is not None or overrides or out is not None:
            raise ZooError("--resume takes the recipe from the run folder: give nothing else")
        if (resume / "sweep.yaml").is_file():
            made = section.read(str(resume / "sweep.yaml"))
            folder = RunFolder(resume)
        else:
            folder = RunFolder.existing(resume)
            made = recipes.read(str(folder.recipe))
            if folder.finished:
                raise ZooError(f"{resume} is finished; zoo predict {resume} FILE asks its model")
    elif recipe is None:
        raise ZooError("say which recipe: zoo run dtnet_total (zoo recipes lists them)")
    else:
        made = section.read(recipe, overrides)
        if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ZooError(f"{out} is not empty; choose another folder, or go on with it: zoo run --resume {out}")
        name = made.base.name if isinstance(made, section.Plan) else made.name
        folder = RunFolder(out) if out is not None else RunFolder.new(name)
    if isinstance(made, section.Plan):
        from zoo.cli import sweep

        sweep.run_and_show(made, SweepFolder(folder.path))
    else:
        report.run_and_show(made, folder)
