"""`zoo cite`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zoo.config.recipe import Recipe


@click.command("cite")
@click.argument("model", required=False, metavar="[MODEL|RECIPE]")
def cite_command(model: str | None) -> None:
    """Print BibTeX of what an answer rests on: the zoo, encoder, potential, readout, data.

    MODEL is a run folder, a model folder, the name of a registered model (its champion), or an MLflow URI; RECIPE the
    name of a shipped recipe or a file. Without either: the model that comes with the zoo.

    \b
    zoo cite dielectric_all > references.bib
    """
    from zoo.registry import box
    from zoo.report import citations

    if model is None and box.folder_of(box.DEFAULT) is None:
        click.echo("% name a MODEL or a recipe (zoo cite dielectric_all) for all that its answers rest on\n")
        click.echo(str(citations.of_the_zoo()), nl=False)
        return
    click.echo(str(citations.of_recipe(_recipe_of(model or box.DEFAULT))), nl=False)


def _recipe_of(model: str) -> Recipe:
    """The recipe of that name or file, else that of the model.

    Raises:
        ZooError: there is neither, or the recipe is for another command than `zoo run`.
    """
    from zoo.config import recipe
    from zoo.errors import ZooError, did_you_mean
    from zoo.model.checkpoint import read_card
    from zoo.registry.fetch import model_folder_of

    if model in recipe.shipped() or Path(model).suffix in (".yaml", ".yml"):
        recipe.refuse_other_kind(recipe.read_content(model)[0], "run", model)
        return recipe.read(model)
    try:
        return read_card(model_folder_of(model)).recipe
    except ZooError as error:
        hint = did_you_mean(model, recipe.shipped())
        if "you mean" not in hint or Path(model).is_dir():
            raise
        raise ZooError(f"there is no model and no recipe '{model}'.{hint}") from error
