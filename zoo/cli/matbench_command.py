"""`zoo matbench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import click

from zoo.cli.long_work import send_and_show, stopped_by_ctrl_c

if TYPE_CHECKING:
    from zoo.data.matbench_file import MatbenchCrystals
    from zoo.workflows.matbench_comparison import Comparison


@click.command("matbench")
@click.argument("recipe", default="best_electronic")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--data",
    "source",
    default="auto",
    show_default=True,
    metavar="[auto|matbench|petousis2017|FILE]",
    help="Crystals and folds; auto: Matbench's if package and data are available; a file: matbench_dielectric.json.gz.",
)
@click.option(
    "--published",
    type=click.Path(path_type=Path),
    help="JSON {model: {mb-dielectric-0001: n, ...}} of other models, to compare with crystal by crystal.",
)
@click.option(
    "--sources",
    type=click.Path(path_type=Path),
    help="JSON {mb-dielectric-0001: {how: ...}, ...}: also compare without crystals whose `how` begins with ambiguous.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; a stopped run in it is resumed.")
def matbench_command(
    recipe: str,
    overrides: tuple[str, ...],
    source: str,
    published: Path | None,
    sources: Path | None,
    out: Path | None,
) -> None:
    """Test encoder and readout of RECIPE on the dielectric task of Matbench: the refractive index, five folds.

    RECIPE is a file, or the name of one that ships; its encoder, readout, training, seeds (several: an ensemble in
    each fold), data.limit and split.val count. If Matbench's data is not available, five folds of petousis2017 are used
    instead. A file has Matbench's own folds, whichever crystals of the task are in it.

    \b
    zoo matbench
    zoo matbench best_electronic training.max_epochs=40 --out runs/matbench
    zoo matbench matbench --data matbench_dielectric.json.gz --published published.json --sources sources.json
    """
    import sys

    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.config import recipe as recipes
    from zoo.errors import ZooError
    from zoo.runtime.timing import since_start
    from zoo.storage.run_folder import RunFolder, write_text
    from zoo.workflows import matbench, matbench_folds
    from zoo.workflows.matbench_comparison import FIGURE, TABLE, open_others

    if sources is not None and published is None:
        raise ZooError("--sources says which crystals to compare on: name the predictions, too, with --published")
    chosen = recipes.read(recipe, overrides)
    folder = RunFolder(out) if out is not None else RunFolder.new("matbench")
    text = f"# zoo matbench --data {source}\n{recipes.dump(chosen)}"
    begun = folder.recipe.is_file() and folder.provenance.is_file()  # else it was refused before anything was trained
    if begun and folder.recipe.read_text(encoding="utf-8") != text:
        raise ZooError(f"{folder.path} was begun with another recipe; choose another folder with --out")
    if out is not None and out.exists() and not folder.recipe.is_file() and (out.is_file() or any(out.iterdir())):
        raise ZooError(f"{out} is not empty; choose another folder with --out")
    crystals = None if source in get_args(matbench_folds.Source) else _crystals_of(source)
    folds = (
        matbench_folds.open_folds(cast("matbench_folds.Source", source), chosen.data.limit, click.echo)
        if crystals is None
        else matbench_folds.folds_of_file(crystals, chosen.data.limit)
    )
    others = None if published is None else open_others(published, sources, crystals)
    write_text(folder.recipe, text)
    click.echo(f"matbench: {chosen.encoder.name} + {chosen.readout.name}, everything goes to {folder.path}")

    def on_epoch(fold: int, row: dict[str, float]) -> None:
        number, last = int(row["epoch"]), chosen.training.max_epochs
        if not sys.stderr.isatty() and number in (1, last):
            errors = f"train {row['train_loss']:.3f}, validation {row['val_mae_ten']:.3f}"
            click.echo(f"fold {fold}    epoch {number} of {last}: {errors}")

    given = {"data": source, "published": published, "sources": sources, "out": folder.path}
    options = [f"--{name} {value}" for name, value in given.items() if value is not None]
    again = " ".join(["zoo matbench", recipe, *overrides, *options])
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
    click.echo(f"took      {since_start():.0f} s")
    if "submission" in content:
        click.echo(f"for the leaderboard: {folder.path / content['submission']}")
    else:
        click.echo(content["note"])
    if others is not None:
        comparison = others.compare(matbench.predicted_by_key(folder))
        comparison.write(folder.path)
        _show(comparison)
        click.echo(f"compared  {folder.path / TABLE}, {folder.path / FIGURE}")
    send_and_show(folder, chosen.tracking)


def _crystals_of(source: str) -> MatbenchCrystals:
    """Read the crystals of a file.

    Raises:
        ZooError: there is none, or it is of another layout.
    """
    from zoo.data.matbench_file import read_matbench
    from zoo.errors import ZooError
    from zoo.storage.user_path import is_file, user_path

    path = user_path(source)
    if not is_file(path):
        raise ZooError(f"--data {source}: no such file; it is auto, matbench, petousis2017, or a file of Matbench's")
    return read_matbench(path)


def _show(comparison: Comparison) -> None:
    """Print a table of the models on all crystals and, where it is known, one on those that are not ambiguous."""
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.data.matbench_file import FOLD_COUNT
    from zoo.evaluation.paired_errors import MEAN

    for part, errors in comparison.errors.items():
        means = sorted((error for error in errors if error.fold == MEAN), key=lambda error: error.mae)
        if not means:
            continue
        title = f"MAE of n by fold, {part} crystals ({means[0].n:,}): minus ours with 95 % of the paired bootstrap"
        table = Table(title=title, title_justify="left", box=None)
        for column in ("", *map(str, range(FOLD_COUNT)), "MAE", "RMSE", "minus ours"):
            table.add_column(column, justify="right")
        by_fold = {(error.model, error.fold): f"{error.mae:.3f}" for error in errors}
        for error in means:
            maes = [by_fold.get((error.model, str(fold)), "") for fold in range(FOLD_COUNT)]
            beyond = f"{error.difference:+.4f} [{error.low:+.4f}, {error.high:+.4f}]" if error.high > error.low else ""
            table.add_row(error.model, *maes, f"{error.mae:.4f}", f"{error.rmse:.3f}", beyond)
        console().print(table)
