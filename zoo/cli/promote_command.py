"""`zoo promote`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.table import Table

if TYPE_CHECKING:
    from zoo.tracking.promote import Contest


@click.command("promote")
@click.argument("name")
@click.option("--version", type=click.IntRange(1), help="Default: the one with the alias `challenger`.")
@click.option("--uri", help="MLflow tracking URI; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here.")
@click.option("--dry-run", is_flag=True, help="Compare, change nothing.")
@click.option("--force", is_flag=True, help="Promote a version that is not shown to be better, and tag it so.")
def promote_command(name: str, version: int | None, uri: str | None, dry_run: bool, force: bool) -> None:
    """Make the challenger of a registered model its champion, if it is better.

    The two are compared on the validation crystals, which must be the same for both: train them with the same
    split.seed. The challenger is promoted where the 95 % interval of the difference of the errors, from a paired
    bootstrap, lies below zero. Where it holds zero the question is open, and nothing changes without --force. The test
    error is shown and decides nothing. The champion of before keeps the alias `previous`. Where there is no champion,
    the version becomes it without a comparison. The exit code is 1 where the challenger is worse.

    \b
    zoo run dtnet_total split.seed=0                  # the first version is the champion
    zoo run best_total name=dtnet_total split.seed=0  # the next one the challenger
    zoo promote dtnet-total
    """
    from zoo.cli.terminal import console
    from zoo.registry.connect import tracking_uri
    from zoo.registry.fetch import refuse_missing_registry
    from zoo.tracking.promote import contest, crown, promote

    where = tracking_uri(uri)
    refuse_missing_registry(where, "there is no registry")
    asked = None if version is None else str(version)
    found = contest(name, asked, where)
    if found is None:
        if dry_run:
            click.echo(f"'{name}' has no champion: without --dry-run the version becomes it")
        else:
            click.echo(f"models:/{name}@champion is version {crown(name, asked, where)} now; there was none")
        return
    console().print(_table(found))
    if not found.won and not force:
        interval = f"{found.validation.low:+.3g} to {found.validation.high:+.3g}"
        if found.lost:
            click.echo(f"version {found.challenger} is not promoted: its validation error is higher ({interval})")
            raise click.exceptions.Exit(1)
        click.echo(
            f"version {found.challenger} is not promoted: whether its validation error is lower is not resolved, the "
            f"interval of the difference is {interval}; --force promotes it all the same"
        )
        return
    if dry_run:
        click.echo(f"version {found.challenger} would be promoted")
        return
    promote(found, where)
    click.echo(f"models:/{name}@champion is version {found.challenger} now; version {found.champion} is @previous")


def _table(found: Contest) -> Table:
    table = Table(
        title=f"{found.name}: MAE over the independent components, on the same crystals",
        title_justify="left",
        box=None,
        header_style="bold",
    )
    for column in (
        "",
        "n",
        f"champion ({found.champion})",
        f"version {found.challenger}",
        "difference (95 % interval)",
    ):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for part, result in (("validation", found.validation), ("test (decides nothing)", found.test)):
        if result is None:
            table.add_row(part, "–", "–", "–", "tested on different crystals", style="dim")
            continue
        interval = f"{result.mean:+.3f} ({result.low:+.3f} to {result.high:+.3f})"
        style = "" if part == "validation" else "dim"
        table.add_row(part, str(result.n), f"{result.champion:.3f}", f"{result.challenger:.3f}", interval, style=style)
    return table
