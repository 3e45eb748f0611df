"""An encoder and a readout made into a model that can be tested: deterministic, in eval mode, in either precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from pymatgen.core import Element, Structure
from torch import Tensor, nn

from zoo.config import plugins
from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder, Provides, Readout
from zoo.contract.target import TensorTarget
from zoo.graphs.graph import CrystalGraph, collate, crystal_graph
from zoo.model.tensor_model import TensorModel
from zoo.phonons.force_constants import ForceConstants
from zoo.phonons.force_constants_store import padded
from zoo.testing.pair_potential import PairPotential, second_derivatives
from zoo.testing.prototypes import prototypes, varied
from zoo.training.batches import in_precision_of


@dataclass(frozen=True)
class Pair:
    """An encoder, a readout and a target: what the conformance suite tests.

    Attributes:
        encoder: a class or the name of a registered one (an author of readouts takes `nequip`).
        readout: a class or the name of a registered one.
        encoder_hypers: what a recipe would say beside the encoder's name; small values keep the suite quick.
        readout_hypers: the same for the readout.
        target: what the readout makes.
        without_gradient: patterns (as of `fnmatch`) of the parameters that have no gradient by design, named as in
            `model.learned()`: `encoder.layers.3.*`. Each needs a reason where it is written down.
        potential: class or name of the encoder whose energy gives a readout its force constants, as exact second
            derivatives, where it needs some. The default is as good as any for what is checked, and quick.
        potential_hypers: what a recipe would say beside its name.
    """

    encoder: type[Encoder] | str
    readout: type[Readout] | str
    encoder_hypers: Mapping[str, Any] = field(default_factory=dict)
    readout_hypers: Mapping[str, Any] = field(default_factory=dict)
    target: TensorTarget = field(default_factory=lambda: TensorTarget("tensor"))
    without_gradient: tuple[str, ...] = ()
    potential: type[Encoder] | str = PairPotential
    potential_hypers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encoder_class(self) -> type[Encoder]:
        """The encoder, loaded where it was named."""
        return plugins.load("encoder", self.encoder) if isinstance(self.encoder, str) else self.encoder

    @property
    def readout_class(self) -> type[Readout]:
        """The readout, loaded where it was named."""
        return plugins.load("readout", self.readout) if isinstance(self.readout, str) else self.readout

    @property
    def provides(self) -> Provides:
        """Return the irreps that the encoder promises; force constants are there, whether it has an energy or not."""
        return dataclasses.replace(self.encoder_class.provides(self._encoder_hypers()), energy=True)

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0, encoder: Encoder | None = None) -> TensorModel:
        """A new model in eval mode, with a new encoder unless one is given.

        Trainable parameters are drawn at random and then moved a little, so that what an author starts at zero counts
        too. It is built with `dtype` as the default one: constants of e3nn are rounded to that.
        """
        encoder_type, readout_type = self.encoder_class, self.readout_class
        with torch.random.fork_rng(devices=[]), default_dtype(dtype):
            encoder = encoder if encoder is not None else _built(encoder_type, self._encoder_hypers(), seed)
            torch.manual_seed(seed)
            readout_hypers = readout_type.Hypers(**self.readout_hypers)
            readout = readout_type(readout_hypers, self.provides, encoder.cutoff, self.target)
            shake(readout)
            return TensorModel(encoder, readout, self.target).to(dtype).eval()

    def _encoder_hypers(self) -> Any:
        return self.encoder_class.Hypers(**self.encoder_hypers)

    @cached_property
    def model(self) -> TensorModel:
        """The float64 model that the checks share. They leave it as it is."""
        return self.build(encoder=_shared(self.encoder_class, self._encoder_hypers(), torch.float64))

    @cached_property
    def single(self) -> TensorModel:
        """The same weights in float32."""
        model = self.build(torch.float32, encoder=_shared(self.encoder_class, self._encoder_hypers(), torch.float32))
        model.learned().load_state_dict(self.model.learned().state_dict())
        return model

    @cached_property
    def of_prototypes(self) -> Tensor:
        """The tensors of all 32 prototypes, in their order: for the checks that compare them with something else."""
        return self.predict([p.structure for p in prototypes().values()])

    @cached_property
    def of_varied(self) -> Tensor:
        """The tensors of `varied()`, likewise."""
        return self.predict(varied())

    @cached_property
    def triclinic(self) -> Tensor:
        """The tensor of the triclinic prototype: a scale of what is anisotropic."""
        return self.predict([prototypes()["1"].structure])

    def batch(self, structures: Sequence[Structure], dtype: torch.dtype = torch.float64) -> CrystalBatch:
        """Graphs up to the encoder's cutoff, and the force constants if the readout needs some, of the atoms as given.

        Elements that the encoder or the potential does not know are exchanged for some that it does.
        """
        known = self.model.encoder.elements()
        if not self.model.readout.needs.force_constants:
            return collate([_graph(_with(s, known), self.model.encoder.cutoff) for s in structures], dtype)
        potential, key = self._potential
        others = potential.elements()
        if others is not None:
            known = others if known is None else known & others
        structures = [_with(s, known) for s in structures]
        batch = collate([_graph(s, self.model.encoder.cutoff) for s in structures], dtype)
        constants = padded(_force_constants(potential, key, structures))
        # In the precision of the positions, as a run has them.
        return dataclasses.replace(batch, force_constants=constants.each(in_precision_of(batch.positions)))

    @cached_property
    def _potential(self) -> tuple[Encoder, str]:
        """The potential, in float64, and what tells it from others."""
        kind = plugins.load("encoder", self.potential) if isinstance(self.potential, str) else self.potential
        hypers = kind.Hypers(**self.potential_hypers)
        return _shared(kind, hypers, torch.float64), f"{kind.__module__}.{kind.__qualname__} {hypers!r}"

    def predict(self, structures: Sequence[Structure], dtype: torch.dtype = torch.float64) -> Tensor:
        """The tensors of some crystals, as one batch, float64: (B, *target.shape), or (N, ...) per atom."""
        model = self.model if dtype == torch.float64 else self.single
        with torch.set_grad_enabled(model.readout.needs_grad):
            return model(self.batch(structures, dtype)).detach().double()


def _built(encoder: type[Encoder], hypers: Any, seed: int) -> Encoder:
    torch.manual_seed(seed)
    made = encoder(hypers)
    if not encoder.pretrained:
        shake(made)
    return made


_SHARED: dict[tuple[type[Encoder], str, torch.dtype], Encoder] = {}


def _shared(encoder: type[Encoder], hypers: Any, dtype: torch.dtype) -> Encoder:
    """One encoder for all pairs that have it: building one can take longer than all that is checked with it."""
    key = (encoder, hypers.model_dump_json(), dtype)
    if key not in _SHARED:
        with torch.random.fork_rng(devices=[]), default_dtype(dtype):
            _SHARED[key] = _built(encoder, hypers, seed=0)
    return _SHARED[key]


_GRAPHS: dict[tuple[bytes, bytes, tuple[int, ...], float], CrystalGraph] = {}


def _graph(structure: Structure, cutoff: float) -> CrystalGraph:
    """The graph of a crystal. All pairs are asked about the same ones: those of this cutoff are known by content."""
    key = (structure.lattice.matrix.tobytes(), structure.frac_coords.tobytes(), structure.atomic_numbers, cutoff)
    if key not in _GRAPHS:
        _GRAPHS[key] = crystal_graph(structure, cutoff)
    return _GRAPHS[key]


_CONSTANTS: dict[tuple[str, bytes, bytes, tuple[int, ...]], ForceConstants] = {}


def _force_constants(potential: Encoder, key: str, structures: Sequence[Structure]) -> list[ForceConstants]:
    """Exact force constants; those of the crystals that all pairs are asked about are known by content."""
    keys = [(key, s.lattice.matrix.tobytes(), s.frac_coords.tobytes(), s.atomic_numbers) for s in structures]
    new = {k: s for k, s in zip(keys, structures, strict=True) if k not in _CONSTANTS}
    if new:
        batch = collate([_graph(s, potential.cutoff) for s in new.values()], torch.float64)
        _CONSTANTS.update(zip(new, second_derivatives(potential, batch), strict=True))
    return [_CONSTANTS[k] for k in keys]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """torch's default dtype, for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def shake(parts: nn.Module) -> None:
    """Move every parameter a little, in proportion to its size, so that none stays at an initial zero."""
    for parameter in parts.parameters():
        size = parameter.abs().mean().item() if parameter.numel() else 0.0
        parameter.add_(torch.randn_like(parameter), alpha=0.3 * (size if size > 0 else 0.1))


def _with(structure: Structure, known: frozenset[int] | None) -> Structure:
    """The structure with such elements as the encoder knows in the place of those that it does not."""
    unknown = [z for z in dict.fromkeys(structure.atomic_numbers) if known is not None and z not in known]
    if known is None or not unknown:
        return structure
    spare = sorted(known - set(structure.atomic_numbers)) or sorted(known)
    swap = {z: spare[i % len(spare)] for i, z in enumerate(unknown)}
    species = [Element.from_Z(swap.get(z, z)) for z in structure.atomic_numbers]
    return Structure(structure.lattice, species, structure.frac_coords, to_unit_cell=False)
