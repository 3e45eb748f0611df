"""`teanet` against matgl's TensorNet: two Cartesian tensor networks of the same depth and width."""

from __future__ import annotations

import tempfile
from pathlib import Path

from environment import environment
from harness import Case, Measured, measure, worker
from inputs import crystals, write_batches
from report import Options, Section, command

CHANNELS, LAYERS, CUTOFF = 64, 3, 5.0
ORDERS = {"model forward": "Forward", "model both": "Forward and backward"}
ZOO, PEER = "zoo, teanet", "matgl, TensorNet"


def main(options: Options) -> Section:
    python = environment("tensornet", "matgl==4.1.2")
    with tempfile.TemporaryDirectory() as folder:
        structures = crystals(4 if options.quick else 32)
        batches = write_batches(Path(folder), structures, CUTOFF, 16_000)
        size = (batches, 8 if options.quick else CHANNELS, LAYERS, CUTOFF)
        sides = {ZOO: worker("teanet_zoo.py", *size), PEER: worker("matgl_package.py", *size, python=python)}
        cases = [Case(f"{side}, {order}", argv, order) for order in ORDERS for side, argv in sides.items()]
        measured = measure(cases, repeats=options.repeats, threads=options.threads, memory=True)
    return Section("`teanet` against matgl's TensorNet", body(measured, size[1]), (), [measured])


def body(measured: Measured, channels: int) -> str:
    ours, theirs = (measured.passes[f"{side}, model both"].about for side in (ZOO, PEER))
    lines = [
        f"{LAYERS} sums over neighbours within {CUTOFF} Å, {channels} channels; {ours['atoms']} atoms and "
        f"{ours['edges']:,} edges of `petousis2017`; matgl {theirs['matgl']}, plain PyTorch. They are not the same "
        f"model: `teanet` ({ours['parameters']:,} parameters) also updates scalars and vectors of every bond in every "
        f"layer, TensorNet ({theirs['parameters']:,}) keeps atoms alone and multiplies 3×3 matrices; of TensorNet's "
        "layers the first is its embedding. Backward is the gradient of the parameters.",
    ]
    for order, title in ORDERS.items():
        rows = {side: f"{side}, {order}" for side in (ZOO, PEER)}
        lines += ["", f"{title}:", "", measured.table(rows[PEER], rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    command(main)
