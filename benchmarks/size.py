"""Cost against size: time and memory of the encoders from 10² atoms on, in one large cell and in a batch."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from harness import Case, Measured, measure, worker
from report import ROOT, Options, Section, command, machine

FIGURE = "images/benchmarks_size.png"  # below docs/
SIZES = {"nequip": [100, 316, 1_000, 3_162], "sevennet": [100, 316, 1_000, 3_162, 10_000]}
TITLES = {"nequip": "`nequip`, forward and backward", "sevennet": "`sevennet`, embedding"}
KINDS = {"cell": "one cell", "batch": "a batch of crystals of 6 atoms"}


def main(options: Options) -> Section:
    sizes = {name: [30, 100, 200] if options.quick else all_sizes for name, all_sizes in SIZES.items()}
    cases = [
        Case(f"{name} {kind} {size}", worker("size_zoo.py", name, *sizes[name]), f"{kind} {size}")
        for name in sizes
        for kind in KINDS
        for size in sizes[name]
    ]
    repeats = 1 if options.quick else 2  # the large ones take long, and the workers have warmed up
    measured = measure(cases, repeats=repeats, threads=options.threads, warmup=0, memory=True)
    curves = {(name, kind): curve(measured, name, kind) for name in sizes for kind in KINDS}
    if not options.quick:
        plot(curves)
    return Section("Cost against size", body(curves), (), [measured])


def curve(measured: Measured, name: str, kind: str) -> np.ndarray:
    """(sizes, 3): atoms, seconds, MB."""
    passes = [p for case, p in measured.passes.items() if case.startswith(f"{name} {kind} ")]
    return np.array([[p.about["items"], p.median, p.memory_mb] for p in passes])


def exponent(atoms: np.ndarray, cost: np.ndarray) -> float:
    """p of cost ~ atoms^p, by least squares of the logarithms, over the upper two thirds of the sizes."""
    some = slice(len(atoms) // 3, None)
    return float(np.polyfit(np.log(atoms[some]), np.log(np.maximum(cost[some], 1e-3)), 1)[0])


def body(curves: dict[tuple[str, str], np.ndarray]) -> str:
    lines = [
        "Rutile with every atom displaced, so that no two edges are alike; everything in one pass: the encoders take "
        "the edges in chunks themselves. The sizes end where a pass takes long, not where memory does: the last column "
        "is the number of atoms for which this machine's memory would be enough if it went on as between the two "
        "largest sizes; it was not tried.",
        "",
        f"![Time and memory against the number of atoms]({FIGURE})",
        "",
        "| | | atoms | largest: s | µs an atom | largest: MB | kB an atom | time ~ N^ | memory ~ N^ | atoms that fit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (name, kind), values in curves.items():
        atoms, seconds, megabytes = values.T
        slope = (megabytes[-1] - megabytes[-2]) / (atoms[-1] - atoms[-2])
        fit = machine()["memory_gb"] * 1024 / slope
        lines.append(
            f"| {TITLES[name]} | {KINDS[kind]} | {atoms[0]:.0f} – {atoms[-1]:,.0f} | {seconds[-1]:.3g} | "
            f"{seconds[-1] / atoms[-1] * 1e6:.3g} | {megabytes[-1]:.3g} | {megabytes[-1] / atoms[-1] * 1024:.3g} | "
            f"{exponent(atoms, seconds):.2f} | {exponent(atoms, megabytes):.2f} | {fit:,.2g} |"
        )
    return "\n".join(lines)


def plot(curves: dict[tuple[str, str], np.ndarray]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (name, kind), values in curves.items():
        for axis, cost in zip(axes, (values[:, 1], values[:, 2]), strict=True):
            style = {"color": "C0" if name == "nequip" else "C1", "linestyle": "-" if kind == "cell" else "--"}
            label = f"{TITLES[name].replace('`', '')}, {KINDS[kind]}: N^{exponent(values[:, 0], cost):.2f}"
            axis.loglog(values[:, 0], cost, marker="o", markersize=3, label=label, **style)
    for axis, title in zip(axes, ("s a pass", "MB that a pass adds"), strict=True):
        axis.set_xlabel("atoms")
        axis.set_ylabel(title)
        axis.legend(fontsize=6, frameon=False)
    figure.savefig(ROOT / "docs" / FIGURE, dpi=150)


if __name__ == "__main__":
    command(main)
