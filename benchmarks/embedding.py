"""Embedding crystals with SevenNet-0: the zoo's `sevennet` against the `sevenn` package's own model and pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from harness import Case, Measured, measure, worker
from inputs import crystals, write_batches, write_crystals
from report import Goal, Options, Section, command

CUTOFF = 5.0
SAME = {
    "zoo": "model",
    "sevenn, crystal and mirror image": "both images",
    "sevenn, crystal alone": "one image",
    "sevenn, energies and forces": "whole",
}
PIPELINE = {"zoo, from crystals to the cache": "pipeline", "sevenn, from crystals on": "pipeline"}


def main(options: Options) -> Section:
    structures = crystals(4 if options.quick else 32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batches = write_batches(folder / "batches", structures, CUTOFF, 4_000)
        argv = [batches, write_crystals(folder / "crystals.json", structures), folder]
        ours, theirs = worker("sevennet_zoo.py", *argv), worker("sevenn_package.py", *argv)
        cases = [
            Case(row, ours if row.startswith("zoo") else theirs, order) for row, order in (SAME | PIPELINE).items()
        ]
        # The first passes of TorchScript, which the package's modules are made of, take longer.
        measured = measure(cases, repeats=options.repeats, threads=options.threads, warmup=1 if options.quick else 3)
        difference = largest_difference(folder)
    zoo, both, one, _ = SAME
    goals = [
        Goal(f"SevenNet-0: crystals/s / those of {both}", measured.ratio(both, zoo), at_least=3),
        Goal(f"SevenNet-0: crystals/s / those of {one}", measured.ratio(one, zoo), at_least=3),
        Goal("SevenNet-0: relative difference of the embeddings from sevenn's", difference, at_most=1e-5),
    ]
    return Section("Embedding with SevenNet-0", body(measured, both), goals, [measured])


def largest_difference(folder: Path) -> float:
    """|ours - theirs| / |theirs| of a batch, the largest."""
    pairs = [(np.load(path), np.load(folder / f"zoo_{path.stem[-4:]}.npy")) for path in folder.glob("sevenn_*.npy")]
    return max(float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)) for theirs, ours in pairs)


def body(measured: Measured, against: str) -> str:
    ours, theirs = measured.passes["zoo"].about, measured.passes[against].about
    second = list(PIPELINE)[1]
    return f"""
Features of layer 4 of {ours["items"]} crystals of `petousis2017`, {ours["atoms"]} atoms and {ours["edges"]:,} edges
within {CUTOFF} Å, in the very same batches; sevenn {theirs["sevenn"]} with its e3nn modules, nothing after layer 4.
The zoo gives true tensors, for which sevenn's model has to see the crystal and its mirror image; its features of the
crystal alone are true tensors mixed with pseudotensors. Energies and forces are sevenn's whole model, as shipped.

{measured.table(against, {name: name for name in SAME}, item="crystal")}

From crystals in memory on: the zoo's graphs, batches, encoder and cache on the disk, against sevenn's graphs, batches
of 4 (the default of `sevenn inference`) and whole model, as it is run there.

{measured.table(second, {name: name for name in PIPELINE}, item="crystal")}
"""


if __name__ == "__main__":
    command(main)
