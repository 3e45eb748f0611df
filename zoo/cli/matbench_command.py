"""`zoo matbench`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from zoo.cli.long_work import send_and_show, stopped_by_ctrl_c


@click.command("matbench")
@click.argument("recipe", default="best_electronic")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--data",
    "source",
    type=click.Choice(["auto", "matbench", "petousis2017"]),
    default="auto",
    show_default=True,
    help="Crystals and folds; auto: Matbench's if package and data are available.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; a stopped run in it is resumed.")
def matbench_command(
    recipe: str, overrides: tuple[str, ...], source: Literal["auto", "matbench", "petousis2017"], out: Path | None
) -> None:
    """Test encoder and readout of RECIPE on the dielectric task of Matbench: the refractive index, five folds.

    RECIPE is a file, or the name of one that ships; its encoder, readout, training, first seed, data.limit and
    split.val count. If Matbench's data is not available, five folds of petousis2017 are used instead.

    \b
    zoo matbench
    zoo matbench best_electronic training.max_epochs=40 --out runs/matbench
    """
    import sys
    import time

    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.config import recipe as recipes
    from zoo.errors import ZooError
    from zoo.storage.run_folder import RunFolder, write_text
    from zoo.workflows import matbench

    chosen = recipes.read(recipe, overrides)
    folder = RunFolder(out) if out is not None else RunFolder.new("matbench")
    text = f"# zoo matbench --data {source}\n{recipes.dump(chosen)}"
    if folder.recipe.is_file() and folder.recipe.read_text(encoding="utf-8") != text:
        raise ZooError(f"{folder.path} was begun with another recipe; choose another folder with --out")
    if out is not None and out.exists() and not folder.recipe.is_file() and (out.is_file() or any(out.iterdir())):
        raise ZooError(f"{out} is not empty; choose another folder with --out")
    folds = matbench.open_folds(source, chosen.data.limit, click.echo)
    write_text(folder.recipe, text)
    click.echo(f"matbench: {chosen.encoder.name} + {chosen.readout.name}, everything goes to {folder.path}")
    begin = time.monotonic()

    def on_epoch(fold: int, row: dict[str, float]) -> None:
        number, last = int(row["epoch"]), chosen.training.max_epochs
        if not sys.stderr.isatty() and number in (1, last):
            errors = f"train {row['train_loss']:.3f}, validation {row['val_mae_ten']:.3f}"
            click.echo(f"fold {fold}    epoch {number} of {last}: {errors}")

    again = " ".join(["zoo matbench", recipe, *overrides, f"--data {source} --out {folder.path}"])
    with stopped_by_ctrl_c(folder, again):
        content = matbench.run(chosen, folds, folder, click.echo, on_epoch)
    table = Table(title=f"refractive index, folds of {content['data']}", title_justify="left", box=None)
    for column in ("fold", "train", "test", "MAE", "RMSE", "largest", "MAE of the mean"):
        table.add_column(column, justify="right")
    names = matbench.ERRORS
    for fold in content["folds"]:
        counts = [str(fold[name]) for name in ("fold", "n_train", "n_test")]
        table.add_row(*counts, *[f"{fold[name]:.4f}" for name in names])
    spread = [f"{content[name]['mean']:.4f} ± {content[name]['std']:.4f}" for name in names]
    table.add_row("all", "", "", *spread, style="bold")
    console().print(table)
    click.echo(f"took      {time.monotonic() - begin:.0f} s")
    if "submission" in content:
        click.echo(f"for the leaderboard: {folder.path / content['submission']}")
    else:
        click.echo("These are not Matbench's crystals: the numbers do not compare with its leaderboard.")
    send_and_show(folder, chosen.tracking)
