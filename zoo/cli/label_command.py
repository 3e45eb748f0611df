"""The command `zoo label`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zoo.data.crystal_files import NamedCrystal
    from zoo.pretraining.label_file import Progress


@click.command("label")
@click.argument("potential")
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.extxyz", help="To be written.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the potential.")
@click.option(
    "--per-crystal", type=click.IntRange(min=1), default=10, show_default=True, help="Structures of each crystal."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many crystals.")
@click.option("--largest", type=click.IntRange(min=1), help="Only crystals of at most so many atoms.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the perturbations.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def label_command(
    potential: str,
    source: str,
    out: Path,
    settings: tuple[str, ...],
    per_crystal: int,
    limit: int | None,
    largest: int | None,
    seed: int,
    device: str,
) -> None:
    """Make structures near a dataset's crystals, and label them with a potential.

    POTENTIAL is an encoder with an energy (zoo list). SOURCE is the name of a dataset, its name and settings as in a
    recipe, a file of crystals (CIF, VASP, JSON, extxyz, CSV), or a folder of CIF and VASP files. The first structure of
    each crystal is the crystal itself; of the others one after another is rattled, strained, both, and rattled with two
    atoms exchanged or an element replaced by one of its group.

    FILE.extxyz holds energy (eV), forces (eV/Å) and stress (eV/Å³) as ase.io.read gives them back, and of each
    structure the key of its crystal, kind and size of the perturbation, and the potential. The same command goes on
    where it was stopped.

    \b
    zoo label sevennet petousis2017 --out labels.extxyz
    zoo label sevennet '{name: phonondb2018, path: FOLDER}' --out labels.extxyz --set checkpoint=SevenNet-l3i5
    """
    from tqdm import tqdm

    from zoo.cli.trained_encoder import encoder_settings
    from zoo.config.recipe import Plugin
    from zoo.phonons.potentials import build
    from zoo.pretraining.label import DTYPE, Labelling
    from zoo.pretraining.label_file import LabelFile, write_labels
    from zoo.runtime.devices import choose_device

    file = LabelFile(out)
    place = choose_device(device)
    named, crystals, total = crystals_of(source)
    encoder = build(Plugin(name=potential, **encoder_settings(settings))).to(place, DTYPE)
    name = f"{potential}:{encoder.energy_fingerprint()}"
    depends_on = {"potential": name, "source": named, "per-crystal": per_crystal, "seed": seed, "device": place.type}
    if largest is not None:
        depends_on["largest"] = largest
        crystals, total = _of_at_most(crystals, largest), None
    total = limit if total is None else min(total, limit or total)
    with file.open({**depends_on, "limit": limit}):
        before = file.progress.crystals
        with tqdm(total=total, initial=before, desc="labelling", unit=" crystals", disable=None, leave=False) as bar:

            def show(progress: Progress) -> None:
                bar.set_postfix_str(f"{progress.structures:,} structures", refresh=False)
                bar.update(progress.crystals - bar.n)

            how = Labelling(encoder, name, per_crystal, seed, place)
            try:
                progress = write_labels(file, how, islice(crystals, limit), show)
            except KeyboardInterrupt:
                click.echo(f"\nstopped after {file.progress.crystals:,} crystals; the same command goes on", err=True)
                raise
    _show(out, progress)


def crystals_of(source: str) -> tuple[str, Iterator[NamedCrystal], int | None]:
    """Return what a source is called, its crystals, and their number where it is known without reading them."""
    from zoo.cli.input_files import read_crystals
    from zoo.cli.source import open_source
    from zoo.contract.plugin import BadRecord
    from zoo.data.crystal_files import NamedCrystal, count_if_single
    from zoo.errors import ZooError

    path = Path(source)
    if path.is_dir() or (path.is_file() and path.suffix not in (".yaml", ".yml")):
        return source, read_crystals([source], None), count_if_single([source])
    name, dataset, _ = open_source(source)

    def each() -> Iterator[NamedCrystal]:
        for record in dataset.records():
            if isinstance(record, BadRecord):
                yield NamedCrystal(name, record.key, ZooError(f"{name}: {record}"))
            else:
                yield NamedCrystal(name, record.key, record.structure)

    return name, each(), None


def _of_at_most(crystals: Iterator[NamedCrystal], largest: int) -> Iterator[NamedCrystal]:
    """Return the crystals that have at most so many atoms, and those that cannot be read, which are reported."""
    from zoo.errors import ZooError

    return (named for named in crystals if isinstance(named.structure, ZooError) or len(named.structure) <= largest)


def _show(out: Path, progress: Progress) -> None:
    """Print what was written, and what was left out."""
    click.echo(f"labels    {progress.structures:,} structures of {progress.atoms:,} atoms in {out}")
    if progress.refused:
        click.echo(
            f"left out  {len(progress.refused):,} of {progress.crystals:,} crystals; the first: {progress.refused[0]}"
        )
    for reason, count in progress.left_out.items():
        click.echo(f"left out  {count:,} structures: {reason}")
    click.echo(f"all of this is in {out}.json")
