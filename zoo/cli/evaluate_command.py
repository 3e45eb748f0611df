"""The command `zoo evaluate`."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import click

WORDS = {
    "read": "that cannot be read",
    "target": "without the target",
    "clean": "out of range",
    "frame": "that break the symmetry of their structure",
    "duplicate": "duplicates",
    "seen": "that the model has seen",
    "element": "with elements that the encoder does not know",
    "below": "with a larger eigenvalue",
}


@click.command("evaluate")
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] SOURCE")
@click.option("--below", type=float, help="Leave out crystals with an eigenvalue of this size or more.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="CSV with a row a crystal.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def evaluate_command(arguments: tuple[str, ...], below: float | None, form: str, out: Path | None, device: str) -> None:
    """Test MODEL on labelled crystals of another SOURCE, beside predicting the mean.

    MODEL is as for `zoo predict`, by default the one that comes with the zoo; SOURCE is a dataset by its name or with
    settings, a file of your own, {dataset: ..., target: ...}, or a recipe. Crystals that the model has seen in
    training or validation (same formula, space group, volume within 2 %) are left out. A model of several levels of
    theory answers at that of each label.

    \b
    zoo evaluate my_tensors.json
    zoo evaluate runs/mine my_tensors.json
    zoo evaluate runs/mine '{name: dtnet-mp, path: mp_dielectric.json.gz}'
    zoo evaluate runs/mine '{dataset: petousis2017, target: total}'
    zoo evaluate dtnet-total my_tensors.json --below 30
    """
    from zoo.cli.report import errors_table
    from zoo.cli.source import open_source
    from zoo.cli.terminal import console
    from zoo.errors import ZooError
    from zoo.inference.predictor import Predictor
    from zoo.registry import box
    from zoo.registry.fetch import model_folder_of
    from zoo.runtime.devices import choose_device
    from zoo.storage.run_folder import write_rows
    from zoo.workflows.evaluate import evaluate

    if len(arguments) > 2:
        raise ZooError(f"one MODEL and one SOURCE, not {len(arguments)} arguments")
    if below is not None and not math.isfinite(below):
        raise ZooError(f"--below is a finite number, not {below}")
    model, source = arguments if len(arguments) == 2 else (box.DEFAULT, arguments[0])
    if out is not None and not out.resolve().parent.is_dir():
        raise ZooError(f"{out}: there is no folder {out.parent}")
    predictor = Predictor.load(model_folder_of(model), str(choose_device(device)))
    _, dataset, _ = open_source(source, predictor.card.target)
    result = evaluate(predictor, dataset, below)
    if out is not None:
        write_rows(out, result.rows())
        for name, part in result.parts.items():
            write_rows(out.with_name(f"{out.stem}_{name}{out.suffix}"), part.rows())
    if form == "json":
        content: dict[str, Any] = {
            "model": model,
            "source": source,
            "below": below,
            "left_out": result.left_out,
            "errors": result.errors,
            "mean_baseline": result.mean_baseline,
        }
        if result.parts:
            content["parts"] = {
                name: {"errors": one.errors, "mean_baseline": one.mean_baseline} for name, one in result.parts.items()
            }
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    limit = f", eigenvalues below {below:g}" if below is not None else ""
    for one in (result, *result.parts.values()):
        others = {f"the mean, {system}": errors for system, errors in one.mean_baseline.items()}
        console().print(errors_table(f"{one.target.name}: {model} on {source}{limit}", one.errors, others))
    counts = Counter(item["stage"] for item in result.left_out)
    lost = [f"{count} {WORDS[stage]}" for stage, count in counts.items()]
    click.echo(
        f"{len(result.tested.keys)} crystals"
        + (f"; left out: {', '.join(lost)} (--format json names them)" if lost else "")
    )
