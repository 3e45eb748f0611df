"""The command `zoo spectrum`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.input_files import input_format, read_crystals
from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np

    from zoo.data.crystal_files import NamedCrystal
    from zoo.inference.explanation import Explanation
    from zoo.phonons.infrared import InfraredSpectrum

POINTS = 2001
MOST = 1e5
"""cm⁻¹, a hundred times beyond the lattice vibrations of any crystal."""


@click.command("spectrum")
@click.argument("model")
@click.argument("file")
@click.option("--damping", default=10.0, show_default=True, metavar="CM⁻¹", help="Width of all lines.")
@click.option(
    "--direction",
    type=float,
    nargs=3,
    metavar="X Y Z",
    help="Cartesian, of the field and of q for LO modes; else the principal axes.",
)
@click.option("--range", "limits", type=float, nargs=2, metavar="LOW HIGH", help="Wavenumbers, cm⁻¹.")
@click.option("--electronic", type=float, metavar="ε∞", help="The electronic constant, for a model of ionic alone.")
@click.option(
    "--without-imaginary", is_flag=True, help="Hold the atoms along modes that the potential finds imaginary."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=".", show_default=True, metavar="FOLDER", help="For the files."
)
@input_format
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
def spectrum_command(
    model: str,
    file: str,
    damping: float,
    direction: tuple[float, float, float] | None,
    limits: tuple[float, float] | None,
    electronic: float | None,
    without_imaginary: bool,
    out: Path,
    input_format: str | None,
    device: str,
) -> None:
    """Compute the infrared spectrum of a crystal: NAME_spectrum.csv and NAME_spectrum.png.

    MODEL is one that explains its ionic tensor by Born charges and modes (recipes dielectric and born_ionic), as a run
    folder, a registered model or an MLflow URI. FILE is a file of one crystal, FILE#2 the second in a file of many, -
    standard input. The dielectric function is that of harmonic
    modes with one damping for all, at fixed cell; reflectivity and absorption are those at normal incidence for a field
    along an axis. TO and LO modes along it are printed with their strengths.

    \b
    zoo spectrum dielectric quartz.cif
    zoo spectrum runs/mine quartz.cif --direction 0 0 1 --damping 5 --range 0 1500
    """
    import numpy as np

    import zoo
    from zoo.inference.phonon_warnings import MUCH

    crystals = list(islice(read_crystals([file], input_format), 2))
    if len(crystals) > 1:
        raise ZooError(f"{file} holds several crystals: a spectrum is that of one, as {crystals[0].name}")
    (named,) = crystals
    if isinstance(named.structure, ZooError):
        raise named.structure
    answer = zoo.load(model, device).predict(named.structure, explain=True)
    why = answer.explanation
    assert why is not None  # asked for
    if without_imaginary:
        why = why.without_imaginary()
    elif why.imaginary_share > MUCH:
        raise ZooError(
            f"{named.name}: {100 * why.imaginary_share:.0f} % of the ionic tensor is along modes that are imaginary in "
            "the potential, and nobody knows where they absorb: take a relaxed or less symmetric structure, or leave "
            "them out (--without-imaginary)"
        )
    screening = why.screening(electronic)
    axes = None if direction is None else np.array([direction])
    spectrum = why.spectrum(damping, _wavenumbers(limits), screening, axes)
    _show(named, why, spectrum, screening)
    for warning in answer.warnings:
        click.echo(f"warning: {named.name}: {warning}", err=True)
    for path in _write(named, spectrum, out):
        click.echo(f"wrote {path}")


def _wavenumbers(limits: tuple[float, float] | None) -> np.ndarray | None:
    import numpy as np

    if limits is None:
        return None
    low, high = limits
    if not 0 <= low < high <= MOST:
        raise ZooError(f"a range goes from one wavenumber to a higher one, 0 to {MOST:,.0f} cm⁻¹, not {low:g} {high:g}")
    return np.linspace(low, high, POINTS)


def _show(named: NamedCrystal, why: Explanation, spectrum: InfraredSpectrum, screening: np.ndarray) -> None:
    """Print TO and LO modes with strengths for each axis that differs."""
    from zoo.cli.format_modes import oscillators_table
    from zoo.cli.terminal import console
    from zoo.inference.explanation import FIXED_CELL
    from zoo.phonons.oscillators import oscillator_rows
    from zoo.report.phonon_figures import axis_words

    click.echo(f"{named.name}: {named.formula}, infrared spectrum, damping {spectrum.damping:g} cm⁻¹")
    for number in spectrum.distinct_axes():
        axis = spectrum.axes[number]
        rows = oscillator_rows(why.polar, screening, axis, why.irreps)
        infinity, ionic = (float(axis @ tensor @ axis) for tensor in (screening, why.ionic))
        click.echo(f"{axis_words(spectrum, number)}: ε∞ {infinity:.3f}, ε0 {ionic:.3f}, ε {infinity + ionic:.3f}")
        if rows:
            console().print(oscillators_table(rows))
        else:
            click.echo("no mode is polar along it")
    click.echo(f"ε0 is {FIXED_CELL}")


def _write(named: NamedCrystal, spectrum: InfraredSpectrum, folder: Path) -> list[Path]:
    """Write the table and the picture."""
    import csv

    from zoo.errors import clear_disk_errors
    from zoo.report.phonon_figures import infrared
    from zoo.report.spectrum_table import spectrum_columns

    stem = f"{named.file_name}_spectrum"
    columns = spectrum_columns(spectrum)
    with clear_disk_errors(folder, "choose another folder with --out"):
        folder.mkdir(parents=True, exist_ok=True)
        table = folder / f"{stem}.csv"
        with table.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.writer(opened, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*([f"{value:.6g}" for value in column] for column in columns.values()), strict=True))
        picture = infrared(spectrum, named.formula, folder / f"{stem}.png")
    return [table, picture]
