"""`zoo pretrain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.long_work import (
    new_folder,
    removed_if_refused,
    require_recipe_or_resume,
    send_and_show,
    send_finished,
    stopped_by_ctrl_c,
)
from zoo.cli.main import main
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.pretraining.pretraining_config import Pretraining
    from zoo.pretraining.pretraining_folder import PretrainingFolder


@click.command("pretrain")
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; default: a new one under runs/.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with one that was stopped.")
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="Train in N processes on this machine.")
def pretrain_command(
    recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: Path | None, processes: int | None
) -> None:
    """Train an encoder as an interatomic potential, or tune one, as RECIPE says.

    RECIPE is a YAML file, or the name of one that ships. Labels are energies, forces and stresses of a file of ASE's
    (extxyz, .db, .traj), and force constants of a dataset. DIR/potential.safetensors can then be named in recipes as
    the weights of the encoder, and is a potential for zoo phonons and for ASE (zoo.calculator).

    \b
    zoo pretrain pretrain_teanet 'sources=[{name: file, path: labelled.extxyz}]' --out runs/teanet
    zoo pretrain --resume runs/teanet
    zoo run teanet_dtnet_total encoder.weights=runs/teanet
    """
    from zoo.pretraining import pretraining_config
    from zoo.pretraining.pretraining_folder import PretrainingFolder
    from zoo.runtime.devices import device_named
    from zoo.runtime.distributed import from_first, joined, launch, started

    if resume is not None and (recipe is not None or overrides or out is not None):
        raise ZooError("--resume takes the recipe from its folder: give nothing else")
    require_recipe_or_resume("pretrain", "pretrain_teanet", recipe, resume)
    if resume is None:
        assert recipe is not None
        config = pretraining_config.read(recipe, overrides)
    else:
        folder = PretrainingFolder.existing(resume)
        config = pretraining_config.read(str(folder.recipe))
        if folder.finished:
            send_finished(folder, config.tracking, f"{folder.weights} is the potential")
            return
    if processes is not None and started() > 1:
        raise ZooError("--processes starts them by itself: leave it out, or start without torchrun")
    if processes is not None and processes > 1:
        device_named(config.device, processes)
        arguments = ["--resume", str(resume)] if resume is not None else [str(recipe), *overrides]
        launch(main, ["pretrain", *arguments, *(["--out", str(out)] if out is not None else [])], processes)
        return
    with joined(config.device):
        path = Path(from_first(lambda: str(resume or new_folder(config.name, out, "pretrain"))))
        with removed_if_refused(path):
            _train_and_show(config, PretrainingFolder(path))


def _train_and_show(config: Pretraining, folder: PretrainingFolder) -> None:
    """Train; only the first of several processes prints and sends to MLflow."""
    from zoo.pretraining.pretrain import base_of, pretrain
    from zoo.runtime.distributed import is_first

    if not is_first():
        pretrain(config, folder, lambda line: None)
        return
    click.echo(f"{config.name}: {config.encoder.name} as a potential, everything goes to {folder.path}")

    def on_epoch(row: dict[str, float]) -> None:
        # Where no bar can be drawn (a log, CI) a line now and then says that it goes on.
        number, last = int(row["epoch"]), config.training.max_epochs
        if not sys.stderr.isatty() and (number == 1 or number % max(1, last // 8) == 0):
            errors = ", ".join(
                f"{name.removeprefix('val_')} {row[name]:.4g}" for name in row if name.startswith("val_")
            )
            click.echo(f"epoch     {number} of {last}, validation: {errors}")

    with stopped_by_ctrl_c(folder, f"zoo pretrain --resume {folder.path}"):
        content = pretrain(config, folder, click.echo, on_epoch)
    before = content.get("val_before", {})
    for name, error in content["val"].items():
        was = f" (before: {before[name]:.4g})" if name in before else ""
        click.echo(f"error     {name} {error:.4g}{was}")
    size = content["weights"]["bytes"] / 1e6
    click.echo(f"weights   {folder.weights}, {size:.1f} MB, sha256 {content['weights']['sha256']}")
    send_and_show(folder, config.tracking)
    click.echo(f"\nin a recipe: encoder: {{name: {base_of(config.encoder).name}, weights: {folder.path}}}")
