"""What `zoo run` prints: the steps, the table of errors, what to do next."""

from __future__ import annotations

import time

import click
from rich.table import Table

from zoo import run as runs
from zoo.cli.terminal import console
from zoo.errors import ZooError
from zoo.recipe import Recipe
from zoo.run_folder import RunFolder

COLUMNS = {
    "mae_ten": "MAE_ten",
    "mae_mean_diag": "mean diag",
    "mae_diag": "diag",
    "mae_off_diag": "off-diag",
    "frobenius": "Frobenius",
    "within_25": "≤ 25 %",
    "within_10": "≤ 10 %",
}


def run_and_show(made: Recipe, folder: RunFolder) -> None:
    """Train, print the table, and send the run to MLflow.

    Raises:
        ZooError: as `zoo.run.run`; or MLflow could not be reached, in which case all results are in the folder.
    """
    begin = time.monotonic()
    click.echo(f"{made.name}: {made.encoder.name} + {made.readout.name}, everything goes to {folder.path}")
    on_epoch = None
    if made.tracking.enabled:
        from zoo.tracking.live import LiveTracking

        on_epoch = LiveTracking(made.tracking, made, folder).epoch
    try:
        content = runs.run(made, folder, click.echo, on_epoch)
    except KeyboardInterrupt:
        if folder.recipe.is_file():
            click.echo(f"\nstopped; go on with: zoo run --resume {folder.path}", err=True)
        raise
    console().print(table_of_errors(content))
    click.echo(f"took      {time.monotonic() - begin:.0f} s")
    click.echo(f"figures   {folder.figures}")
    if made.tracking.enabled:
        from zoo.tracking.send import send

        try:
            sent = send(folder, made.tracking)
        except ZooError as error:
            raise ZooError(f"{error}; nothing is lost, send it later: zoo track {folder.path}") from error
        click.echo(f"mlflow    {sent.line}")
    click.echo(f"\nnext: zoo predict {folder.path} YOUR.cif")


def table_of_errors(content: dict) -> Table:
    """Errors on the test part, for all crystals and by crystal system, mean ± standard deviation over the seeds."""
    seeds = content["seeds"]
    over = "seed" if len(seeds) == 1 else "mean ± std over seeds"
    table = Table(
        title=f"{content['target']}: errors on the test part, {over} {', '.join(map(str, seeds))}",
        title_justify="left",
        box=None,
        header_style="bold",
    )
    table.add_column("", no_wrap=True)
    table.add_column("n", justify="right")
    columns = [name for name in COLUMNS if name in content["test"]]
    for name in columns:
        table.add_column(COLUMNS[name], justify="right", no_wrap=True)
    for system, values in {"all": content["test"], **content["per_crystal_system"]}.items():
        count = values.get("n", {}).get("mean")
        cells = [_cell(values.get(name), name.startswith("within")) for name in columns]
        table.add_row(system, f"{count:.0f}" if count is not None else "", *cells)
    baseline = [_cell(content["test_mean_baseline"].get(name), name.startswith("within")) for name in columns]
    table.add_section()
    table.add_row("predicting the mean", "", *baseline, style="dim")
    return table


def _cell(entry: dict | None, share: bool) -> str:
    if entry is None or entry["mean"] is None:
        return "–"
    scale, digits, unit = (100, 0, " %") if share else (1, 3, "")
    spread = f" ± {entry['std'] * scale:.{digits}f}" if entry["std"] is not None else ""
    return f"{entry['mean'] * scale:.{digits}f}{spread}{unit}"
