"""`zoo track`."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.long_work import sender_of


@click.command("track")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--uri", help="Tracking URI; default: the recipe's, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
def track_command(run_dir: Path, uri: str | None) -> None:
    """Send a run, refit, sweep, discovery or `zoo matbench` to MLflow, as after the server was down.

    Twice does no harm.
    """
    from zoo.config.recipe import Tracking, read_content

    folder, send = sender_of(run_dir)
    tracking = Tracking.model_validate(read_content(str(folder.recipe))[0].get("tracking", {}))
    if uri is not None:
        tracking = tracking.model_copy(update={"uri": uri})
    click.echo(f"mlflow    {send(tracking).line}")
