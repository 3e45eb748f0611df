"""Neighbour lists at 6 Å against five libraries, and all that it takes from a file to a batch of graphs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from harness import Case, Measured, measure, worker
from inputs import crystals, write_crystals
from pymatgen.core import Structure
from report import Goal, Options, Section, command

from zoo.graphs.graph import ATOMS_AT_ONCE

CUTOFF = 6.0
KERNEL = "pymatgen's C kernel"
FAST = {
    "zoo": "zoo",
    "zoo, one crystal a call": "zoo one",
    "zoo, backend pymatgen": "zoo pymatgen",
    KERNEL: "pymatgen",
    f"{KERNEL}, made into edges": "pymatgen edges",
    "vesin": "vesin",
    "matscipy": "matscipy",
}
SLOW = {"zoo": "zoo", "zoo, backend torch-cluster": "zoo torch-cluster", "ASE": "ase"}
BY_SIZE = {
    "zoo": "zoo",
    "zoo, pymatgen": "zoo pymatgen",
    "zoo, torch-cluster": "zoo torch-cluster",
    KERNEL: "pymatgen",
    "vesin": "vesin",
    "matscipy": "matscipy",
}
SIZES = (1, 10, 100, 1_000, 10_000)
SHAPES = {"cubic": np.eye(3), "skewed": np.array([[1, 0, 0], [1.6, 1, 0], [-1.3, 1.4, 1]])}
READERS = {"zoo": "zoo", "pymatgen and PyG": "pymatgen", "sevenn": "sevenn"}


def main(options: Options) -> Section:
    structures = crystals(40 if options.quick else 1_056)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fast = measured(options, lists(write_lists(folder / "all", {"all": structures}), "all", FAST))
        slow = measured(options, lists(write_lists(folder / "some", {"some": structures[:100]}), "some", SLOW))
        sizes = SIZES[: 2 if options.quick else None]
        random = {f"{n:,} {shape}": random_crystals(n, shape) for n in sizes for shape in SHAPES}
        write_lists(folder / "random", random)
        # All in one measurement: a library's passes over the files share a process.
        cases = [case for order in random for case in lists(folder / "random", order, BY_SIZE, f"{order}: ")]
        by_size = measured(options, cases)
        write_files(folder, structures, cifs=10 if options.quick else 100)
        from_json, from_cif = reading(options, folder, "json"), reading(options, folder, "cif")
    goals = [
        Goal(f"Neighbour lists at 6 Å: time / that of {KERNEL}", fast.ratio("zoo", KERNEL), at_most=1),
        Goal(
            "From JSON to batches: time / that of pymatgen and PyG",
            from_json.ratio("zoo", "pymatgen and PyG"),
            at_most=1,
        ),
        Goal("From JSON to batches: time / that of sevenn", from_json.ratio("zoo", "sevenn"), at_most=1),
    ]
    text = body(fast, slow, by_size, list(random), from_json, from_cif)
    return Section("Neighbour lists", text, goals, [fast, slow, by_size, from_json, from_cif])


def random_crystals(atoms: int, shape: str) -> list[Structure]:
    """Atoms at random, 0.07 an Å³ as in an oxide; of small ones so many that they make one call of the zoo's."""
    random = np.random.default_rng(0)
    cell = (atoms / 0.07) ** (1 / 3) * SHAPES[shape]
    return [Structure(cell, ["O"] * atoms, random.random((atoms, 3))) for _ in range(max(1, ATOMS_AT_ONCE // atoms))]


def write_lists(folder: Path, files: Mapping[str, Sequence[Structure]]) -> Path:
    folder.mkdir()
    for name, structures in files.items():
        write_crystals(folder / f"{name}.json", structures)
    return folder


def lists(folder: Path, order: str, libraries: Mapping[str, str], prefix: str = "") -> list[Case]:
    return [
        Case(prefix + name, worker("neighbour_lists.py", folder, CUTOFF, library), order, peer=library != "zoo")
        for name, library in libraries.items()
    ]


def measured(options: Options, cases: Sequence[Case]) -> Measured:
    return measure(cases, repeats=options.repeats, threads=options.threads, limits=False)


def reading(options: Options, folder: Path, order: str) -> Measured:
    argv = [folder / "structures.json", folder / "cif", CUTOFF]
    sides = READERS.items()
    cases = [Case(name, worker("reading.py", *argv, side), order, peer=side != "zoo") for name, side in sides]
    return measured(options, cases)


def write_files(folder: Path, structures: Sequence[Structure], cifs: int) -> None:
    """structures.json, of pymatgen's dicts, as the Materials Project and `dtnet-mp` have them; cif/*.cif."""
    entries = {f"crystal-{i}": {"structure": s.as_dict()} for i, s in enumerate(structures)}
    (folder / "structures.json").write_text(json.dumps(entries))
    (folder / "cif").mkdir()
    for i, structure in enumerate(structures[:cifs]):
        structure.to(filename=str(folder / "cif" / f"{i:04d}.cif"))


def table(found: Measured, against: str, column: str = "") -> str:
    """Milliseconds a crystal; `column` is what of a case's `about` has a column of its own."""
    lines = [
        f"| | ms a crystal | quartiles | time / {against} |{f' {column} |' if column else ''}",
        "|---|---|---|---|",
    ]
    lines[1] += "---|" if column else ""
    for name, p in found.passes.items():
        low, high = (1e3 * seconds / p.about["items"] for seconds in p.quartiles)
        ratio = found.ratio(name, against)
        row = f"| {name} | {1e3 * p.median / p.about['items']:.3f} | {low:.3f} – {high:.3f} | {ratio:.3g} |"
        lines.append(row + (f" {p.about[column]:,} |" if column else ""))
    lines += [f"| {name} | failed: {why} | | |{' |' if column else ''}" for name, why in found.failed.items()]
    return "\n".join(lines)


def size_table(by_size: Measured, orders: Sequence[str]) -> str:
    """A row a size and shape, a column a library."""
    lines = ["| atoms, cell | " + " | ".join(BY_SIZE) + " |", "|---" * (len(BY_SIZE) + 1) + "|"]
    times = {name: f"{1e3 * p.median / p.about['items']:.3g}" for name, p in by_size.passes.items()}
    lines += [f"| {o} | " + " | ".join(times.get(f"{o}: {name}", "failed") for name in BY_SIZE) + " |" for o in orders]
    return "\n".join(lines)


def body(
    fast: Measured, slow: Measured, by_size: Measured, orders: Sequence[str], from_json: Measured, from_cif: Measured
) -> str:
    items, cifs = (m.passes["zoo"].about["items"] for m in (from_json, from_cif))
    return f"""
{items:,} crystals of `petousis2017`, in memory as arrays, {CUTOFF:g} Å. The zoo's are finished graphs (edges of whole
numbers, sorted by dst, src and shift, nothing at the cutoff, no atom with itself), made many in a call; the libraries'
are what they give. pymatgen's kernel counts each atom itself and what lies at the cutoff as well, and gives shifts as
floats; a row of its own makes edges of that, unsorted. What the backends bring: docs/neighbours.md.

{table(fast, KERNEL, "pairs")}

Slower ones, on the first {slow.passes["zoo"].about["items"]} of these crystals:

{table(slow, "zoo", "pairs")}

Milliseconds a crystal by the number of its atoms, placed at random, 0.07 an Å³, in cubic and in skewed cells:

{size_table(by_size, orders)}

From a JSON file of the same crystals (pymatgen's dicts) to batches of 64: read, graphs, batches. Against pymatgen's
reader and `get_neighbor_list` with PyTorch Geometric's batches, and sevenn's graphs and batches of ASE's atoms.

{table(from_json, "zoo", "edges")}

From {cifs} CIF files. The zoo reads these by pymatgen's parser, which is nearly all the time.

{table(from_cif, "zoo", "edges")}
"""


if __name__ == "__main__":
    command(main)
