"""`zoo predict`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from zoo.errors import ZooError

CHUNK = 64


@click.command("predict")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def predict_command(model: str, files: tuple[str, ...], form: str, device: str) -> None:
    """Predict the tensor of crystals: CIF or VASP files.

    MODEL is a run folder, the name of a registered model (its champion answers), or an MLflow URI such as
    models:/dtnet-total/3. A tensor is in the Cartesian frame of its file; for a CIF, which holds none, that is
    pymatgen's: c along z, a in the xz plane. Files that cannot be answered are named, the others are.

    \b
    zoo predict runs/mine quartz.cif
    zoo predict dtnet-total *.cif --format csv > answers.csv
    """
    from tqdm import tqdm

    from zoo.cli.answers import rows_of, show
    from zoo.data.structures import structure_from_file
    from zoo.devices import choose_device
    from zoo.predictor import Predictor
    from zoo.tracking.fetch import model_folder_of

    structures, refused = {}, {}
    for file in files:
        try:
            structures[file] = structure_from_file(Path(file))
        except ZooError as error:
            refused[file] = str(error)
    if not structures:
        _tell(refused, len(files))
    predictor = Predictor.load(model_folder_of(model), str(choose_device(device)))
    for file, structure in structures.items():
        try:
            predictor.refuse(structure)
        except ZooError as error:
            refused[file] = f"{file}: {error}"
    asked = [(file, structure) for file, structure in structures.items() if file not in refused]
    if not asked:
        _tell(refused, len(files))
    answers = []
    with tqdm(total=len(asked), desc="predicting", unit=" crystals", disable=None, leave=False) as bar:
        for start in range(0, len(asked), CHUNK):
            part = asked[start : start + CHUNK]
            found = predictor.predict([structure for _, structure in part])
            answers += [{"file": file, **answer.as_dict()} for (file, _), answer in zip(part, found, strict=True)]
            bar.update(len(part))
    if form == "json":
        click.echo(json.dumps(answers, indent=1, ensure_ascii=False))
    elif form == "csv":
        rows = [row for answer in answers for row in rows_of(answer, predictor.card.target)]
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        show(answers, predictor.card.target)
    _tell(refused, len(files))


def _tell(refused: Mapping[str, str], asked: int) -> None:
    """Name the files without an answer.

    Raises:
        ZooError: there are some.
    """
    if asked > 1:
        for reason in refused.values():
            click.echo(f"warning: {reason}", err=True)
    if refused:
        several = f"no answer for {len(refused)} of {asked} files: see above"
        raise ZooError(several if asked > 1 else next(iter(refused.values())))
