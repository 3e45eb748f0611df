"""Total energy along molecular dynamics: `python benchmarks/energy_drift.py POTENTIAL ... --out FILE`.

A POTENTIAL is YAML, as in a recipe: `'{name: sevennet}'`. 64 atoms of MgO (2×2×2 conventional cells) start from rest
positions with velocities of 600 K, half of which becomes potential energy; velocity Verlet, 1 fs, 10 ps. A row for
every 10 fs goes to --out as it comes; the drift is the slope of a line through the total energies of the last nine
tenths, the fluctuation what they deviate from it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from tqdm import tqdm

import zoo

EVERY = 10
"""Steps of 1 fs between two rows."""


def main() -> None:
    """Run all potentials one after another, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ps", type=float, default=10.0)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    options = parser.parse_args()
    with options.out.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("potential", "fs", "total_energy_meV_per_atom", "temperature_K"))
        for text in options.potential:
            found = []
            for row in trajectory(yaml.safe_load(text), options.dtype, int(1000 * options.ps)):
                rows.writerow((text, *(f"{value:.6g}" for value in row)))
                file.flush()
                found.append(row)
            print(f"{text}: {summary(np.array(found))}")


def trajectory(choice: dict[str, str], dtype: str, steps: int) -> Iterator[tuple[int, float, float]]:
    """Yield time (fs), total energy since the start (meV an atom), temperature (K)."""
    atoms = bulk("MgO", "rocksalt", a=4.25, cubic=True) * (2, 2, 2)
    settings = {key: value for key, value in choice.items() if key != "name"}
    atoms.calc = zoo.calculator(choice["name"], dtype=dtype, device="cpu", **settings)
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(0))
    Stationary(atoms)
    start = atoms.get_total_energy()
    dynamics = VelocityVerlet(atoms, timestep=units.fs)
    for step in tqdm(range(0, steps + 1, EVERY), desc=choice["name"], unit=" rows", disable=None):
        if step:
            dynamics.run(EVERY)
        yield step, 1000 * (atoms.get_total_energy() - start) / len(atoms), atoms.get_temperature()


def summary(rows: np.ndarray) -> str:
    """Drift, fluctuation and mean temperature."""
    kept = rows[len(rows) // 10 :]
    ps, energy = kept[:, 0] / 1000, kept[:, 1]
    slope, height = np.polyfit(ps, energy, 1)
    off = (energy - slope * ps - height).std()
    return f"drift {slope:.3g} meV an atom and ps, fluctuation {off:.3g} meV an atom, {kept[:, 2].mean():.0f} K"


if __name__ == "__main__":
    main()
