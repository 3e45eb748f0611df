"""The encoder `concatenated`: the features of several pretrained encoders, side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from e3nn import o3
from pydantic import field_validator
from torch import Tensor, nn

from zoo.config import plugins
from zoo.config.recipe import Plugin
from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Features
from zoo.contract.plugin import Encoder, Hypers, Provides

# Raise it whenever the same encoders come to give other numbers: caches are then made anew.
VERSION = 1


class ConcatenatedHypers(Hypers):
    """The encoders whose features are concatenated."""

    encoders: tuple[Plugin, ...] = (Plugin(name="sevennet"), Plugin(name="nequix"))
    """Pretrained encoders, two or more, the settings of each beside its name."""

    @field_validator("encoders")
    @classmethod
    def _pretrained(cls, encoders: tuple[Plugin, ...]) -> tuple[Plugin, ...]:
        if len(encoders) < 2:
            raise ValueError("encoders names two or more")
        for choice, (kind, _) in zip(encoders, _kinds(encoders), strict=True):
            if not kind.pretrained:
                raise ValueError(f"'{choice.name}' is not pretrained; only such encoders can be concatenated")
        return encoders


class Concatenated(Encoder):
    """Features of several pretrained encoders, irrep by irrep one after another.

    The graph has the largest cutoff; each encoder sees the edges within its own. Bond features are those of the
    encoders whose bonds follow from the geometry, zero on edges beyond an encoder's cutoff. It knows the elements that
    all know. It has no energy: `force_constants.potential` names a potential.

    Raises:
        ZooError: the weights of one are not here.
    """

    Hypers = ConcatenatedHypers
    pretrained = True

    hypers: ConcatenatedHypers

    def __init__(self, hypers: ConcatenatedHypers) -> None:
        super().__init__(hypers)
        self.encoders = nn.ModuleList(kind(settings) for kind, settings in _kinds(hypers.encoders))
        self.cutoff = max(encoder.cutoff for encoder in self._each())
        self.provided = self.provides(hypers)
        # Of these encoders, not of the class.
        self.bonds_from_geometry = self.provided.bonds is not None  # type: ignore[misc]

    @classmethod
    def provides(cls, hypers: ConcatenatedHypers) -> Provides:
        """The sum of the irreps of all, without an energy."""
        given = [(kind, kind.provides(settings)) for kind, settings in _kinds(hypers.encoders)]
        atoms = sum((one.atoms for _, one in given), o3.Irreps())
        bonds = [one.bonds for kind, one in given if kind.bonds_from_geometry and one.bonds is not None]
        return Provides(atoms, sum(bonds, o3.Irreps()) if bonds else None)

    @classmethod
    def missing(cls, hypers: ConcatenatedHypers) -> str | None:
        """The first thing that one of the encoders misses."""
        return next(filter(None, (kind.missing(settings) for kind, settings in _kinds(hypers.encoders))), None)

    def elements(self) -> frozenset[int] | None:
        """Atomic numbers that all encoders know."""
        known = [elements for encoder in self._each() if (elements := encoder.elements()) is not None]
        return frozenset.intersection(*known) if known else None

    def fingerprint(self) -> str:
        """sha256 of the fingerprints of all, in their order, and the version of this encoder."""
        each = [encoder.fingerprint() for encoder in self._each()]
        return hashlib.sha256(json.dumps([*each, VERSION]).encode()).hexdigest()

    def bonds(self, batch: CrystalBatch) -> Features | None:
        """Bond features of the encoders whose bonds follow from the geometry."""
        found = []
        for encoder in self._each():
            if not encoder.bonds_from_geometry:
                continue
            own = encoder.bonds(batch.within(encoder.cutoff))
            assert own is not None  # so it has promised
            values = own.values.new_zeros(len(batch.src), own.irreps.dim)
            found.append(values.masked_scatter(batch.shorter_than(encoder.cutoff).unsqueeze(-1), own.values))
        return self._side_by_side(self.provided.bonds, found)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the atoms and bonds.

        Raises:
            ZooError: one of the encoders does not know an element of the batch.
        """
        atoms = [encoder(batch.within(encoder.cutoff)).atoms.values for encoder in self._each()]
        made = self._side_by_side(self.provided.atoms, atoms)
        assert made is not None  # every encoder has atom features
        return Embedding(made, self.bonds(batch))

    def _each(self) -> Iterator[Encoder]:
        for encoder in self.encoders:
            assert isinstance(encoder, Encoder)  # for the type checker
            yield encoder

    @staticmethod
    def _side_by_side(irreps: o3.Irreps | None, values: list[Tensor]) -> Features | None:
        return None if irreps is None else Features(irreps, torch.cat(values, dim=1))


def _kinds(encoders: tuple[Plugin, ...]) -> list[tuple[type[Encoder], Any]]:
    return [
        (plugins.load("encoder", choice.name), plugins.hypers("encoder", choice.name, choice.settings))
        for choice in encoders
    ]
