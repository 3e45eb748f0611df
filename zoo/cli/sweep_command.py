"""Output of `zoo run` for a sweep."""

from __future__ import annotations

import time
from typing import Any

import click

from zoo.cli import report
from zoo.errors import ZooError, clear_disk_errors
from zoo.storage.run_folder import RunFolder, write_text
from zoo.sweep import figure, table
from zoo.sweep.cells import Cell, expand
from zoo.sweep.check import check_all
from zoo.sweep.run_grid import EpochHook, run_grid
from zoo.sweep.study import Search
from zoo.sweep.sweep_config import Plan
from zoo.sweep.sweep_folder import SweepFolder


def run_and_show(plan: Plan, folder: SweepFolder) -> None:
    """Train all cells, print the table, and send the sweep to MLflow.

    Raises:
        ZooError: the recipe is wrong in some cell; no cell worked; MLflow could not be reached, in which case all
            results are in the folder.
    """
    begin = time.monotonic()
    sweep = plan.sweep
    search: Search | None = None
    cells: list[Cell] = []
    blocked: dict[str, str] = {}
    with clear_disk_errors(folder.path):
        if sweep.optuna is not None:
            search = Search(plan, folder)
            what = f"{sweep.optuna.trials} trials for the lowest validation error"
        else:
            cells = expand(plan)
            blocked = check_all(cells)
            what = f"{len(cells)} cells, " + " × ".join(f"{len(one.choices)} {one.name}" for one in plan.axes)
        with folder.alone():
            if not folder.plan.is_file():
                write_text(folder.plan, plan.dump())
        seeds = f"seed {plan.base.seeds[0]}" if len(plan.base.seeds) == 1 else f"{len(plan.base.seeds)} seeds each"
        click.echo(f"{plan.base.name}: {what}, {seeds}; everything goes to {folder.path}")
        click.echo(f"another process joins in with: zoo run --resume {folder.path}")
        train = Trainer(plan, folder)

        def after() -> None:
            write_results(plan, folder, search)

        try:
            if search is not None:
                search.run(train, after, click.echo)
            else:
                run_grid(cells, blocked, folder, train, after, click.echo)
        except KeyboardInterrupt:
            after()
            click.echo(f"\nstopped; go on with: zoo run --resume {folder.path}", err=True)
            raise
    _show(plan, folder, search, time.monotonic() - begin)
    if plan.base.tracking.enabled:
        from zoo.sweep.track_sweep import send_sweep

        try:
            click.echo(f"mlflow    {send_sweep(plan, folder).line}")
        except ZooError as error:
            raise ZooError(f"{error}; nothing is lost, send it later: zoo track {folder.path}") from error


class Trainer:
    """Trains one cell as `zoo run` would, with less to read."""

    def __init__(self, plan: Plan, folder: SweepFolder) -> None:
        self._said: set[str] = set()
        self._parent: str | None = None
        if plan.base.tracking.enabled:
            from zoo.sweep.track_sweep import open_parent

            try:
                self._parent = open_parent(plan, folder)
            except ZooError as error:
                click.echo(f"warning: {error}; the sweep goes on, its results stay in {folder.path}", err=True)
        self._live = self._parent is not None

    def __call__(self, cell: Cell, folder: RunFolder, on_epoch: EpochHook) -> dict[str, Any]:
        """Train one cell, with the signature of `zoo.sweep.run_grid.Train`."""
        live = report.epoch_logger(cell.config, folder, self._parent) if self._live else None
        return report.train(cell.config, folder, self._say, live, on_epoch)

    def _say(self, line: str) -> None:
        """Print a line once, though all cells have it in common."""
        if line not in self._said:
            self._said.add(line)
            click.echo(line)


def cells_of(plan: Plan, search: Search | None) -> list[Cell]:
    """The cells there are by now."""
    return search.cells() if search is not None else expand(plan)


def write_results(plan: Plan, folder: SweepFolder, search: Search | None) -> None:
    """Tables and figure of what is there by now."""
    axes = search.axes if search is not None else plan.axes
    with folder.alone():  # read in here too: else the slower of two processes leaves the other's last cell out
        found = table.outcomes(cells_of(plan, search), folder, plan.sweep.compare)
        if not any(one.content for one in found):
            return
        table.write_csv(folder.table, table.rows(found))
        table.write_csv(folder.seeds, table.seed_rows(found))
        write_text(folder.markdown, _document(plan, found))
        figure.draw(found, axes, folder.figure, search=search is not None)


def _document(plan: Plan, found: list[table.Outcome]) -> str:
    parts = [f"# {plan.base.name}", "", plan.base.description, "", how_to_read(plan), ""]
    parts += [table.markdown(found, plan.sweep.compare), "By crystal system:", "", table.by_system(found)]
    return "\n".join(parts)


def how_to_read(plan: Plan) -> str:
    """Explain the numbers of the table in one sentence."""
    seeds = ", ".join(map(str, plan.base.seeds))
    over = f"seed {seeds}" if len(plan.base.seeds) == 1 else f"mean ± standard deviation over seeds {seeds}"
    difference = "; the difference is taken seed by seed, on the same split" if plan.sweep.compare else ""
    return f"Errors on the test part, {over}{difference}. At most {plan.base.training.max_epochs} epochs."


def _show(plan: Plan, folder: SweepFolder, search: Search | None, seconds: float) -> None:
    found = table.outcomes(cells_of(plan, search), folder, plan.sweep.compare)
    click.echo(f"\n{how_to_read(plan)}\n")
    click.echo(table.markdown(found, plan.sweep.compare))
    failed = [one for one in found if one.status == "failed"]
    if search is not None and search.best is not None:
        click.echo(f"best      {search.best}")
    click.echo(f"took      {seconds:.0f} s")
    if not any(one.content for one in found):
        reason = failed[0].reason if failed else "none is finished"
        raise ZooError(f"no cell of the sweep worked; the first: {reason}; try again: zoo run --resume {folder.path}")
    click.echo(f"table     {folder.table}, {folder.seeds.name}, {folder.markdown.name}")
    click.echo(f"figure    {folder.figure}")
    if failed:
        again = "" if search is not None else f"; try them again: zoo run --resume {folder.path}"
        click.echo(f"failed    {len(failed)} of {len(found)} cells, the reasons are below the table{again}")
