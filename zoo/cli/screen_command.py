"""`zoo screen`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.long_work import (
    new_folder,
    recipe_and_overrides,
    removed_if_refused,
    require_recipe_or_resume,
    stopped_by_ctrl_c,
)

if TYPE_CHECKING:
    from zoo.discovery.screen_config import Screen
    from zoo.discovery.screen_folder import ScreenFolder


@click.command("screen")
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything; default: a new one under runs/.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with one that was stopped.")
def screen_command(recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: Path | None) -> None:
    """Choose, of the candidates that RECIPE names, those that are worth a calculation.

    RECIPE is a YAML file, or the name of one that ships (screen_total). Candidates are read, filtered, predicted and
    ranked one chunk after another, so that any number of them fits into memory. What became of each is in DIR/parts,
    the chosen ones are in DIR/top.csv and DIR/top, pictures in DIR/figures.

    \b
    zoo screen screen_total candidates='{path: my_cifs}'
    zoo screen screen_total model=best-total
    zoo screen screen_total model=runs/mine candidates='{path: my_cifs}' acquisition.kappa=3
    zoo screen screen_total objective.name=anisotropy --out runs/anisotropic
    zoo screen --resume runs/anisotropic
    zoo screen --resume runs/anisotropic workers.kind=ray workers.count=4
    """
    from zoo.discovery import screen_config
    from zoo.discovery.screen_folder import ScreenFolder
    from zoo.errors import ZooError

    if resume is not None and out is not None:
        raise ZooError("--resume goes on in its own folder: leave out --out")
    require_recipe_or_resume("screen", "screen_total", recipe, resume)
    if resume is None:
        assert recipe is not None
        config = screen_config.read(recipe, overrides)
        path = new_folder(config.name, out, "screen")
        with removed_if_refused(path):
            _screen_and_show(config, ScreenFolder(path))
        return
    folder = ScreenFolder.existing(resume)
    if folder.finished:
        raise ZooError(f"{resume} is finished: {folder.table} holds what was chosen")
    recipe, overrides = recipe_and_overrides(recipe, overrides)
    _screen_and_show(screen_config.read(recipe or str(folder.recipe), overrides), folder)


def _screen_and_show(config: Screen, folder: ScreenFolder) -> None:
    from zoo.discovery.screen import screen
    from zoo.errors import ZooError

    if config.workers.kind == "local" and config.workers.count > 1:
        raise ZooError(f"workers.count={config.workers.count}: several models predict with workers.kind=ray only")
    chosen = f"the top {config.top} by {config.acquisition.name} for {config.aim}"
    click.echo(f"{config.name}: {chosen}; everything goes to {folder.path}")
    with stopped_by_ctrl_c(folder, f"zoo screen --resume {folder.path}"):
        found = screen(config, folder, click.echo)
    _show(found, config, folder)


def _show(found: dict[str, Any], config: Screen, folder: ScreenFolder) -> None:
    from rich.markup import escape
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.discovery.candidate_source import number

    for kind in ("filtered", "failed"):
        if found[kind]:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in found[kind].items())
            click.echo(f"{kind:<9} {sum(found[kind].values()):,}: {reasons}")
    click.echo(f"ranked    {found['predicted']:,} of {found['candidates']:,} candidates")
    if found.get("warnings"):
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in found["warnings"].items())
        warned = sum(bool(row.get("warnings")) for row in found["top"])
        click.echo(f"warnings  of all ranked: {kinds}; {warned} of the {len(found['top'])} chosen have some")
    click.echo(f"speed     {speed_of(found['speed'])}")
    table = Table(box=None, header_style="bold")
    gaps = [number(row, "band_gap") for row in found["top"]]
    shown = ("score", "mean", "std", *(("gap, eV",) if any(gap is not None for gap in gaps) else ()))
    for column in ("", "key", "formula", *shown, "warnings"):
        table.add_column(column, justify="right" if column in ("", *shown) else "left")
    for row, gap in zip(found["top"], gaps, strict=True):
        numbers = [f"{float(row[name]):.4g}" for name in ("score", "mean", "std")]
        numbers += ["unknown" if gap is None else f"{gap:.2f}"] if len(shown) > len(numbers) else []
        table.add_row(str(row["rank"]), escape(row["key"]), row["formula"], *numbers, row.get("warnings", ""))
    console().print(table)
    unknown, assumed = sum(gap is None for gap in gaps), config.objective.settings.get("assumed_gap")
    if unknown and assumed:
        click.echo(f"band gap  of {unknown} of these it is unknown: {assumed:g} eV is assumed (objective.assumed_gap)")
    figures = ", ".join(sorted(path.name for path in folder.figures.glob("*.png")))
    click.echo(f"chosen    {folder.table}, crystals in {folder.crystals}")
    click.echo(f"figures   {folder.figures}: {figures}")


def speed_of(speed: dict[str, Any]) -> str:
    """`160.1 candidates/s, 83.0 predicted/s: reading 10 %, ...`."""
    seconds = speed["seconds"]
    if not speed["candidates"]:
        return "all candidates had been gone through before"
    parts = dict(speed["of_which"])
    spent = max(seconds, sum(parts.values()))  # by several workers at the same time: more than went by
    parts["rest"] = spent - sum(parts.values())
    shares = ", ".join(f"{name} {100 * one / spent:.0f} %" for name, one in parts.items())
    rates = f"{speed['candidates'] / seconds:,.1f} candidates/s, {speed['predicted'] / seconds:,.1f} predicted/s"
    return f"{rates}: {shares}"
