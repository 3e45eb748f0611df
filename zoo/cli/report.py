"""Output of `zoo run`: its steps, the table of errors, and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from zoo.cli.long_work import send_and_show, stopped_by_ctrl_c
from zoo.cli.terminal import console
from zoo.config.recipe import Recipe
from zoo.evaluation import error_table
from zoo.evaluation.error_table import COLUMNS, cell
from zoo.runtime.timing import since_start
from zoo.storage.run_folder import RunFolder
from zoo.workflows import train as runs

if TYPE_CHECKING:  # MLflow takes a second to import
    from zoo.tracking.epoch_logger import EpochLogger

Errors = Mapping[str, Mapping[str, float | None]]


def run_and_show(config: Recipe, folder: RunFolder) -> None:
    """Train, print the table, and send the run to MLflow.

    Raises:
        ZooError: as `zoo.workflows.train.run`; or MLflow could not be reached, and then all results are in
            the folder.
    """
    click.echo(f"{config.name}: {config.encoder.name} + {config.readout.name}, everything goes to {folder.path}")
    live = epoch_logger(config, folder) if config.tracking.enabled else None
    with stopped_by_ctrl_c(folder, f"zoo run --resume {folder.path}"):
        content = train(config, folder, click.echo, live)
    console().print(table_of_errors(content))
    labels = error_table.of_labels(content)
    if labels is not None:
        console().print(_shown(labels))
    if "calibration" in content:
        console().print(table_of_coverage(content["calibration"]))
    click.echo(f"took      {since_start():.0f} s")
    click.echo(f"figures   {folder.figures}")
    send_and_show(folder, config.tracking)
    click.echo(f"\nnext: zoo predict {folder.path} YOUR.cif")


def epoch_logger(config: Recipe, folder: RunFolder, parent: str | None = None) -> EpochLogger:
    """Epochs to MLflow; below the run `parent`, where one is given."""
    from zoo.tracking.epoch_logger import EpochLogger

    return EpochLogger(config.tracking, config, folder, parent)


def train(
    config: Recipe,
    folder: RunFolder,
    echo: Callable[[str], None],
    live: EpochLogger | None = None,
    also: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Train a recipe; every epoch goes to MLflow (`live`), to `also` and, where no bar can be drawn, to the log."""

    def on_epoch(seed: int, row: dict[str, float]) -> None:
        if also is not None:
            also(seed, row)
        if live is not None:
            live.epoch(seed, row)
        # Where no bar can be drawn (a log, CI) a line now and then says that it goes on.
        number, last = int(row["epoch"]), config.training.max_epochs
        if not sys.stderr.isatty() and (number == 1 or number % max(1, last // 8) == 0):
            errors = f"train {row['train_loss']:.3f}, validation {row['val_mae_ten']:.3f}"
            click.echo(f"seed {seed}    epoch {number} of {last}: {errors}")

    if live is not None:
        live.check()
    try:
        return runs.run(config, folder, echo, on_epoch)
    except BaseException as error:
        if live is not None:
            live.stopped("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


def table_of_errors(content: dict[str, Any]) -> Table:
    """metrics.json as a table: mean ± standard deviation over the seeds."""
    return _shown(error_table.of_errors(content), dim="predicting the mean")


def table_of_coverage(calibration: dict[str, Any]) -> Table:
    """Tabulate how often the intervals of an ensemble hold the truth, and how wide they are."""
    return _shown(error_table.of_coverage(calibration))


def _shown(rows: error_table.Rows, dim: str = "") -> Table:
    table = Table(title=rows.title, title_justify="left", box=None, header_style="bold")
    for number, name in enumerate(rows.header):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows.rows:
        table.add_row(*row, style="dim" if row[0] == dim else "")
    return table


def errors_table(title: str, errors: Errors, others: Errors) -> Table:
    """Errors of one model by crystal system and, dimmed, others to compare with."""
    columns = [name for name in COLUMNS if name in errors["all"]]
    table = _empty(title, columns)
    for style, part in (("", errors), ("dim", others)):
        for name, values in part.items():
            cells = [cell({"mean": values.get(column), "std": None}, column) for column in columns]
            table.add_row(name, f"{values['n']:.0f}", *cells, style=style)
    return table


def _empty(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    table.add_column("", no_wrap=True)
    for column in ("n", *[COLUMNS[name] for name in columns]):
        table.add_column(column, justify="right", no_wrap=True)
    return table
