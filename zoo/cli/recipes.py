"""`zoo recipes`."""

from __future__ import annotations

import click


@click.command("recipes")
@click.argument("name", required=False)
def recipes_command(name: str | None) -> None:
    """List the recipes that ship with the zoo, or print one: `zoo recipes dtnet_total > mine.yaml`."""
    import yaml
    from rich.table import Table

    from zoo import recipe
    from zoo.cli.terminal import console

    if name is not None:
        click.echo(recipe.find(name).read_text(encoding="utf-8"), nl=False)
        return
    table = Table(box=None, header_style="bold")
    for column in ("recipe", "encoder", "readout", "what it does"):
        table.add_column(column)
    for stem, path in recipe.shipped().items():
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        table.add_row(stem, content["encoder"]["name"], content["readout"]["name"], content.get("description", ""))
    console().print(table)
    click.echo("\nzoo run NAME trains one; zoo recipes NAME > mine.yaml gives you a copy to change.")
