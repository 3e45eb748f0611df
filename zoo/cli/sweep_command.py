"""The part of `zoo run` that trains a sweep and prints its table."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli import report
from zoo.cli.long_work import send_and_show, stopped_by_ctrl_c
from zoo.errors import ZooError, clear_disk_errors
from zoo.runtime.timing import since_start
from zoo.storage.run_folder import RunFolder, write_text
from zoo.sweep import figure, table
from zoo.sweep.cells import Cell
from zoo.sweep.search import study_of
from zoo.sweep.study import EpochHook, Study
from zoo.sweep.sweep_config import Plan
from zoo.sweep.sweep_folder import SweepFolder


def run_and_show(plan: Plan, folder: SweepFolder) -> None:
    """Train all cells, print the table, and send the sweep to MLflow.

    Raises:
        ZooError: the recipe is wrong in some cell; no cell worked; MLflow could not be reached, in which case all
            results are in the folder.
    """
    with clear_disk_errors(folder.path):
        study = study_of(plan, folder)
        study.check()
        with folder.locked():
            if not folder.recipe.is_file():
                write_text(folder.recipe, plan.dump())
        axes = " × ".join(f"{len(axis.choices)} {axis.name}" for axis in plan.axes)
        what = f"{study.size}, {axes}" if axes else f"{study.size} for the lowest validation error"
        seeds = f"seed {plan.base.seeds[0]}" if len(plan.base.seeds) == 1 else f"{len(plan.base.seeds)} seeds each"
        click.echo(f"{plan.base.name}: {what}, {seeds}; everything goes to {folder.path}")
        click.echo(f"another process joins in with: zoo run --resume {folder.path}")
        with stopped_by_ctrl_c(folder, f"zoo run --resume {folder.path}"):
            try:
                study.run(CellTrainer(plan, folder), lambda: write_results(study), click.echo)
            except KeyboardInterrupt:
                write_results(study)
                raise
    _show(study)
    send_and_show(folder, plan.base.tracking)


class CellTrainer:
    """Trains one cell as `zoo run` does; lines that all cells have in common are printed once."""

    def __init__(self, plan: Plan, folder: SweepFolder) -> None:
        self._printed: set[str] = set()
        self._parent: str | None = None
        if plan.base.tracking.enabled:
            from zoo.sweep.track_sweep import open_parent

            try:
                self._parent = open_parent(plan.base.name, folder, plan.base.tracking).parent
            except ZooError as error:
                click.echo(f"warning: {error}; the sweep goes on, its results stay in {folder.path}", err=True)

    def __call__(self, cell: Cell, folder: RunFolder, on_epoch: EpochHook) -> dict[str, Any]:
        """Train a cell in its folder, and return the content of its metrics.json."""
        live = report.epoch_logger(cell.recipe, folder, self._parent) if self._parent is not None else None
        return report.train(cell.recipe, folder, self._echo, live, on_epoch)

    def _echo(self, line: str) -> None:
        if line not in self._printed:
            self._printed.add(line)
            click.echo(line)


def write_results(study: Study) -> None:
    """Write tables and figure of the cells that are done."""
    plan, folder = study.plan, study.folder
    with folder.locked():  # read under the lock, too: else the slower of two processes leaves the other's last cell out
        results = table.outcomes(study.cells(), folder, plan.sweep.compare)
        if not any(result.content for result in results):
            return
        table.write_csv(folder.table, table.cell_frame(results))
        table.write_csv(folder.seeds, table.seed_frame(results))
        parts = [f"# {plan.base.name}", "", plan.base.description, "", how_to_read(plan), ""]
        parts += [table.markdown(results, plan.sweep.compare), "By crystal system:", "", table.by_system(results)]
        write_text(folder.markdown, "\n".join(parts))
        draw = figure.draw_grid if plan.sweep.optuna is None else figure.draw_search
        draw(results, study.axes, folder.figure)


def how_to_read(plan: Plan) -> str:
    """Explain the numbers of the table in one line."""
    seeds = ", ".join(map(str, plan.base.seeds))
    over = f"seed {seeds}" if len(plan.base.seeds) == 1 else f"mean ± standard deviation over seeds {seeds}"
    difference = "; the difference is taken seed by seed, on the same split" if plan.sweep.compare else ""
    return f"Errors on the test part, {over}{difference}. At most {plan.base.training.max_epochs} epochs."


def _show(study: Study) -> None:
    plan, folder = study.plan, study.folder
    results = table.outcomes(study.cells(), folder, plan.sweep.compare)
    click.echo(f"\n{how_to_read(plan)}\n")
    click.echo(table.markdown(results, plan.sweep.compare))
    failed = [result for result in results if result.status == "failed"]
    if study.best is not None:
        click.echo(f"best      {study.best}")
    click.echo(f"took      {since_start():.0f} s")
    if not any(result.content for result in results):
        reason = failed[0].reason if failed else "none is finished"
        raise ZooError(f"no cell of the sweep worked; the first: {reason}; try again: zoo run --resume {folder.path}")
    click.echo(f"table     {folder.table}, {folder.seeds.name}, {folder.markdown.name}")
    click.echo(f"figure    {folder.figure}")
    if failed:
        again = "" if plan.sweep.optuna is not None else f"; try them again: zoo run --resume {folder.path}"
        click.echo(f"failed    {len(failed)} of {len(results)} cells, the reasons are below the table{again}")
