"""`zoo discover`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.long_work import (
    new_folder,
    recipe_and_overrides,
    removed_if_refused,
    require_recipe_or_resume,
    send_work,
    stopped_by_ctrl_c,
)

if TYPE_CHECKING:
    from zoo.discovery.rounds.discovery_config import Discovery
    from zoo.discovery.rounds.discovery_folder import DiscoveryFolder


@click.command("discover")
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; default: a new one under runs/.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with one that was stopped.")
@click.option("--give-up", is_flag=True, help="With --resume: take calculations that are still awaited for failed.")
def discover_command(
    recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: Path | None, give_up: bool
) -> None:
    """Search for crystals in rounds: train, choose, calculate, and train again on what has come.

    RECIPE is a YAML file, or the name of one that ships (backtest_total, discover_total). Each round's models, choice
    and calculations are in DIR/round_N, what was predicted and what came of it in DIR/asked.csv, pictures in
    DIR/figures. It can be stopped at any time, in the midst of a calculation too.

    \b
    zoo discover backtest_total
    zoo discover backtest_total acquisition.name=greedy --out runs/greedy
    zoo discover discover_total candidates='{path: my_cifs}' oracle.name=espresso
    zoo discover --resume runs/greedy
    zoo discover --resume runs/greedy rounds=5
    """
    from zoo.discovery.rounds import discovery_config
    from zoo.discovery.rounds.discovery_folder import DiscoveryFolder
    from zoo.errors import ZooError

    if resume is not None and out is not None:
        raise ZooError("--resume goes on in its own folder: leave out --out")
    require_recipe_or_resume("discover", "backtest_total", recipe, resume)
    if give_up and resume is None:
        raise ZooError("--give-up goes with --resume: there is nothing to give up yet")
    if resume is not None:
        folder = DiscoveryFolder.existing(resume)
        recipe, overrides = recipe_and_overrides(recipe, overrides)
        config = discovery_config.read(recipe or str(folder.recipe), overrides)
        if folder.finished and len(folder.finished_rounds) >= config.rounds:
            raise ZooError(f"{resume} is finished: {folder.asked} holds what was found; for more rounds say rounds=N")
        _discover_and_show(config, folder, give_up)
        return
    assert recipe is not None
    config = discovery_config.read(recipe, overrides)
    path = new_folder(config.name, out, "discover")
    with removed_if_refused(path):
        _discover_and_show(config, DiscoveryFolder(path), give_up)


def _discover_and_show(config: Discovery, folder: DiscoveryFolder, giving_up: bool) -> None:
    from zoo.cli.report import train
    from zoo.discovery.rounds.loop import Loop, Waiting
    from zoo.discovery.screen_results import NothingLeft
    from zoo.errors import ZooError

    chosen = f"the top {config.top} by {config.acquisition.name} for {config.aim}"
    click.echo(f"{config.name}: {config.rounds} rounds, {chosen}; everything goes to {folder.path}")
    loop = Loop(config, folder, lambda recipe, place: train(recipe, place, click.echo), click.echo)
    again = f"zoo discover --resume {folder.path}"
    with loop.begun():
        try:
            with stopped_by_ctrl_c(folder, again):
                found = loop.go_on(lambda: _send_so_far(config, folder), giving_up)
        except Waiting as waiting:
            click.echo(f"\n{waiting}\nwhen these are done: {again}")
            click.echo(f"to close the round without them: {again} --give-up")
            return
        except KeyboardInterrupt:
            _tell_of_stop(config, folder, "KILLED")
            raise
        except ZooError as error:
            _tell_of_stop(config, folder, "FAILED")
            if isinstance(error, NothingLeft):  # nor would there be a second time
                raise
            raise ZooError(f"{error}; what is done is kept, go on with: {again}") from error
    _show(found, config, folder)


def _send_so_far(config: Discovery, folder: DiscoveryFolder) -> None:
    """Send what there is to MLflow; a server that does not answer stops nothing."""
    from zoo.errors import ZooError

    try:
        sent = send_work(folder, config.tracking)
    except ZooError as error:
        click.echo(f"warning: {error}", err=True)
        return
    if sent is not None and folder.finished:  # once, not after every round
        click.echo(f"mlflow    {sent.line}")


def _tell_of_stop(config: Discovery, folder: DiscoveryFolder, status: str) -> None:
    """Tell MLflow, if it hears: something else has to be put right."""
    from zoo.errors import ZooError

    if config.tracking.enabled and folder.tracked.is_file():
        from zoo.discovery.rounds.track_discovery import tell_of_stop

        with suppress(ZooError):
            tell_of_stop(folder, config.tracking, status)


def _show(found: dict[str, Any], config: Discovery, folder: DiscoveryFolder) -> None:
    from rich.markup import escape
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.discovery.rounds.round_results import for_reading
    from zoo.storage.run_folder import read_rows

    rounds = read_rows(folder.table)
    if rounds:
        table = Table(box=None, header_style="bold")
        for column in rounds[0]:
            table.add_column(column.replace("_", " "), justify="right")
        for row in rounds:
            table.add_row(*map(for_reading, row.values()))
        console().print(table)
    table = Table(box=None, header_style="bold")
    for column in ("best", "formula", config.objective.name, "round"):
        table.add_column(column, justify="right" if column in (config.objective.name, "round") else "left")
    for one in found["best"]:
        table.add_row(escape(one["key"]), one["formula"], f"{one['value']:.4g}", str(one["round"]))
    console().print(table)
    click.echo(f"asked     {folder.asked}")
    if folder.last_model is not None:
        click.echo(
            f"model     {folder.last_model.path}, trained on all of it: zoo predict {folder.last_model.path} YOUR.cif"
        )
    click.echo(f"figures   {folder.figures}: {', '.join(sorted(path.name for path in folder.figures.glob('*.png')))}")
