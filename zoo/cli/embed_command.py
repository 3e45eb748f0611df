"""The command `zoo embed`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.input_files import input_format, read_crystals

if TYPE_CHECKING:
    from zoo.inference.embed import Written


@click.command("embed")
@click.argument("encoder")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the encoder: --set layer=3.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("embeddings.parquet"),
    show_default=True,
    help="*.parquet, or *.npz, which is kept in memory until it is written.",
)
@click.option("--bonds", is_flag=True, help="Also the features of the bonds, where the encoder makes some.")
@input_format
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def embed_command(
    encoder: str,
    files: tuple[str, ...],
    settings: tuple[str, ...],
    out: Path,
    bonds: bool,
    input_format: str | None,
    device: str,
) -> None:
    """Compute equivariant features of atoms and crystals, for use outside of the zoo.

    ENCODER is a pretrained encoder by its name (zoo list), or a trained model, whose encoder it then is: a run folder,
    a registered name, an MLflow URI. FILE is a CIF, VASP file, JSON of pymatgen or ASE, extxyz, trajectory or database
    of ASE, another of its formats, a CSV of paths, a folder of such files, or - for standard input; FILE#2 is the
    second crystal of a file of many.

    Scalars (n, C), vectors (n, 3, C), symmetric traceless tensors (n, 3, 3, C) and what other irreps there are come
    apart, for each atom and, as the mean over its atoms, for each crystal. Of an ensemble whose encoders were trained
    the first member's is used.

    OUT.parquet has a row an atom, OUT.crystals.parquet a row a crystal; an .npz has both. What irreps, axes and units
    they have, and the encoder's fingerprint, is in the file, as the JSON text `zoo` of Parquet's metadata or
    `metadata` of the .npz. Files that cannot be read are named, the others are embedded.

    \b
    zoo embed sevennet *.cif
    zoo embed sevennet many.extxyz --set layer=3 --out features.npz
    zoo embed runs/mine quartz.cif --bonds
    """
    from tqdm import tqdm

    from zoo.cli.input_errors import report_refused
    from zoo.cli.trained_encoder import trained_encoder
    from zoo.data.crystal_files import count_if_single
    from zoo.errors import ZooError
    from zoo.inference.embed import write_features
    from zoo.inference.features_file import FeaturesFile, description, places
    from zoo.runtime.devices import choose_device

    tables = places(out, bonds)
    where = choose_device(device)
    source = trained_encoder(encoder, settings)
    model = source.encoder.to(where)
    provides = model.provides(model.hypers)
    if bonds and provides.bonds is None:
        raise ZooError(
            f"the encoder {source.description['encoder']['name']} makes no features of bonds: leave out --bonds"
        )
    metadata = description(provides, bonds, source.description)
    total = count_if_single(files)
    with (
        tqdm(total=total, desc="embedding", unit=" crystals", disable=None, leave=False) as bar,
        FeaturesFile(out, tables, metadata) as file,
    ):
        done = write_features(file, model, read_crystals(files, input_format), bonds, bar.update)
        if not done.crystals:
            report_refused(done.refused, done.total, "features", "crystals")
    _show(metadata, tables, done)
    report_refused(done.refused, done.total, "features", "crystals")


def _show(metadata: Mapping[str, Any], tables: Mapping[str, Path], done: Written) -> None:
    """Print which files were written, and what they hold."""
    model, encoder = metadata["model"], metadata["encoder"]
    whose = ""
    if model is not None:
        which = f", the first of {model['members']} members" if model["trained"] and model["members"] > 1 else ""
        whose = f" of {model['name']}{which}" if model["trained"] else f", as it came: {model['name']} did not train it"
    click.echo(f"encoder   {encoder['name']}{whose}")
    counts = {"atoms": done.atoms, "crystals": done.crystals, "bonds": done.bonds}
    for name, path in tables.items():
        columns = metadata["tables"][name]["columns"]
        shapes = [
            f"{key} {'×'.join(map(str, column['shape']))}" for key, column in columns.items() if "irreps" in column
        ]
        click.echo(f"{name:<9} {counts[name]:,} in {path}: {', '.join(shapes)}")
