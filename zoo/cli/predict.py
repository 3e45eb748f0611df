"""`zoo predict`."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

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
    from zoo.cli.answers import rows_of, show
    from zoo.data.structures import structure_from_file
    from zoo.devices import choose_device
    from zoo.predictor import Predictor
    from zoo.tracking.fetch import model_folder_of

    structures = [structure_from_file(Path(file)) for file in files]
    predictor = Predictor.load(model_folder_of(model), str(choose_device(device)))
    answers = [
        {"file": file, **answer.as_dict()} for file, answer in zip(files, predictor.predict(structures), strict=True)
    ]
    if form == "json":
        click.echo(json.dumps(answers, indent=1, ensure_ascii=False))
    elif form == "csv":
        rows = [row for answer in answers for row in rows_of(answer, predictor.card.target)]
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        show(answers, predictor.card.target)
