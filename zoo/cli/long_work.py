"""Parts that the commands of long work share: its folder, its stop and resumption, and sending it to MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.errors import ZooError

if TYPE_CHECKING:  # MLflow takes a second to import
    from zoo.config.recipe import Tracking
    from zoo.storage.work_folder import WorkFolder
    from zoo.tracking.send import Sent


def require_recipe_or_resume(command: str, example: str, recipe: str | None, resume: Path | None) -> None:
    """Check that a recipe is named where nothing is resumed.

    Raises:
        ZooError: it is not.
    """
    if recipe is None and resume is None:
        raise ZooError(f"say which recipe: zoo {command} {example} (zoo recipes lists them)")


def new_folder(name: str, out: Path | None, command: str) -> Path:
    """Return `out` or, if it is None, a new folder under runs/.

    Raises:
        ZooError: `out` is not empty.
    """
    from zoo.storage.work_folder import WorkFolder

    if out is None:
        return WorkFolder.new(name).path
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ZooError(f"{out} is not empty; choose another folder, or go on with it: zoo {command} --resume {out}")
    return out


def recipe_and_overrides(recipe: str | None, overrides: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Separate the arguments of a resumption: one with `=` in place of the recipe is an override."""
    return (None, (recipe, *overrides)) if recipe is not None and "=" in recipe else (recipe, overrides)


@contextmanager
def removed_if_refused(path: Path) -> Iterator[None]:
    """Remove the new folder again if the recipe is refused before anything is written into it."""
    try:
        yield
    except ZooError:
        from zoo.storage.work_folder import remove_unused

        remove_unused(path)
        raise


@contextmanager
def stopped_by_ctrl_c(folder: WorkFolder, again: str) -> Iterator[None]:
    """Say at Ctrl-C by which command the work goes on, where it has begun."""
    try:
        yield
    except KeyboardInterrupt:
        if folder.recipe.is_file():
            click.echo(f"\nstopped; go on with: {again}", err=True)
        raise


def send_work(folder: WorkFolder, tracking: Tracking) -> Sent | None:
    """Send a work folder to MLflow; None where the recipe says not to.

    Raises:
        ZooError: MLflow cannot be reached: nothing is lost, and how to send it later.
    """
    if not tracking.enabled:
        return None
    try:
        return sender_of(folder.path)[1](tracking)
    except ZooError as error:
        raise ZooError(f"{error}; nothing is lost, send it later: zoo track {folder.path}") from error


def send_and_show(folder: WorkFolder, tracking: Tracking) -> None:
    """Send finished work to MLflow, and print the place.

    Raises:
        ZooError: as `send_work`.
    """
    sent = send_work(folder, tracking)
    if sent is not None:
        click.echo(f"mlflow    {sent.line}")
        if sent.remark:
            click.echo(f"champion  for want of another: {sent.remark}")


def was_sent(folder: WorkFolder, tracking: Tracking) -> bool:
    """Whether all of finished work is in MLflow."""
    from zoo.registry.connect import tracking_uri, without_password
    from zoo.storage.run_folder import read_json

    servers = read_json(folder.tracked) if folder.tracked.is_file() else {}
    return "sent" in servers.get(without_password(tracking_uri(tracking.uri)), {})


def send_finished(folder: WorkFolder, tracking: Tracking, use: str) -> None:
    """Send work that is finished already to MLflow, where a stop came between its end and that of its sending.

    Args:
        folder: of the work.
        tracking: its recipe's.
        use: the command that uses the result.

    Raises:
        ZooError: there is nothing left to do, or MLflow cannot be reached.
    """
    if not tracking.enabled or was_sent(folder, tracking):
        raise ZooError(f"{folder.path} is finished; {use}")
    click.echo(f"{folder.path} is finished; what MLflow lacks of it is sent")
    send_and_show(folder, tracking)


def sender_of(path: Path) -> tuple[WorkFolder, Callable[[Tracking], Sent]]:
    """Return a work folder, by its kind, and what sends it to MLflow.

    Raises:
        ZooError: nothing is sent of such a folder.
    """
    from zoo.discovery.rounds.discovery_folder import DiscoveryFolder
    from zoo.pretraining.pretraining_folder import PretrainingFolder
    from zoo.storage.run_folder import RunFolder
    from zoo.sweep.sweep_folder import SweepFolder

    if (path / PretrainingFolder.RECIPE).is_file():
        from zoo.pretraining.track_pretraining import send_pretraining

        pretraining = PretrainingFolder(path)
        return pretraining, partial(send_pretraining, pretraining)
    if (path / SweepFolder.RECIPE).is_file():
        from zoo.sweep.track_sweep import send_sweep

        sweep = SweepFolder(path)
        return sweep, partial(send_sweep, sweep)
    if (path / DiscoveryFolder.RECIPE).is_file():
        from zoo.discovery.rounds.track_discovery import send_discovery

        discovery = DiscoveryFolder(path)
        return discovery, partial(send_discovery, discovery)
    from zoo.tracking.send import send
    from zoo.workflows.refit import RefitFolder
    from zoo.workflows.track_matbench import is_matbench, send_folds
    from zoo.workflows.track_refit import send_refit

    if (path / RefitFolder.RECIPE).is_file():
        refit = RefitFolder(path)
        return refit, partial(send_refit, refit)

    run = RunFolder.existing(path)
    return run, partial(send_folds if is_matbench(run) else send, run)
