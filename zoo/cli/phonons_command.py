"""The command `zoo phonons`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.input_files import input_format, read_crystals

if TYPE_CHECKING:
    from zoo.contract.plugin import Encoder
    from zoo.data.crystal_files import NamedCrystal


@click.command("phonons")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--potential", default="sevennet", show_default=True, help="An encoder with an energy (zoo list).")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of it: --set checkpoint=SevenNet-l3i5."
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--draw", type=click.Path(path_type=Path), metavar="FOLDER", help="A picture of the modes of each crystal."
)
@click.option("--relax", is_flag=True, help="First let the atoms come to rest, at fixed cell and symmetry.")
@input_format
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def phonons_command(
    files: tuple[str, ...],
    potential: str,
    settings: tuple[str, ...],
    form: str,
    draw: Path | None,
    relax: bool,
    input_format: str | None,
    device: str,
) -> None:
    """Compute the phonons at Γ of crystals, by a potential.

    FILE is a CIF, VASP file, JSON of pymatgen or ASE, extxyz, trajectory or database of ASE, another of its formats, a
    CSV of paths, a folder of such files, or - for standard input; FILE#2 is the second crystal of a file of many.

    The force constants are those of the
    primitive cell at the geometry of the file, or with --relax at that of the potential in the same cell and symmetry;
    without the macroscopic field: polar modes are transverse. A negative frequency is that of an imaginary mode.
    Irreducible representations have their names where phonopy is installed (the extra [phonons]). Files that cannot be
    computed are named, the others are.

    \b
    zoo phonons quartz.cif
    zoo phonons *.cif --format json --draw pictures
    zoo phonons --relax quartz.cif
    """
    from zoo.cli.input_errors import report_refused
    from zoo.cli.trained_encoder import trained_encoder
    from zoo.errors import ZooError
    from zoo.phonons.potentials import refuse_without_energy
    from zoo.runtime.devices import choose_device, with_float64

    source = trained_encoder(potential, settings)
    encoder = source.encoder
    refuse_without_energy(source.description["encoder"]["name"], type(encoder), encoder.hypers)
    encoder = encoder.to(with_float64(choose_device(device))).double().requires_grad_(False)
    answers: list[dict[str, Any]] = []
    refused: list[str] = []
    for named, answer in _each(encoder, read_crystals(files, input_format), relax):
        if isinstance(answer, ZooError):
            reason = str(answer).removeprefix(f"{named.name}: ")
            refused.append(f"{named.name}: {reason}")
            answers.append({"file": named.name, "error": reason})
            continue
        answers.append({"file": named.name, **answer})
        if form == "table":
            _show(answers[-1])
        if draw is not None:
            _draw(answers[-1], named, draw)
    if form == "json":
        click.echo(json.dumps(answers, indent=1, ensure_ascii=False))
    report_refused(refused, len(answers), "phonons", "crystals")


def _each(
    encoder: Encoder, crystals: Iterator[NamedCrystal], relax: bool = False
) -> Iterator[tuple[NamedCrystal, Any]]:
    """Yield each crystal with its modes as plain values, or the reason why it has none."""
    from zoo.data.inputs import checked_crystal
    from zoo.data.symmetry import primitive_cell
    from zoo.errors import ZooError
    from zoo.graphs.elements import refuse_unknown_elements
    from zoo.inference.relax import relax as at_rest
    from zoo.phonons.force_constants import LARGE_FORCE, MAX_ATOMS, force_constants
    from zoo.phonons.irreps import irrep_labels
    from zoo.phonons.mode_table import mode_rows
    from zoo.phonons.modes import gamma_modes, masses_of

    for named in crystals:
        if isinstance(named.structure, ZooError):
            yield named, named.structure
            continue
        try:
            structure = primitive_cell(named.structure)
            crystal = checked_crystal(structure, MAX_ATOMS)
            refuse_unknown_elements(encoder, [named.name], [crystal])
            rest = None
            if relax:
                rest = at_rest(encoder, structure)
                structure = rest.structure
                crystal = checked_crystal(structure, MAX_ATOMS)
            (found,) = force_constants(encoder, [crystal])
        except ZooError as error:
            yield named, error
            continue
        modes = gamma_modes(found.matrix, masses_of(structure))
        warnings = []
        if found.largest_force > LARGE_FORCE:
            warnings.append(
                f"a force of {found.largest_force:.2f} eV/Å is left on an atom: the geometry is not the potential's"
            )
        yield (
            named,
            {
                "formula": named.formula,
                "atoms": len(structure),
                "largest_force": found.largest_force,
                **({} if rest is None else {"moved": rest.moved}),
                "warnings": warnings,
                "modes": mode_rows(modes, irrep_labels(modes, structure)),
            },
        )


def _show(answer: dict[str, Any]) -> None:
    """Print the table of one crystal, and its warnings on stderr."""
    from zoo.cli.format_modes import modes_table
    from zoo.cli.terminal import console

    rows: Sequence[dict[str, Any]] = answer["modes"]
    size = "one atom" if answer["atoms"] == 1 else f"{answer['atoms']} atoms"
    click.echo(
        f"{answer['file']}: {answer['formula']}, {size} in the primitive cell{'' if rows else ': no optic modes'}"
    )
    if "moved" in answer:
        click.echo(f"relaxed at fixed cell: the atoms moved by {answer['moved']:.3f} Å at most")
    if rows:
        console().print(modes_table(rows))
    for warning in answer["warnings"]:
        click.echo(f"warning: {answer['file']}: {warning}", err=True)


def _draw(answer: dict[str, Any], named: NamedCrystal, folder: Path) -> None:
    """Draw the modes of one crystal into FOLDER/NAME.png."""
    from zoo.errors import clear_disk_errors
    from zoo.report.phonon_figures import mode_sticks

    with clear_disk_errors(folder, "choose another folder with --draw"):
        folder.mkdir(parents=True, exist_ok=True)
        mode_sticks(answer["modes"], answer["formula"], folder / f"{named.file_name}.png")
