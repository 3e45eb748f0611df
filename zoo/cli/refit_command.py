"""The command `zoo refit`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zoo.cli.long_work import new_folder, removed_if_refused, send_and_show, send_finished, stopped_by_ctrl_c
from zoo.errors import ZooError


@click.command("refit")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="RUN_DIR...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; default: a new one under runs/.")
@click.option("--members", type=click.IntRange(2), help="Of the ensemble; default: as many as a fold has.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="FOLDER", help="Resume a refit that was stopped.")
def refit_command(runs: tuple[Path, ...], out: Path | None, members: int | None, resume: Path | None) -> None:
    """Train the final model of a recipe on all crystals, after a cross-validation.

    RUN_DIR are finished ensembles of the recipe on different splits. The new model has their errors, and intervals that
    are calibrated on all their test parts; what it was trained on leaves none of its own.

    \b
    for s in 0 1 2 3 4; do zoo run dtnet_total 'seeds=[0,1,2]' split.seed=$s --out runs/fold_$s; done
    zoo refit runs/fold_* --out runs/final
    zoo predict runs/final quartz.cif
    """
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.report.refit_card import error_rows
    from zoo.workflows.refit import RefitFolder, folds_of, refit, resumed
    from zoo.workflows.train import target_of

    if resume is not None and (runs or out is not None or members is not None):
        raise ZooError("--resume takes runs and members from the folder: give nothing else")
    if resume is None and not runs:
        raise ZooError("name the runs of the cross-validation: zoo refit runs/fold_* --out runs/final")
    config, folds = resumed(resume) if resume is not None else folds_of(runs, members)
    path = resume or new_folder(f"{config.name}_refit", out, "refit")
    folder = RefitFolder(path)
    if folder.finished:
        send_finished(folder, config.tracking, f"zoo predict {path} FILE predicts with its model")
        return
    last = config.training.max_epochs

    def on_epoch(seed: int, row: dict[str, float]) -> None:
        number = int(row["epoch"])
        if not sys.stderr.isatty() and (number == 1 or number % max(1, last // 8) == 0):
            click.echo(f"seed {seed}    epoch {number} of {last}: train {row['train_loss']:.3f}")

    click.echo(f"{config.name}: trained on all crystals after {len(folds)} folds, everything goes to {path}")
    with removed_if_refused(path), stopped_by_ctrl_c(folder, f"zoo refit --resume {path}"):
        content = refit(config, folds, folder, click.echo, on_epoch)
    table = Table(title=f"MAE_ten of the folds on their test parts, mean ± std over {len(folds)} splits", box=None)
    for column in ("", "single models", "ensembles", "predicting the mean"):
        table.add_column(column, justify="left" if not column else "right")
    for row in error_rows(content, target_of(config).main.name):
        table.add_row(*row)
    console().print(table)
    click.echo(f"figures   {folder.figures}")
    send_and_show(folder, config.tracking)
    click.echo(f"\nnext: zoo predict {path} YOUR.cif")
