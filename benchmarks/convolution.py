"""The convolution alone, as in the middle of two encoders: the zoo's, plain PyTorch, and e3nn's `TensorProduct`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import Case, Measured, measure, worker
from inputs import crystals, write_batches
from report import Options, Section, command

CUTOFF = 5.0  # Å
LAYERS = {"nequip": "`nequip`, 64 channels, l up to 2, parity", "sevennet": "SevenNet-0, 128 + 64 + 32 channels"}
SIDES = ("segments", "plain", "e3nn")
LABELS = {
    "segments": "zoo",
    "plain": "zoo, plain PyTorch",
    "e3nn": "e3nn's TensorProduct, index_add",
}
ORDERS = {"layer forward": "Forward", "layer both": "Forward and backward"}


def main(options: Options) -> Section:
    parts, found = [introduction()], []
    for layer, title in LAYERS.items():
        measured = of_layer(layer, options)
        found.append(measured)
        parts.append(body(title, measured))
    return Section("The convolution, and e3nn's", "\n\n".join(parts), (), found)


def of_layer(layer: str, options: Options) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        structures = crystals(2 if options.quick else 32)
        batches = write_batches(Path(folder) / "batches", structures, CUTOFF, 16_000)
        cases = [
            Case(f"{side}, {order}", worker("convolution_zoo.py", batches, layer, side), order)
            for order in ORDERS
            for side in SIDES
        ]
        return measure(cases, repeats=options.repeats, threads=options.threads, memory=True)


def introduction() -> str:
    return (
        "Gather, tensor product with the spherical harmonics, radial network, sum over the neighbours; features in, "
        "sums out. The edges are those of crystals of `petousis2017` within 5 Å, their sorting not counted: it is done "
        "once for all layers. Backward is the gradient of features and radial network, as in training. All sides give "
        "the same numbers to 1e-4 (checked before they are timed)."
    )


def body(title: str, measured: Measured) -> str:
    about = next(p.about for name, p in measured.passes.items() if name.startswith("segments"))
    lines = [f"{title}: {about['atoms']} atoms, {about['edges']:,} edges, {about['weights']:,} radial weights an edge."]
    for order, what in ORDERS.items():
        rows = {LABELS[side]: f"{side}, {order}" for side in SIDES}
        lines += ["", f"{what}:", "", measured.table(rows[LABELS["e3nn"]], rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    command(main)
