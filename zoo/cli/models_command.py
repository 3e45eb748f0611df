"""The command `zoo models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def models_command(as_json: bool) -> None:
    """List the models that can be asked: those that come with the zoo, those of the registry, and those in runs/.

    \b
    zoo models
    zoo predict zoo-dielectric-1 quartz.cif
    """
    from rich.markup import escape
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.registry import box

    found = [*_in_folders(), *_registered()]
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    place = console()
    columns = ["model", "where", "predicts", "made of", "members", "MAE_ten"]
    if place.width < 110:  # names are there to be typed, so that none may be cut
        columns = ["model", "where", "predicts", "MAE_ten"]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        right = column in ("members", "MAE_ten")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "made of", overflow="fold")
    for one in found:
        shown = {**one, "predicts": one["target"], "made of": one["parts"], "MAE_ten": one["mae_ten"]}
        table.add_row(*("" if shown[column] is None else escape(str(shown[column])) for column in columns))
    place.print(table)
    if "made of" not in columns:
        for one in found:
            if one["target"] is None and one["parts"]:  # why it cannot be read, or what its registry says of it
                click.echo(f"{one['model']}: {one['parts']}")
    click.echo(
        "\nMAE_ten: on the test part, of the total tensor where there are several. "
        f"Where none is named, {box.DEFAULT} answers."
    )


def _in_folders() -> list[dict[str, Any]]:
    """Models in the box and below runs/."""
    from zoo.registry import box

    runs = sorted(Path("runs").glob("*/model/model.json")) if Path("runs").is_dir() else []
    return [
        *(row_of(name, "in the box", box.FOLDER / name) for name in box.names()),
        *(row_of(str(path.parents[1]), "runs/", path.parent) for path in runs),
    ]


def row_of(name: str, where: str, folder: Path) -> dict[str, Any]:
    """A line of the list; of a folder whose model cannot be read it has the reason in place of the model's parts."""
    from zoo.errors import ZooError
    from zoo.model.checkpoint import read_card

    one: dict[str, Any] = {"model": name, "where": where, "target": None, "members": None, "mae_ten": None}
    try:
        card = read_card(folder)
    except ZooError as error:
        return {**one, "parts": str(error)}
    mae = card.metrics.get("test", {}).get("mae_ten", {}).get("mean")
    return one | {
        "target": card.target.name,
        "parts": f"{card.recipe.encoder.name} + {card.recipe.readout.name}",
        "members": len(card.members),
        "mae_ten": None if mae is None else f"{mae:.3f}",
    }


def _registered() -> list[dict[str, Any]]:
    """Models of the registry with their champion's version; none where there is no registry yet.

    Raises:
        ZooError: it cannot be reached.
    """
    from zoo.registry.connect import CHAMPION, mlflow_errors, tracking_uri
    from zoo.registry.tracking_store import client_of

    uri = tracking_uri(None)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    client = client_of(uri)
    out = []
    with mlflow_errors(uri):
        for model in client.search_registered_models(max_results=1000):
            version = model.aliases.get(CHAMPION)
            where = "registry, no champion" if version is None else f"registry, version {version}"
            out.append(
                {
                    "model": model.name,
                    "where": where,
                    "target": None,
                    "parts": (model.description or "").split("\n")[0] or None,
                    "members": None,
                    "mae_ten": None,
                }
            )
    return out
