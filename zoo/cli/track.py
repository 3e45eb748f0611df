"""`zoo track`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("track")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--uri", help="Tracking URI; default: the recipe's, else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
def track_command(run_dir: Path, uri: str | None) -> None:
    """Send a run, sweep, discovery or `zoo matbench` to MLflow, as after the server was down. Twice does no harm."""
    from zoo import recipe
    from zoo.run_folder import RunFolder
    from zoo.tracking.matbench import is_matbench, send_folds
    from zoo.tracking.send import send

    if (run_dir / "sweep.yaml").is_file():
        from zoo.tracking.sweep import track

        click.echo(f"mlflow    {track(run_dir, uri).line}")
        return
    if (run_dir / "discover.yaml").is_file():
        from zoo.tracking import rounds

        click.echo(f"mlflow    {rounds.track(run_dir, uri).line}")
        return
    folder = RunFolder.existing(run_dir)
    tracking = recipe.read(str(folder.recipe)).tracking
    if uri is not None:
        tracking = tracking.model_copy(update={"uri": uri})
    sent = send_folds(folder, tracking) if is_matbench(folder) else send(folder, tracking)
    click.echo(f"mlflow    {sent.line}")
