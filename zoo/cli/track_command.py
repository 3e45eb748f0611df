"""`zoo track`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("track")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--uri", help="Tracking URI; default: the recipe's, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
def track_command(run_dir: Path, uri: str | None) -> None:
    """Send a run, sweep, discovery or `zoo matbench` to MLflow, as after the server was down. Twice does no harm."""
    from zoo.config import recipe
    from zoo.storage.run_folder import RunFolder
    from zoo.tracking.send import send
    from zoo.workflows.track_matbench import is_matbench, send_folds

    if (run_dir / "sweep.yaml").is_file():
        from zoo.sweep.track_sweep import track

        click.echo(f"mlflow    {track(run_dir, uri).line}")
        return
    if (run_dir / "discover.yaml").is_file():
        from zoo.discovery.rounds import track_discovery

        click.echo(f"mlflow    {track_discovery.track(run_dir, uri).line}")
        return
    folder = RunFolder.existing(run_dir)
    tracking = recipe.read(str(folder.recipe)).tracking
    if uri is not None:
        tracking = tracking.model_copy(update={"uri": uri})
    sent = send_folds(folder, tracking) if is_matbench(folder) else send(folder, tracking)
    click.echo(f"mlflow    {sent.line}")
