"""What `zoo run` prints: the steps, the table of errors, what to do next."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.table import Table

from zoo import run as runs
from zoo.errors import ZooError
from zoo.recipe import Recipe
from zoo.run_folder import RunFolder
from zoo.tracking.live import LiveTracking
from zoo.tracking.send import send

COLUMNS = {
    "mae_ten": "MAE tensor",
    "mae_mean_diag": "MAE mean diag",
    "mae_diag": "MAE diag",
    "mae_off_diag": "MAE off-diag",
    "frobenius": "Frobenius",
    "within_25": "within 25 %",
    "within_10": "within 10 %",
}


def run_and_show(made: Recipe, folder: RunFolder) -> None:
    """Train, print the table, and send the run to MLflow.

    Raises:
        ZooError: as `zoo.run.run`; or MLflow could not be reached, in which case all results are in the folder.
    """
    begin = time.monotonic()
    click.echo(f"{made.name}: {made.encoder.name} + {made.readout.name}, everything goes to {folder.path}")
    live = LiveTracking(made.tracking, made, folder) if made.tracking.enabled else None
    try:
        content = runs.run(made, folder, click.echo, live.epoch if live else None)
    except KeyboardInterrupt:
        if folder.recipe.is_file():
            click.echo(f"\nstopped; go on with: zoo run --resume {folder.path}", err=True)
        raise
    Console().print(table_of_errors(content))
    click.echo(f"took      {time.monotonic() - begin:.0f} s")
    click.echo(f"figures   {folder.figures}")
    if made.tracking.enabled:
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
    table.add_column("")
    table.add_column("n", justify="right")
    columns = [name for name in COLUMNS if name in content["test"]]
    for name in columns:
        table.add_column(COLUMNS[name], justify="right")
    for system, values in {"all": content["test"], **content["per_crystal_system"]}.items():
        count = values.get("n", {}).get("mean")
        cells = [_cell(values.get(name), name.startswith("within")) for name in columns]
        table.add_row(system, f"{count:.0f}" if count is not None else "", *cells)
    baseline = _cell(content["test_mean_baseline"]["mae_ten"], False)
    table.add_section()
    table.add_row("predicting the mean", "", baseline, *[""] * (len(columns) - 1), style="dim")
    return table


def _cell(entry: dict | None, share: bool) -> str:
    if entry is None or entry["mean"] is None:
        return "–"
    scale, digits, unit = (100, 0, " %") if share else (1, 3, "")
    spread = f" ± {entry['std'] * scale:.{digits}f}" if entry["std"] is not None else ""
    return f"{entry['mean'] * scale:.{digits}f}{spread}{unit}"
