"""Compare force constants at the given geometry with those at rest: `python scripts/compare_relaxed.py FILE`.

FILE is the CSV that is written: by seed the validation errors of `born_ionic`, trained on the crystals of petousis2017
of at most so many atoms, with force constants of SevenNet-0 where the atoms are given and where its forces vanish, at
the same cell and symmetry. Features are those of the given geometry in both. No test part is looked at. Positions at
rest are kept in a folder, so that a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from choose_by_validation import trained
from tqdm import tqdm

from zoo.config import recipe
from zoo.contract.plugin import Encoder
from zoo.data.crystals import CrystalStore
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.store import GraphStore
from zoo.inference.relax import relax
from zoo.model import tensor_model
from zoo.phonons import potentials
from zoo.phonons.force_constants_store import ForceConstantsStore
from zoo.runtime.devices import choose_device
from zoo.storage.run_folder import RunFolder
from zoo.workflows import train

SETTING = ["readout.stiffness_start=2.0", "readout.width=128", "training.max_epochs=60", "training.patience=60"]
"""The setting that the potentials were compared with (docs/results/ionic_settings.yaml)."""


def main() -> None:
    """Relax, compute force constants, train with both, and write a row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--largest", type=int, default=10, help="atoms of the largest cell")
    parser.add_argument("--kept", type=Path, default=Path("runs/at_rest"), help="folder of the positions at rest")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    chosen = parser.parse_args()
    chosen.kept.mkdir(parents=True, exist_ok=True)
    config = recipe.read("born_ionic", tuple(SETTING))
    everything = train.usable(config).crystals
    small = chosen.kept / f"up_to_{chosen.largest}.json"
    small.write_text(json.dumps(np.array(everything.keys)[everything.facts["n_atoms"] <= chosen.largest].tolist()))
    subset = f"dataset={{name: subset, path: {small}, dataset: {{name: petousis2017}}}}"
    config = recipe.read("born_ionic", (*SETTING, subset))
    (choice,) = potentials.chosen(config)
    potential = potentials.build(choice)
    some = train.usable(config).crystals
    rest = [at_rest(potential, some, i, chosen.kept) for i in tqdm(range(len(some)), desc="at rest", unit=" crystals")]
    moved = np.array([np.linalg.norm(some[i].positions - one.positions, axis=1).max() for i, one in enumerate(rest)])
    far = (moved > 0.01).sum()
    print(f"{len(rest)} crystals, in {far} an atom moved by more than 0.01 Å, at most by {moved.max():.2f} Å")
    target = train.target_of(config)
    first = tensor_model.build(config.encoder, config.readout, target, config.force_constants.potential)
    with TemporaryDirectory() as scratch:
        prepared = train.prepare(config, target, first, choose_device("cpu"), RunFolder(Path(scratch)), print)
    relaxed = ForceConstantsStore.build(potential, GraphStore.build(rest, potential.cutoff, some.keys))
    both = {
        "given": prepared,
        "at rest": dataclasses.replace(
            prepared, samples=dataclasses.replace(prepared.samples, force_constants=relaxed)
        ),
    }
    with chosen.file.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["geometry", "seed", "crystals", "val_mae_ten"])
        for seed in chosen.seeds:
            for name, one in both.items():
                error = min(row["val_mae_ten"] for row in trained(one, first, seed, name)[1].history.rows)
                out.writerow([name, seed, len(rest), f"{error:.4f}"])
                file.flush()


def at_rest(potential: Encoder, crystals: CrystalStore, number: int, kept: Path) -> Crystal:
    """Return a crystal with the positions at rest, from its file where there is one; without rest as it is given."""
    given = crystals[number]
    path = kept / f"{crystals.keys[number]}.npy"
    if not path.is_file():
        try:
            found = relax(potential, crystals.structure(number))
        except ZooError as error:
            print(f"{crystals.keys[number]} stays as it is given: {error}")
            positions = given.positions
        else:
            positions = Crystal.of(found.structure).positions if found.steps else given.positions
        np.save(path, positions)
    return dataclasses.replace(given, positions=np.load(path, allow_pickle=False))


if __name__ == "__main__":
    main()
