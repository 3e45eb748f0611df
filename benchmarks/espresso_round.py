"""One round with Quantum ESPRESSO: crystals whose tensors petousis2017 has, hidden, and two that it does not have.

    python benchmarks/espresso_round.py runs/espresso                 # hours on one core; goes on where it was stopped
    python benchmarks/espresso_round.py runs/espresso --only-report   # the table of what is there

The recipe is `discover_total` with these candidates, all of which are calculated; the settings of the oracle are its
defaults. The dataset's tensors are of VASP with PBE (Petousis et al., 2017), at its own relaxed structures.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from zoo.config import recipe
from zoo.contract.plugin import Record
from zoo.data.petousis2017 import Petousis2017, Petousis2017Hypers
from zoo.data.symmetry import space_group
from zoo.discovery.rounds import discovery_config
from zoo.discovery.rounds.calculations import calculations_of
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder
from zoo.discovery.rounds.loop import Loop
from zoo.storage.run_folder import write_json, write_rows, write_text
from zoo.workflows import train as runs

HIDDEN = ("mp-1479", "mp-13150", "mp-422", "mp-1778", "mp-1569")


def face_centred(a: float) -> Lattice:
    """The primitive cell of a cubic one."""
    return Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])


# Experimental lattice constants at room temperature, Å.
NEW = {
    "new-MgO": Structure(face_centred(4.212), ["Mg", "O"], np.array([[0, 0, 0], [0.5, 0.5, 0.5]])),
    "new-Li2O": Structure(face_centred(4.619), ["Li", "Li", "O"], np.array([[0.25] * 3, [0.75] * 3, [0, 0, 0]])),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only-report", action="store_true")
    options = parser.parse_args()
    folder = DiscoveryFolder(options.out)
    records = {r.key: r for r in Petousis2017(Petousis2017Hypers()).records() if isinstance(r, Record)}
    if not options.only_report:
        config = (
            discovery_config.read(str(folder.recipe)) if folder.recipe.is_file() else recipe_of(options.out, records)
        )
        loop = Loop(config, folder, lambda training, place: runs.run(training, place, print), print)
        with loop.begun():
            loop.go_on(lambda: None)
    report(folder, records)


def recipe_of(out: Path, records: dict[str, Record]) -> discovery_config.Discovery:
    """`discover_total` with these candidates; what is known at the start is all but the hidden ones."""
    known = {(r.structure.composition.reduced_formula, r.properties["space_group"]) for r in records.values()}
    candidates = {key: {"structure": records[key].structure.as_dict()} for key in HIDDEN}
    for key, structure in NEW.items():
        if (structure.composition.reduced_formula, space_group(structure)) in known:
            raise SystemExit(f"{key} is in the dataset")
        candidates[key] = {"structure": structure.as_dict()}
    inputs = out.with_name(f"{out.name}_inputs").resolve()
    write_json(inputs / "candidates.json", candidates)
    write_text(inputs / "known.txt", "\n".join(sorted(set(records) - set(HIDDEN))) + "\n")
    content, path = recipe.read_content("discover_total")
    subset = {"name": "subset", "dataset": {"name": "petousis2017"}, "path": str(inputs / "known.txt")}
    content |= {"candidates": {"path": str(inputs / "candidates.json")}, "top": len(candidates), "rounds": 1}
    content["filters"] = {"max_energy_above_hull": None, "min_band_gap": None}
    content["model"] |= {"members": 3, "last": False, "change": {"dataset": subset, "training.max_epochs": 40}}
    content["tracking"]["enabled"] = False
    return discovery_config.parse(content, path)


def report(folder: DiscoveryFolder, records: dict[str, Record]) -> None:
    """The CSV, and the table in Markdown, of the calculations that have ended."""
    rows: list[dict[str, Any]] = []
    print("| crystal | atoms | tensor | oracle: principal values | dataset | off by | models said | CPU minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for one in calculations_of(folder.round(1)):
        outcome = one.outcome
        if outcome is None or outcome["status"] != "done":
            print(f"| {one.facts['formula']} `{one.key}` | {'not ended' if outcome is None else outcome['reason']} |")
            continue
        n_atoms = len(Structure.from_dict(json.loads(one.facts["structure"])))
        minutes = sum(cpu_minutes(one.folder / f"{stage}.out") for stage in ("relax", "scf", "ph"))
        for name in ("electronic", "ionic", "total"):
            calculated = np.array(outcome["tensors"][name])
            table = records[one.key].targets[name] if one.key in records else None
            off = None if table is None else np.linalg.norm(calculated - table) / np.linalg.norm(table)
            predicted = np.array(one.facts["predicted"]) if name == "total" else None
            row = {
                "key": one.key,
                "formula": one.facts["formula"],
                "atoms": n_atoms,
                "tensor": name,
                "oracle": values_of(calculated),
                "dataset": values_of(table),
                "off": "" if off is None else f"{off:.4f}",
                "predicted": values_of(predicted),
                "cpu_minutes": f"{minutes:.1f}" if name == "total" else "",
            }
            rows.append(row)
            percent = "" if off is None else f"{100 * off:.1f} %"
            cells = [f"{row['formula']} `{one.key}`", n_atoms, name, row["oracle"], row["dataset"] or "none", percent]
            print("| " + " | ".join(map(str, [*cells, row["predicted"], row["cpu_minutes"]])) + " |")
    if rows:
        write_rows(folder.path / "espresso.csv", rows)


def cpu_minutes(output: Path) -> float:
    """Return the processor time that pw.x or ph.x reports, which other programs do not influence."""
    found = re.findall(r"(?:PWSCF|PHONON) *: *(?:(\d+)h)? *(?:(\d+)m)? *(?:([\d.]+)s)? *CPU", output.read_text())
    hours, minutes, seconds = (float(part or 0) for part in found[-1])
    return 60 * hours + minutes + seconds / 60


def values_of(tensor: np.ndarray | None) -> str:
    """Principal values."""
    return "" if tensor is None else " ".join(f"{value:.2f}" for value in np.linalg.eigvalsh(tensor))


if __name__ == "__main__":
    main()
