"""Training steps on forces: `sevennet`, `nequip` and `teanet` against the `sevenn` and `nequip` packages."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from environment import environment
from harness import Case, Measured, measure, worker
from inputs import crystals, write_batches
from nequip import HYPERS, irreps
from pymatgen.core import Structure
from report import Goal, Options, Section, command

from zoo_teanet import TeaNet

EVALUATION, STEP = "energy and forces", "step"
GROUPS = ("crystals", "cell")
ZOO = ("sevennet", "nequip", "teanet")
PEER = {"sevennet": "the sevenn package", "nequip": "the nequip package"}
RATTLED = 0.05  # Å
ONE_BATCH = 10**9  # edges, more than there are
CUTOFFS = {"sevennet": 5.0, "nequip": HYPERS["cutoff"], "teanet": max(TeaNet.Hypers().cutoffs)}


def main(options: Options) -> Section:
    python = environment("nequip", "nequip==0.19.1")
    drawn = crystals(16)
    chosen = {
        "crystals": drawn[: 2 if options.quick else 12],
        "cell": [next(s for s in drawn if len(s) == (3 if options.quick else 10)) * (2, 2, 2)],
    }
    nequip, teanet = (HYPERS | {"layers": 2, "channels": 8}, {"channels": 8}) if options.quick else (HYPERS, {})
    own = {"sevennet": "{}", "nequip": json.dumps(nequip), "teanet": json.dumps(teanet)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in ZOO:
            write_groups(folder / model, chosen, CUTOFFS[model])
        sides = {model: worker("forces_zoo.py", folder / model, model, own[model]) for model in ZOO}
        sides["sevennet"].append(str(folder / "zoo.npz"))
        sides[PEER["sevennet"]] = worker("forces_sevenn_package.py", folder / "sevennet", folder / "sevenn.npz")
        theirs = json.dumps(nequip | {"irreps": irreps(nequip)})
        sides[PEER["nequip"]] = worker("forces_nequip_package.py", folder / "nequip", theirs, python=python)
        orders = [f"{group}, {what}" for group in GROUPS for what in (EVALUATION, STEP)]
        cases = [
            Case(f"{side}, {order}", argv, order, peer=side not in ZOO)
            for order in orders
            for side, argv in sides.items()
        ]
        # The first passes of TorchScript, which the packages' modules are made of, take longer.
        warmup = 1 if options.quick else 2
        repeats = min(options.repeats, 5)
        measured = measure(cases, repeats=repeats, threads=options.threads, warmup=warmup, memory=True)
        gradients, forces = largest_differences(folder)
    return Section("Training on forces", body(measured), goals(measured, gradients, forces), [measured])


def write_groups(folder: Path, chosen: Mapping[str, Sequence[Structure]], cutoff: float) -> None:
    """Write the crystals of each group, rattled, as one batch."""
    for group, structures in chosen.items():
        moved = [rattled(structure, seed) for seed, structure in enumerate(structures)]
        write_batches(folder / group, moved, cutoff, ONE_BATCH)


def rattled(structure: Structure, seed: int) -> Structure:
    """Every atom moved by a vector of normal numbers times `RATTLED`."""
    moved = structure.cart_coords + RATTLED * np.random.default_rng(seed).normal(size=(len(structure), 3))
    return Structure(structure.lattice, structure.species, moved, coords_are_cartesian=True)


def largest_differences(folder: Path) -> tuple[float | None, float | None]:
    """|ours - theirs| / |theirs| of SevenNet-0: the largest of any parameter's gradient, and that of the forces.

    None where the package's side failed.
    """
    if not (folder / "sevenn.npz").is_file():
        return None, None
    ours, theirs = (np.load(folder / f"{side}.npz") for side in ("zoo", "sevenn"))
    if set(ours.files) != set(theirs.files):
        raise SystemExit(f"parameters of one side alone: {set(ours.files) ^ set(theirs.files)}")
    found = {
        name: float(np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name])) for name in theirs.files
    }
    forces = found.pop("forces")
    return max(found.values()), forces


def goals(measured: Measured, gradients: float | None, forces: float | None) -> list[Goal]:
    """The goals of every model in time and memory, and of SevenNet-0 in values, too."""
    out = []
    for name in ZOO:
        what = f"`{name}`, a training step on forces"
        step, evaluation = (f"{name}, crystals, {order}" for order in (STEP, EVALUATION))
        out.append(Goal(f"{what}: time / energy and forces", measured.ratio(step, evaluation), at_most=4))
        if name in PEER:
            ratio = measured.ratio(step, f"{PEER[name]}, crystals, {STEP}")
            out.append(Goal(f"{what}: time / that of {PEER[name]}", ratio, at_most=0.5))
        largest = max(memory_an_atom(measured, f"{name}, {group}, {STEP}") for group in GROUPS)
        out.append(Goal(f"{what}: MB an atom", largest, at_most=10))
    what = "SevenNet-0, training on forces: relative difference"
    out.append(Goal(f"{what} of the forces from sevenn's", forces, at_most=1e-5))
    out.append(Goal(f"{what} of any parameter's gradient from sevenn's", gradients, at_most=1e-4))
    return out


def memory_an_atom(measured: Measured, case: str) -> float:
    """MB that a pass over the one batch adds."""
    passes = measured.passes[case]
    assert passes.memory_mb is not None
    return passes.memory_mb / passes.about["items"]


def body(measured: Measured) -> str:
    """Markdown: what a step is, and a table for each group."""
    ours = {name: measured.passes[f"{name}, crystals, {STEP}"].about for name in ZOO}
    sizes = ", ".join(f"`{name}` {about['parameters']:,}" for name, about in ours.items())
    lines = [
        "A step is energies, forces as their derivatives by the positions, the mean squares of both as the loss, and "
        f"its gradient by all parameters ({sizes}); energies and forces alone are those of frozen parameters, as in a "
        f"calculator. Crystals of `petousis2017` whose atoms are moved by {RATTLED} Å at random, float32, one batch, "
        "the very same for a model and its peer. `sevennet` is SevenNet-0 with all its parameters, not the mean with "
        "its mirror image; the sevenn package's has its own force module, which makes stresses, too. `nequip` is the "
        "zoo's default, its peer the nequip package's modules, eager; both have the energy of `zoo.api.Potential` and "
        "torch.autograd.grad. `teanet` is the zoo's default and has no peer.",
    ]
    titles = dict(zip(GROUPS, ("atoms of crystals", "atoms of a 2×2×2 supercell"), strict=True))
    for group, title in titles.items():
        about = measured.passes[f"{ZOO[0]}, {group}, {STEP}"].about
        edges = about["edges"][group]
        lines += ["", f"{about['items']} {title}, {edges:,} edges within {CUTOFFS[ZOO[0]]:g} Å:", ""]
        lines.append(table(measured, group))
    return "\n".join(lines)


def table(measured: Measured, group: str) -> str:
    """A row for each side: times and memory an atom, and a step over its own evaluation and over its peer's step."""
    head = ["", "energies and forces, ms an atom", "step, ms an atom", "step / energies and forces", "step / peer's"]
    rows = [[*head, "energies and forces, MB an atom", "step, MB an atom"], ["---"] * 7]
    for side in [side for name in ZOO for side in (name, PEER.get(name)) if side]:
        cases = [f"{side}, {group}, {order}" for order in (EVALUATION, STEP)]
        failed = [measured.failed[case] for case in cases if case in measured.failed]
        if failed:
            rows.append([side, f"failed: {failed[0]}", *[""] * 5])
            continue
        passes = [measured.passes[case] for case in cases]
        times = [1000 * p.median / p.about["items"] for p in passes]
        ratios = [measured.ratio(cases[1], cases[0])]
        ratios.append(measured.ratio(cases[1], f"{PEER[side]}, {group}, {STEP}") if side in PEER else None)
        numbers = [*times, *ratios, *(memory_an_atom(measured, case) for case in cases)]
        rows.append([side, *("" if value is None else f"{value:.3g}" for value in numbers)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    command(main)
