"""`zoo recipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zoo.config.recipe import Recipe
    from zoo.sweep.cells import Cell


@click.command("recipes")
@click.argument("name", required=False)
def recipes_command(name: str | None) -> None:
    """List the recipes that ship with the zoo, or print one: `zoo recipes dtnet_total > mine.yaml`."""
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.config import recipe
    from zoo.discovery import screen_config as screenings
    from zoo.discovery.rounds import discovery_config as discoveries
    from zoo.pretraining import pretraining_config as pretrainings
    from zoo.sweep import sweep_config
    from zoo.sweep.cells import expand

    if name is not None:
        click.echo(recipe.find(name).read_text(encoding="utf-8"), nl=False)
        return
    table = Table(box=None, header_style="bold")
    for column in ("recipe", "encoder", "readout", "what it does"):
        table.add_column(column)
    for stem, path in recipe.for_command("run").items():
        shipped = sweep_config.read(str(path))
        if isinstance(shipped, sweep_config.Plan):
            cells = expand(shipped) if shipped.sweep.grid is not None else []
            encoders, readouts = _names(cells, "encoder", shipped.base), _names(cells, "readout", shipped.base)
            size = f"sweep of {len(cells)} cells" if cells else "search"
            table.add_row(stem, encoders, readouts, f"{shipped.base.description} ({size})")
        else:
            table.add_row(stem, shipped.encoder.name, shipped.readout.name, shipped.description)
    for stem, path in recipe.for_command("screen").items():
        table.add_row(stem, "–", "–", f"{screenings.read(str(path)).description} (zoo screen)")
    for stem, path in recipe.for_command("discover").items():
        discovery = discoveries.read(str(path))
        trained = discovery.training()
        table.add_row(stem, trained.encoder.name, trained.readout.name, f"{discovery.description} (zoo discover)")
    for stem, path in recipe.for_command("pretrain").items():
        pretraining = pretrainings.read(str(path))
        table.add_row(stem, pretraining.encoder.name, "–", f"{pretraining.description} (zoo pretrain)")
    console().print(table)
    click.echo("\nzoo run NAME trains one; zoo recipes NAME > mine.yaml gives you a copy to change.")


def _names(cells: list[Cell], kind: str, base: Recipe) -> str:
    """Return the distinct encoders or readouts of all cells."""
    return ", ".join(dict.fromkeys(cell.recipe.plugins[kind] for cell in cells) or [base.plugins[kind]])
