"""The convolution alone, as in the middle of two encoders: the zoo's backends, and e3nn's `TensorProduct`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import Case, Measured, measure, worker
from inputs import crystals, write_batches
from report import Options, Section, command

CUTOFF = 5.0  # Å
LAYERS = {"nequip": "`nequip`, 64 channels, l up to 2, parity", "sevennet": "SevenNet-0, 128 + 64 + 32 channels"}
SIDES = ("segments", "plain", "compiled", "cuequivariance", "e3nn")
LABELS = {
    "segments": "zoo, segments (auto)",
    "plain": "zoo, plain PyTorch",
    "compiled": "zoo, compiled",
    "cuequivariance": "cuEquivariance, its reference method",
    "e3nn": "e3nn's TensorProduct, index_add",
}
PEERS = ("cuequivariance",)  # may not be installed
ORDERS = {"layer forward": "Forward", "layer both": "Forward and backward"}


def main(options: Options) -> Section:
    parts, found = [introduction()], []
    for layer, title in LAYERS.items():
        measured = of_layer(layer, options)
        found.append(measured)
        parts.append(body(title, measured))
    return Section("The convolution: backends, and e3nn", "\n\n".join(parts), (), found)


def of_layer(layer: str, options: Options) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        structures = crystals(2 if options.quick else 32)
        batches = write_batches(Path(folder) / "batches", structures, CUTOFF, 16_000)
        env = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled"}  # empty: so that compiling is timed
        cases = [
            Case(f"{side}, {order}", worker("convolution_zoo.py", batches, layer, side), order, env, peer=side in PEERS)
            for order in ORDERS
            for side in SIDES
        ]
        return measure(cases, repeats=options.repeats, threads=options.threads, memory=True)


def introduction() -> str:
    return (
        "Gather, tensor product with the spherical harmonics, radial network, sum over the neighbours; features in, "
        "sums out. The edges are those of crystals of `petousis2017` within 5 Å, their sorting not counted: it is done "
        "once for all layers. Backward is the gradient of features and radial network, as in training. All sides give "
        "the same numbers to 1e-4 (checked before they are timed). On the CPU cuEquivariance has its reference method "
        "alone, not the kernels that it is made for."
    )


def body(title: str, measured: Measured) -> str:
    about = next(p.about for name, p in measured.passes.items() if name.startswith("segments"))
    compiling = next(p.about["compiling"] for name, p in measured.passes.items() if name.startswith("compiled"))
    lines = [
        f"{title}: {about['atoms']} atoms, {about['edges']:,} edges, {about['weights']:,} radial weights an edge. "
        f"Compiling took {compiling:.0f} s, which is not in the times."
    ]
    for order, what in ORDERS.items():
        rows = {LABELS[side]: f"{side}, {order}" for side in SIDES}
        lines += ["", f"{what}:", "", measured.table(rows[LABELS["e3nn"]], rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    command(main)
