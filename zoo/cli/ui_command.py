"""`zoo ui`."""

from __future__ import annotations

from importlib.util import find_spec

import click

from zoo.errors import ZooError


@click.command("ui")
@click.argument("model", required=False)
@click.option("--compare", metavar="MODEL", help="A second model, to compare with.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Whoever reaches another one can use the page.")
@click.option("--port", type=click.IntRange(0, 65535), default=8050, show_default=True, help="0: any that is free.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@click.option("--browser/--no-browser", default=True, help="Open it in the browser.")
def ui_command(model: str | None, compare: str | None, host: str, port: int, device: str, browser: bool) -> None:
    """Open a page in the browser: drop a crystal, see it in 3D with its tensor, compare two models.

    MODEL is a run folder, the name of a registered model (its champion answers), or an MLflow URI such as
    models:/dtnet-total/3. Without one, the model that comes with the zoo answers. The page offers those of the
    registry, too. It is served from this machine, to this machine alone, and needs no network.

    \b
    zoo ui
    zoo ui runs/mine
    zoo ui dtnet-total --compare models:/dtnet-total@challenger
    """
    if find_spec("dash") is None:
        raise ZooError('zoo ui needs Dash: pip install "crystal-tensor-zoo[ui]"')
    from zoo.ui.server import offered, serve

    serve(offered(model, compare, device), host, port, browser, click.echo)
