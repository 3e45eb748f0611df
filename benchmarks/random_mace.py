"""Weights of the sizes of MACE-MP-0a without its numbers: `python benchmarks/random_mace.py 1 mace.safetensors`.

The first argument is the highest degree of the features: 0, 1 or 2 for small, medium and large. They serve to time
`mace` where its published weights are not at hand: the operations, and so the time, depend on the sizes alone. Linear
maps are random and couplings zero, so that nothing computed with them has a meaning.
"""

from __future__ import annotations

import sys
from pathlib import Path

from zoo.storage.weights import Weights, save_weights
from zoo_mace.architecture import Architecture, Layer
from zoo_mace.energy import EnergyHead, EnergyOutline
from zoo_mace.network import Network

BASIS = 3
"""Highest degree of the atomic basis."""


def paths(degree: int) -> tuple[int, int, int]:
    """Numbers of paths of order 1, 2 and 3 to a degree: ways in which degrees of the basis couple, natural parity."""
    reached = {0: 1}
    out = []
    for _ in range(3):
        following: dict[int, int] = {}
        for before, ways in reached.items():
            for added in range(BASIS + 1):
                for made in range(abs(before - added), before + added + 1, 2):
                    following[made] = following.get(made, 0) + ways
        reached = following
        out.append(reached.get(degree, 0))
    return out[0], out[1], out[2]


def main() -> None:
    """Write the file."""
    highest, path = int(sys.argv[1]), Path(sys.argv[2])
    layers = tuple(
        Layer(residual=True, density=False, neighbours=60.0, paths=tuple(paths(d) for d in range(last + 1)))
        for last in (highest, 0)
    )
    architecture = Architecture(
        elements=tuple(range(1, 90)),
        channels=128,
        degree=BASIS,
        layers=layers,
        cutoff=6.0,
        envelope=5,
        envelope_on="basis",
        radial=(10, 64, 64, 64),
        transform="none",
    )
    outline = EnergyOutline(readouts=((1, 0), (2, 16)), repulsion=None)
    tensors = Network(architecture, layers=len(layers)).state_dict()
    head = EnergyHead(outline, architecture.channels, len(architecture.elements)).state_dict()
    tensors.update({f"energy.{name}": value for name, value in head.items()})
    kept = {name: value.detach().contiguous() for name, value in tensors.items()}
    save_weights("mace", Weights(kept, {**architecture.model_dump(), "energy": outline.model_dump()}), path)


if __name__ == "__main__":
    main()
