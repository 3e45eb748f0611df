"""Γ frequencies of potentials against DFT's: `python benchmarks/phonon_frequencies.py DATA POTENTIAL ... --out FILE`.

DATA is a folder with phonondb2018 (see `open_labels`); a POTENTIAL is YAML, as in a recipe: `'{name: sevennet,
checkpoint: SevenNet-l3i5}'`. Of the crystals of at most 10 atoms that have no twin in petousis2017 500 are drawn; force
constants are at DFT's geometry. A row a potential and crystal goes to --out, a table to standard output, a picture
beside --out. With `--left-out-of FOLDER` of a `zoo pretrain` they are drawn from the crystals that it left out as twins
of held-out ones, which the potential that it tuned has not seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from open_labels import Labelled, phonondb, without_twins

from zoo.config.recipe import Plugin
from zoo.graphs.store import GraphStore
from zoo.phonons import potentials
from zoo.phonons.force_constants import ForceConstants
from zoo.phonons.force_constants_store import ForceConstantsStore
from zoo.phonons.modes import gamma_modes, masses_of

IMAGINARY = -0.1
"""THz: a mode below is imaginary, not a rounded zero."""

MOST_ATOMS = 10
"""The cost grows with the square."""


def drawn(folder: Path, count: int, pretraining: Path | None = None) -> list[Labelled]:
    """Crystals of two to `MOST_ATOMS` atoms, at random: without twins in petousis2017, or left out of a pretraining."""
    small = [one for one in phonondb(folder) if 1 < len(one.structure) <= MOST_ATOMS]
    if pretraining is None:
        crystals = without_twins(small)
    else:
        report = json.loads((pretraining / "data_report.json").read_text(encoding="utf-8"))
        unseen = {key for source in report["sources"] for key in source["twins"]}
        crystals = [one for one in small if f"phonondb-{one.key}" in unseen]
    order = np.random.default_rng(0).permutation(len(crystals))[:count]
    return [crystals[i] for i in order]


def computed(choice: Plugin, crystals: Sequence[Labelled]) -> list[ForceConstants | None]:
    """Force constants by a potential, from the cache where they are there; None where it lacks an element."""
    potential = potentials.build(choice)
    everything = {number for one in crystals for number in one.structure.atomic_numbers}
    known = [
        i for i, one in enumerate(crystals) if set(one.structure.atomic_numbers) <= (potential.elements() or everything)
    ]
    graphs = GraphStore.build([crystals[i].structure for i in known], potential.cutoff)
    store = ForceConstantsStore.build(potential, graphs)
    out: list[ForceConstants | None] = [None] * len(crystals)
    for place, index in enumerate(known):
        out[index] = store[place]
    return out


def compared(name: str, one: Labelled, found: ForceConstants) -> dict[str, object]:
    """A row: errors of the frequencies in order, THz, of the lowest of them, and of the matrix."""
    masses = masses_of(one.structure)
    assert one.force_constants is not None  # for the type checker
    true, own = (gamma_modes(matrix, masses).frequencies for matrix in (one.force_constants, found.matrix))
    size = np.linalg.norm(one.force_constants)
    return {
        "potential": name,
        "key": one.key,
        "formula": one.structure.composition.reduced_formula,
        "atoms": len(one.structure),
        "mae_thz": np.abs(own - true).mean(),
        "bias_thz": (own - true).mean(),
        "lowest_thz": own[0],
        "dft_lowest_thz": true[0],
        "matrix_error": np.linalg.norm(found.matrix - one.force_constants) / size,
        "largest_force": found.largest_force,
    }


def summary(table: pd.DataFrame) -> str:
    """A line a potential, over the crystals that all of them know."""
    counts = table.groupby("key")["potential"].count()
    table = table[table["key"].isin(counts.index[counts == table["potential"].nunique()])]
    lines = [
        "| potential | crystals | MAE, THz | bias, THz | MAE of the lowest, THz "
        "| imaginary | error of Φ | force > 0.1 eV/Å |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in table.groupby("potential", sort=False):
        gap = (rows["lowest_thz"] - rows["dft_lowest_thz"]).abs().mean()
        lines.append(
            f"| {name} | {len(rows)} | {rows['mae_thz'].mean():.3f} (median {rows['mae_thz'].median():.3f}) "
            f"| {rows['bias_thz'].mean():+.3f} | {gap:.3f} | {100 * (rows['lowest_thz'] < IMAGINARY).mean():.1f} % "
            f"| {rows['matrix_error'].median():.3f} | {100 * (rows['largest_force'] > 0.1).mean():.0f} % |"
        )
    return "\n".join(lines)


def picture(table: pd.DataFrame, path: Path) -> None:
    """Draw the lowest optic frequency of each crystal against DFT's, a panel a potential."""
    names = list(dict.fromkeys(table["potential"]))
    figure = Figure(figsize=(3.6 * len(names), 3.9), layout="compressed")
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False, sharey=True)[0], strict=True):
        rows = table[table["potential"] == name]
        axes.axline((0, 0), (1, 1), color="0.6", linewidth=0.8)
        axes.axhline(0, color="0.8", linewidth=0.8)
        axes.scatter(rows["dft_lowest_thz"], rows["lowest_thz"], s=8, alpha=0.5, linewidths=0)
        axes.set(title=name, xlabel="DFT, lowest optic mode at Γ (THz)")
    figure.axes[0].set_ylabel("potential (THz); negative: imaginary")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Compare the potentials one after another; each one's rows are written when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("potentials", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--left-out-of", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    crystals = drawn(chosen.data, chosen.count, chosen.left_out_of)
    rows: list[dict[str, object]] = []
    for text in chosen.potentials:
        choice = Plugin(**yaml.safe_load(text))
        name = " ".join([choice.name, *(Path(str(value)).stem for value in choice.settings.values())])
        found = computed(choice, crystals)
        rows += [compared(name, one, phi) for one, phi in zip(crystals, found, strict=True) if phi is not None]
        pd.DataFrame(rows).to_csv(chosen.out, index=False, float_format="%.4f")
    table = pd.DataFrame(rows)
    print(summary(table))
    picture(table, chosen.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
