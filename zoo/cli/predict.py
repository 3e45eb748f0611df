"""`zoo predict`."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command("predict")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def predict_command(model: str, files: tuple[str, ...], form: str, device: str) -> None:
    """Predict the tensor of crystals: CIF or VASP files.

    MODEL is a run folder, the name of a registered model (its champion answers), or an MLflow URI such as
    models:/dtnet-total/3. A tensor is in the Cartesian frame of its file; for a CIF, which holds none, that is
    pymatgen's: c along z, a in the xz plane.

    \b
    zoo predict runs/mine quartz.cif
    zoo predict dtnet-total *.cif --format csv > answers.csv
    """
    from zoo.data.structures import structure_from_file
    from zoo.predictor import Predictor
    from zoo.run import choose_device
    from zoo.tracking.fetch import model_folder_of

    structures = [structure_from_file(Path(file)) for file in files]
    predictor = Predictor.load(model_folder_of(model), str(choose_device(device)))
    answers = [
        {"file": file, **answer.as_dict()} for file, answer in zip(files, predictor.predict(structures), strict=True)
    ]
    if form == "json":
        click.echo(json.dumps(answers, indent=1, ensure_ascii=False))
    elif form == "csv":
        rows = [_flat(answer) for answer in answers]
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _show(answers, predictor.card.target.name)


def _flat(answer: dict[str, Any]) -> dict[str, Any]:
    """One row of numbers and texts: the six components, then what follows from them."""
    components = {f"{a}{b}": answer["tensor"][i][j] for i, a in enumerate("xyz") for j, b in enumerate("xyz") if i <= j}
    eigenvalues = {f"eigenvalue_{k}": value for k, value in enumerate(answer["eigenvalues"], 1)}
    names = ("polycrystalline", "polycrystalline_spread", "anisotropy", "refractive_index")
    plain: dict[str, Any] = {key: answer[key] for key in names if key in answer}
    start = {key: answer[key] for key in ("file", "formula", "crystal_system")}
    return {**start, **components, **eigenvalues, **plain, "warnings": "; ".join(answer["warnings"])}


def _show(answers: list[dict[str, Any]], target: str) -> None:
    from rich.table import Table

    from zoo.cli.terminal import console

    table = Table(title=f"{target} dielectric tensor", title_justify="left", box=None, header_style="bold")
    for column in ("file", "formula", "crystal system"):
        table.add_column(column)
    table.add_column("ε (frame of the file)", justify="right")
    for column in ("eigenvalues", "polycrystalline", "anisotropy"):
        table.add_column(column, justify="right")
    for answer in answers:
        tensor = "\n".join(" ".join(f"{round(value, 3) + 0.0:8.3f}" for value in row) for row in answer["tensor"])
        spread = "" if answer["spread"] is None else f" ± {answer['polycrystalline_spread']:.3f}"
        ratio = answer["anisotropy"]
        table.add_row(
            answer["file"],
            answer["formula"],
            answer["crystal_system"],
            tensor,
            "\n".join(f"{value:.3f}" for value in answer["eigenvalues"]),
            f"{answer['polycrystalline']:.3f}{spread}",
            "–" if ratio is None else f"{ratio:.3f}",
        )
    console().print(table)
    for answer in answers:
        for warning in answer["warnings"]:
            click.echo(f"warning: {answer['file']}: {warning}", err=True)
