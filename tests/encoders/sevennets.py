"""Crystals and SevenNet encoders of its test modules; an encoder is made once a process."""

from __future__ import annotations

import functools

import torch
from pymatgen.core import Lattice, Structure
from small_crystals import quartz, random_p1, within

from zoo.api import CrystalBatch
from zoo_sevennet import SevenNet

LAYERS = (1, 2, 3, 4, 5)
INVERSION = -torch.eye(3, dtype=torch.float64)
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


def tellurium() -> Structure:
    return Structure.from_spacegroup("P3_121", Lattice.hexagonal(4.458, 5.925), ["Te"], [[0.2633, 0, 1 / 3]])


def cinnabar() -> Structure:
    lattice = Lattice.hexagonal(4.149, 9.495)
    return Structure.from_spacegroup("P3_221", lattice, ["Hg", "S"], [[0.7198, 0, 2 / 3], [0.4889, 0, 1 / 6]])


CHIRAL = [quartz, tellurium, cinnabar, random_p1]


def batch_of(*structures: Structure, dtype: torch.dtype = torch.float32) -> CrystalBatch:
    return within(5.0, *structures, dtype=dtype)


@functools.cache
def encoder(layer: int | tuple[int, ...] = LAYERS, pseudotensors: bool = True, **which: str) -> SevenNet:
    return SevenNet(SevenNet.Hypers(layer=layer, pseudotensors=pseudotensors, **which))


# sevenn's own names of what the wheel ships, by ours.
SHIPPED = {
    "SevenNet-0": {"model": "7net-0"},
    "SevenNet-0_22May2024": {"model": "7net-0_22may2024"},
    "SevenNet-l3i5": {"model": "7net-l3i5"},
    "SevenNet-MF-0": {"model": "7net-mf-0", "modal": "PBE"},
    "SevenNet-MF-0 R2SCAN": {"model": "7net-mf-0", "modal": "R2SCAN"},
}


def ours(name: str) -> SevenNet:
    checkpoint, _, modality = name.partition(" ")
    return encoder(checkpoint=checkpoint, **({"modality": modality} if modality else {}))
