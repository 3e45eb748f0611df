"""Features that another package has computed, and the crystals that they are of (data/make_*.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from pymatgen.core import Lattice, Structure
from safetensors.torch import load_file
from small_crystals import within
from torch import Tensor

from zoo.api import CrystalBatch, Encoder
from zoo.testing.pair import default_dtype

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Golden:
    """A crystal and what the package says of it, float64, by the names that the script gives."""

    structure: Structure
    features: dict[str, Tensor]


def golden(file: Path, model: str = "") -> Iterator[Golden]:
    """All crystals of a file; in one with several models, those of the model of that name, `MODEL:`."""
    content = {name.removeprefix(model): value for name, value in load_file(file).items() if name.startswith(model)}
    for crystal in sorted({name.split(".")[0] for name in content}):
        own = {name.split(".", 1)[1]: value for name, value in content.items() if name.startswith(f"{crystal}.")}
        lattice, numbers, places = Lattice(own["cell"].numpy()), own["numbers"].tolist(), own["positions"].numpy()
        yield Golden(Structure(lattice, numbers, places, coords_are_cartesian=True), own)


def build(cls: type[Encoder], dtype: torch.dtype = torch.float64, **hypers: object) -> Encoder:
    """An encoder whose constants are exact in that precision."""
    with default_dtype(dtype):
        return cls(cls.Hypers(**hypers)).to(dtype)


def batch_of(encoder: Encoder, *structures: Structure, dtype: torch.dtype = torch.float64) -> CrystalBatch:
    return within(encoder.cutoff, *structures, dtype=dtype)
