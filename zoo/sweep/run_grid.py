"""Train the cells of a sweep, one after another, side by side with other processes that do the same."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from zoo.storage.run_folder import RunFolder, read_json
from zoo.sweep.cells import Cell, one_line
from zoo.sweep.sweep_folder import CellFolder, SweepFolder
from zoo.workflows.train import refuse_another_recipe

Echo = Callable[[str], None]
EpochHook = Callable[[int, dict[str, float]], None]
Train = Callable[[Cell, RunFolder, EpochHook], dict[str, Any]]
"""Trains a cell in its folder, telling of every epoch: (cell, folder, on_epoch) -> metrics.json."""


def run_grid(
    cells: Sequence[Cell],
    blocked: Mapping[str, str],
    folder: SweepFolder,
    train: Train,
    after: Callable[[], None],
    echo: Echo,
) -> None:
    """Train the cells that are not finished; one that fails is written down, and the next one has its turn.

    Cells that failed in an earlier call are tried again. Several processes may do this in one folder: each takes the
    cells that no other one is training.

    Args:
        cells: all of the grid.
        blocked: what `zoo.sweep.check.check_all` found.
        folder: of the sweep.
        train: see `Train`.
        after: called after each cell, for the table.
        echo: takes the lines that tell what is going on.

    Raises:
        ZooError: a cell's folder was begun with another recipe; nothing is trained then, and no table written.
    """
    for cell in cells:
        refuse_another_recipe(cell.config, folder.cell(cell.slug).run)
    began = time.time()
    for slug, reason in blocked.items():
        echo(f"cannot    {slug}: {reason}")
    worked, elsewhere = True, 0
    # Again until a pass finds nothing to do: another process may have been stopped in the midst of a cell.
    while worked:
        worked, elsewhere = False, 0
        for number, cell in enumerate(cells, 1):
            place = folder.cell(cell.slug)
            with place.claimed() as mine:
                if not mine:
                    elsewhere += 1
                elif not place.run.finished and not place.failed_since(began):
                    title = f"cell {number} of {len(cells)}: {cell.title}"
                    attempt(cell, place, train, blocked.get(cell.slug), title, echo)
                    worked = True
            if worked:
                after()
    after()
    if elsewhere:
        echo(f"{elsewhere} of {len(cells)} cells are in the hands of other processes, which will add them to the table")


def attempt(
    cell: Cell, place: CellFolder, train: Train, blocked: str | None, title: str, echo: Echo
) -> dict[str, Any] | None:
    """Train one cell; None, and the reason in its folder, where that fails. Ctrl-C is no failure.

    Raises:
        ZooError: the folder was begun with another recipe, as where a search's journal is lost and its folders are not.
    """
    refuse_another_recipe(cell.config, place.run)
    place.begin(cell)
    if blocked is not None:
        place.fail(blocked)
        return None
    echo(title)
    begin = time.monotonic()
    try:
        done = place.run.finished  # but not told of: stopped in between
        content: dict[str, Any] | None = (
            read_json(place.run.metrics) if done else train(cell, place.run, Stopwatch(place))
        )
    except Exception as error:  # of any kind: an hour's work of other cells does not go down with it
        place.fail_with(error)
        echo(f"failed    {one_line(error)}")
        content = None
    else:
        place.failed.unlink(missing_ok=True)
        assert content is not None
        echo(f"done      {outcome(content)}, {time.monotonic() - begin:.0f} s")
    gc.collect()  # what a cell of a large model held is free for the next one
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return content


def outcome(content: dict[str, Any]) -> str:
    """The error of a cell in a few words."""
    name = primary(content)

    def words(part: str) -> str:
        entry = content[part][name]
        spread = f" ± {entry['std']:.3f}" if entry["std"] is not None else ""
        return f"{entry['mean']:.3f}{spread}"

    return f"{name} {words('test')} on test, {words('val')} on validation"


def primary(content: dict[str, Any]) -> str:
    """The metric that stands first: MAE_ten or, for other tensors, the first that is an error."""
    return "mae_ten" if "mae_ten" in content["test"] else next(name for name in content["test"] if name != "n")


class Stopwatch:
    """Adds up the wall clock of a cell's epochs: graphs and cached embeddings, which cells share, are not counted."""

    def __init__(self, place: CellFolder) -> None:
        self._place = place
        self._last: dict[int, float] = {}

    def __call__(self, seed: int, row: dict[str, float]) -> None:
        """Told of an epoch's end."""
        now = time.time()
        # A seed's training begins by writing its split.
        begin = self._last.get(seed) or self._place.run.seed(seed).split.stat().st_mtime
        self._place.spend(max(0.0, now - begin))
        self._last[seed] = now
