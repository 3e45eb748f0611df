"""The command `zoo predict`."""

from __future__ import annotations

import csv
import json
import sys
from itertools import islice

import click

from zoo.cli.input_files import input_format, read_crystals
from zoo.errors import ZooError

MAX_CRYSTALS = 100_000  # of a call, which holds all of them and their answers in memory


@click.command("predict")
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] FILE...")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option(
    "--coverage", default=0.9, show_default=True, help="Of an ensemble's intervals: 0.5, 0.68, 0.8, 0.9, 0.95."
)
@click.option("--symprec", type=float, metavar="Å", help="Project on the point group found within so many Å.")
@click.option("--neighbours", default=0, metavar="N", help="Name the N nearest training crystals.")
@click.option("--modes", is_flag=True, help="Explain an ionic tensor: Born charges, and the modes at Γ that make it.")
@click.option(
    "--functional",
    metavar="NAME",
    help="Level of theory of the answer, as PBEsol; default: that of the model's dataset.",
)
@input_format
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def predict_command(
    arguments: tuple[str, ...],
    form: str,
    coverage: float,
    symprec: float | None,
    neighbours: int,
    modes: bool,
    functional: str | None,
    input_format: str | None,
    device: str,
) -> None:
    """Predict the tensor of crystals in files, folders or standard input.

    FILE is a CIF, VASP file, JSON of pymatgen or ASE, extxyz, trajectory or database of ASE, another of its formats, a
    CSV of paths, a folder of such files, or - for standard input; FILE#2 is the second crystal of a file of many.

    MODEL is a run folder, the name of a registered model (its champion answers), or an MLflow URI such as
    models:/dtnet-total/3; without one, the model answers that comes with the zoo (`zoo models`). A tensor is in the
    Cartesian frame of its file; for a CIF, which holds none, that is pymatgen's: c along z, a in the xz plane. Files
    that cannot be answered are named, the others are.

    \b
    zoo predict quartz.cif
    zoo predict runs/mine quartz.cif
    zoo predict dtnet-total *.cif --format csv > answers.csv
    zoo predict dtnet-total my_folder relaxed.traj many.cif#2
    zoo predict dielectric quartz.cif --modes
    """
    import zoo
    from zoo.cli.format_predictions import rows_of, show
    from zoo.cli.input_errors import report_refused
    from zoo.inference.prediction import by_file
    from zoo.registry import box
    from zoo.registry.fetch import names_a_model
    from zoo.storage.csv_cells import csv_row

    model, files = (arguments[0], arguments[1:]) if names_a_model(arguments[0]) else (box.DEFAULT, arguments)
    if not files:
        raise ZooError(f"name the files of crystals, too: zoo predict {model} YOUR.cif")
    crystals = list(islice(read_crystals(files, input_format), MAX_CRYSTALS + 1))
    if len(crystals) > MAX_CRYSTALS:
        raise ZooError(f"more than {MAX_CRYSTALS:,} crystals: name fewer files at a time; zoo screen takes any number")
    readable = [crystal.structure for crystal in crystals if not isinstance(crystal.structure, ZooError)]
    if modes and form == "csv":
        raise ZooError("a CSV has a row for each crystal and no place for modes: take --format json")
    predictor = zoo.load(model, device)
    found = iter(
        predictor.predict_each(
            readable,
            symprec=symprec,
            coverage=coverage,
            neighbours=neighbours,
            explain=modes,
            functional=functional,
            progress=True,
        )
    )
    everything = by_file(
        [crystal.name for crystal in crystals],
        [crystal.structure if isinstance(crystal.structure, ZooError) else next(found) for crystal in crystals],
    )
    answers = [one for one in everything if "error" not in one]
    refused = [f"{one['file']}: {one['error']}" for one in everything if "error" in one]
    if form == "json":
        click.echo(json.dumps(everything, indent=1, ensure_ascii=False))
    elif answers and form == "csv":
        rows = [csv_row(row) for answer in answers for row in rows_of(answer, predictor.card.target)]
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif answers:
        show(answers, predictor.card)
    report_refused(refused, len(crystals), things="crystals")
