"""The readout `joint`: a readout for each part of a joint target, over one embedding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo.config import plugins
from zoo.config.recipe import Plugin
from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Rows
from zoo.contract.lattice_response import LatticeResponse
from zoo.contract.plugin import Hypers, Needs, Provides, Readout
from zoo.contract.target import TensorTarget
from zoo.model.normaliser import Normaliser


class JointHypers(Hypers):
    """Readouts of the two parts of the dielectric tensor; the total is their sum."""

    electronic: Plugin
    """Readout of the electronic part, its settings beside its name."""

    ionic: Plugin
    """Readout of the ionic part, its settings beside its name."""


class Joint(Readout):
    """Electronic and ionic tensor by a readout each, and the total as their sum, trained by one loss over all three.

    A recipe writes `readouts: {electronic: {...}, ionic: {...}}`.
    """

    Hypers = JointHypers
    normalise: ClassVar[bool] = False

    hypers: JointHypers

    def __init__(self, hypers: JointHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        self.readouts = nn.ModuleDict()
        self.normalisers = nn.ModuleDict()
        for part, choice in _choices(hypers, target).items():
            kind = plugins.load("readout", choice.name)
            settings = plugins.hypers("readout", choice.name, choice.settings)
            self.readouts[part.name] = kind(settings, provides, cutoff, part)
            self.normalisers[part.name] = Normaliser(part)
        each = [type(readout) for readout in self.readouts.values()]
        needs: list[Needs] = [kind.needs for kind in each]  # type: ignore[attr-defined]
        # Of this pair of readouts, not of the class: what the core asks a readout for.
        self.needs = Needs(  # type: ignore[misc]
            atoms=tuple(dict.fromkeys(irrep for need in needs for irrep in need.atoms)),
            bonds=tuple(dict.fromkeys(irrep for need in needs for irrep in need.bonds)),
            force_constants=any(need.force_constants for need in needs),
        )
        self.also_makes = tuple(name for kind in each for name in kind.also_makes)  # type: ignore[misc,attr-defined]
        self.explains = self.readouts["ionic"].explains  # type: ignore[misc,assignment]
        self.needs_grad = any(kind.needs_grad for kind in each)  # type: ignore[misc,attr-defined]

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but electronic, ionic and total together."""
        if [part.name for part in target.parts] == ["electronic", "ionic", "total"]:
            return None
        return f"makes the electronic and the ionic tensor together, the target is '{target.name}' alone"

    @classmethod
    def unmet_with(cls, hypers: JointHypers, provides: Provides, target: TensorTarget) -> str | None:
        """Why one of the two readouts cannot make its part of an encoder's features; None where both can."""
        reason = cls.unmet(provides, target)
        if reason is not None:
            return reason
        for part, choice in _choices(hypers, target).items():
            settings = plugins.hypers("readout", choice.name, choice.settings)
            reason = plugins.load("readout", choice.name).unmet_with(settings, provides, part)
            if reason is not None:
                return f"names '{choice.name}' for '{part.name}', which {reason}"
        return None

    def fit(self, tensors: Tensor) -> None:
        """Let each readout, and its normaliser if it wants one, take the statistics of its part's training labels."""
        for name, (_, values) in self.target.split(tensors).items():
            known = values[~values.flatten(1).isnan().any(dim=1)]
            if name not in self.readouts or not len(known):
                continue
            if self.readouts[name].normalise:
                normaliser = self.normalisers[name]
                assert isinstance(normaliser, Normaliser)  # for the type checker
                normaliser.fit(known)
            self.readouts[name].fit(known)  # type: ignore[operator]

    def prepare(self, batch: CrystalBatch) -> CrystalBatch:
        """The batch as both readouts want it."""
        for readout in self.readouts.values():
            batch = readout.prepare(batch)  # type: ignore[operator]
        return batch

    def precompute(self, embedding: Embedding, batch: CrystalBatch) -> Mapping[str, Rows] | None:
        """Collect what each readout precomputes, under its part's name; None where one wants bonds in every step."""
        out: dict[str, Rows] = {}
        for name, readout in self.readouts.items():
            found = readout.precompute(embedding, batch)  # type: ignore[operator]
            if found is None:
                return None
            out |= {f"{name}.{key}": rows for key, rows in found.items()}
        return out

    def explain(self, embedding: Embedding, batch: CrystalBatch) -> LatticeResponse | None:
        """Tell what the ionic readout tells of its part."""
        found: LatticeResponse | None = self.readouts["ionic"].explain(_own(embedding, "ionic"), batch)  # type: ignore[operator]
        return found

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3, 3): electronic, ionic, total."""
        return self.with_labels(embedding, batch)[0]

    def with_labels(self, embedding: Embedding, batch: CrystalBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, 3, 3), and what other labels the two readouts make."""
        parts: list[Tensor] = []
        labels: dict[str, Tensor] = {}
        for name, readout in self.readouts.items():
            made, beside = readout.with_labels(_own(embedding, name), batch)  # type: ignore[operator]
            parts.append(self.normalisers[name](made))
            labels |= beside
        return torch.stack([*parts, torch.stack(parts).sum(0)], dim=1), labels


def _own(embedding: Embedding, name: str) -> Embedding:
    """The embedding with what the readout of one part has precomputed."""
    if embedding.precomputed is None:
        return embedding
    own = {k.removeprefix(f"{name}."): v for k, v in embedding.precomputed.items() if k.startswith(f"{name}.")}
    return dataclasses.replace(embedding, precomputed=own)


def _choices(hypers: JointHypers, target: TensorTarget) -> dict[TensorTarget, Plugin]:
    named: dict[str, Any] = {"electronic": hypers.electronic, "ionic": hypers.ionic}
    return {part: named[part.name] for part in target.parts if part.name in named}
