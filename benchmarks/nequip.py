"""`nequip`: the zoo's against the `nequip` package's own modules, one layer and the whole model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from environment import environment
from harness import Case, Measured, measure, worker
from inputs import crystals, write_batches
from report import Goal, Options, Section, command

from zoo_nequip import NequIP
from zoo_nequip.paths import after_each_layer

# Those of the zoo's default, said in full because both sides are made from them.
Hypers = dict[str, Any]
HYPERS: Hypers = {
    "cutoff": 5.0,
    "layers": 3,
    "l_max": 2,
    "channels": 64,
    "parity": True,
    "element_channels": 16,
    "num_bessel": 8,
    "envelope_power": 6,
    "radial_layers": 2,
    "radial_width": 64,
    "average_neighbours": 32.0,
}
ZOO, EAGER, COMPILED = "zoo", "nequip, eager", "nequip, compiled"
ORDERS = {
    "layer forward": "One layer, forward",
    "layer both": "One layer, forward and backward",
    "model forward": "The whole encoder, forward",
    "model both": "The whole encoder, forward and backward",
}


def main(options: Options) -> Section:
    python = environment("nequip", "nequip==0.19.1")
    hypers = HYPERS | ({"layers": 2, "channels": 8} if options.quick else {})
    theirs = json.dumps(hypers | {"irreps": irreps(hypers)})
    with tempfile.TemporaryDirectory() as folder:
        structures = crystals(4 if options.quick else 32)
        batches = write_batches(Path(folder), structures, hypers["cutoff"], 16_000)
        sides = {
            ZOO: worker("nequip_zoo.py", batches, json.dumps(hypers)),
            EAGER: worker("nequip_package.py", batches, theirs, "eager", python=python),
        }
        cases = [Case(f"{side}, {order}", argv, order) for order in ORDERS for side, argv in sides.items()]
        argv = worker("nequip_package.py", batches, theirs, "compile", python=python)
        cases.append(Case(f"{COMPILED}, model both", argv, "model both", peer=True))  # compiling takes minutes
        measured = measure(cases, repeats=options.repeats, threads=options.threads, memory=True)
    zoo, eager, compiled = (f"{side}, model both" for side in (ZOO, EAGER, COMPILED))
    what = "`nequip` forward and backward"
    goals = [
        Goal(f"{what}: time / the `nequip` package's, eager", measured.ratio(zoo, eager), at_most=0.5),
        Goal(f"{what}: memory / the `nequip` package's, eager", measured.memory_ratio(zoo, eager), at_most=0.5),
        Goal(f"{what}: time / the `nequip` package's, compiled", measured.ratio(zoo, compiled), at_most=1.0),
    ]
    return Section("`nequip` against the `nequip` package", body(measured, hypers), goals, [measured])


def irreps(hypers: Hypers) -> list[str]:
    """Return the irreps of the features after each layer."""
    config = NequIP.Hypers(**hypers)
    return [str(config.with_channels(after)) for after in after_each_layer(config.layers, config.l_max, config.parity)]


def body(measured: Measured, hypers: Hypers) -> str:
    ours, theirs = (measured.passes[f"{side}, model both"].about for side in (ZOO, EAGER))
    lines = [
        f"{hypers['layers']} layers, l up to {hypers['l_max']}, {hypers['channels']} channels, cutoff "
        f"{hypers['cutoff']} Å, {hypers['radial_layers']} hidden layers of {hypers['radial_width']} in the radial "
        f"networks; {ours['atoms']} atoms and {ours['edges']:,} edges of `petousis2017`, the very same on both sides; "
        f"{ours['parameters']:,} parameters (the package's: {theirs['parameters']:,}); nequip {theirs['nequip']}. A "
        "layer is the second, its input recorded from the model. Backward is the gradient of the parameters, as in "
        "training. Compiled is the package's own compilation for training (`compile_mode=compile`), without the time "
        "that compiling takes.",
    ]
    for order, title in ORDERS.items():
        rows = {side: f"{side}, {order}" for side in (ZOO, EAGER, COMPILED)}
        lines += ["", f"{title}:", "", measured.table(rows[EAGER], rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    command(main)
