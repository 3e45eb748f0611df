"""The base classes of plugins: Encoder, Readout, Dataset."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from e3nn import o3
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure
from torch import Tensor, nn

from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Features, Rows
from zoo.contract.lattice_response import LatticeResponse
from zoo.contract.references import Citable
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.storage.weights import PublicWeights, Weights


class Hypers(BaseModel):
    """Hyperparameters of a plugin: every field has a type, a default and, below it, a docstring of one line.

    They are what a recipe may say beside the plugin's name; anything else is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Provides:
    """Irreps that an encoder gives for given hyperparameters, known before any weight is read.

    Attributes:
        atoms: irreps of the atom features.
        bonds: irreps of the bond features, None where it makes none.
        energy: whether the encoder is an interatomic potential, so that `Encoder.energy` can be called.
    """

    atoms: o3.Irreps
    bonds: o3.Irreps | None = None
    energy: bool = False


@dataclass(frozen=True)
class Needs:
    """Irreps that a readout requires of an embedding.

    Attributes:
        atoms: irreps of which at least one channel must be among the atom features, e.g. `("0e", "1o", "2e")`.
        bonds: the same for the bond features; empty where bonds are not read.
        force_constants: `CrystalBatch.force_constants` must be there: the core computes them from a potential.
    """

    atoms: tuple[str, ...] = ()
    bonds: tuple[str, ...] = ()
    force_constants: bool = False

    def unmet_by(self, provides: Provides) -> str | None:
        """Why an encoder does not fit, in words, or None where it fits."""
        for what, wanted, given in (("atom", self.atoms, provides.atoms), ("bond", self.bonds, provides.bonds)):
            if wanted and given is None:
                return f"needs {what} features, the encoder makes none"
            present = {ir for _, ir in o3.Irreps(given)} if given is not None else set()
            missing = [irrep for irrep in wanted if o3.Irrep(irrep) not in present]
            if missing:
                return f"needs {what} features of {'+'.join(missing)}, the encoder gives {given}"
        if self.force_constants and not provides.energy:
            return "needs force constants, the encoder has no energy: force_constants.potential names one that has"
        return None


class Encoder(Citable, nn.Module, ABC):
    """Crystal -> equivariant features of atoms and bonds.

    Class attributes:
        pretrained: the weights come trained. Unless a recipe fine-tunes it (`encoder.trainable: true`), such an encoder
            is frozen by the core: its parameters take no gradient, it stays in eval mode, and its embeddings are
            computed once and cached.
        bonds_from_geometry: the bond features follow from the edge vectors alone and are cheap: `bonds` makes
            them anew from the graph, and only the atom features are cached.
        energy_is_chiral: the energy of a crystal and that of its inverted image may differ (a network that was trained
            without parity); force constants are those of the mean of the two, `even_energy`.
        public_weights: published files of weights that `zoo convert` knows, by the name that a recipe gives them.
        citation: BibTeX of its publications (`zoo.contract.references.Citable`).

    Attributes:
        hypers: the hyperparameters.
        cutoff: Å; the graph holds all edges up to it.
    """

    Hypers: ClassVar[type[Hypers]]
    pretrained: ClassVar[bool] = False
    bonds_from_geometry: ClassVar[bool] = False
    energy_is_chiral: ClassVar[bool] = False
    public_weights: ClassVar[Mapping[str, PublicWeights]] = {}

    cutoff: float

    def __init__(self, hypers: Any) -> None:
        super().__init__()
        self.hypers = hypers

    @classmethod
    @abstractmethod
    def provides(cls, hypers: Any) -> Provides:
        """Return the irreps of the output, without weights or the plugin's extra: `zoo compat` is instant."""

    @classmethod
    def convert(cls, source: Path) -> Weights:
        """The weights in a file that another package wrote, for `zoo convert`. It executes nothing of the file.

        Raises:
            ZooError: the file is not of a model that this encoder can run, or the encoder converts nothing.
        """
        raise ZooError(f"the encoder {cls.__name__} has nothing to convert")

    @classmethod
    def layers(cls, hypers: Any) -> int:
        """The number of interaction layers that there are to expose (L_1 .. L_n)."""
        return 1

    @classmethod
    def missing(cls, hypers: Any) -> str | None:
        """Say in one line what must be installed or fetched to build the encoder; None where all is there."""
        return None

    def elements(self) -> frozenset[int] | None:
        """Atomic numbers that the encoder knows; None where it knows all."""
        return None

    def fingerprint(self) -> str:
        """Identifies what a pretrained encoder computes, weights and layer included: the key of its cache.

        Raises:
            TypeError: the encoder is not pretrained; what it computes changes while it trains.
        """
        raise TypeError(f"{type(self).__name__} is not pretrained: it has no fingerprint")

    def bonds(self, batch: CrystalBatch) -> Features | None:
        """Bond features from the geometry alone (see `bonds_from_geometry`)."""
        return None

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV, the potential energy of each crystal, differentiable twice by positions and strain.

        To be overridden by an encoder that `provides` an energy. Forces and stress are `zoo.api.forces_and_stress`.
        """
        raise TypeError(f"{type(self).__name__} has no energy")

    def atomic_energies(self, batch: CrystalBatch) -> Tensor | None:
        """(N,) eV, the energy of each atom, whose sums are `energy`; None where the energy is no sum over atoms.

        To be overridden where it is: another potential learns faster from these than from the sums alone.
        """
        return None

    def even_energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV, the mean of the energies of each crystal and of its inverted image: invariant under all of O(3).

        To be overridden where an encoder whose `energy_is_chiral` has both at less than the cost of two.
        """
        own = self.energy(batch)
        if not self.energy_is_chiral:
            return own
        image = dataclasses.replace(batch, positions=-batch.positions, cell=-batch.cell)
        return 0.5 * (own + self.energy(image))

    def energy_fingerprint(self) -> str:
        """Identifies the energy, whatever layers the encoder exposes: the key of cached force constants."""
        return self.fingerprint()

    @abstractmethod
    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the N atoms and E edges, with the irreps that `provides` promised."""


class Readout(Citable, nn.Module, ABC):
    """Features -> tensor.

    Class attributes:
        needs: what it wants of an embedding.
        needs_grad: it differentiates with respect to what `prepare` puts in: callers run it with grad enabled, and
            the encoder's embedding cannot come from the cache.
        normalise: the model scales and shifts what it makes by the training set's statistics; False where the
            readout itself makes the physical scale.
        also_makes: other labels that `with_labels` gives beside the tensor: `born`, `band_gap`.
        explains: `explain` gives the Born charges and force constants of which the ionic tensor is made.
        violates: what a method of the literature gets wrong: name of a check of `zoo.testing.ConformanceTests`
            (`supercell`, ...) -> the reason, in a few words. Those tests are strict expected failures, and `zoo compat`
            says so. Empty for a method that one can use.
        citation: BibTeX of its publications (`zoo.contract.references.Citable`).
    """

    Hypers: ClassVar[type[Hypers]]
    needs: ClassVar[Needs] = Needs()
    needs_grad: ClassVar[bool] = False
    normalise: ClassVar[bool] = True
    also_makes: ClassVar[tuple[str, ...]] = ()
    explains: ClassVar[bool] = False
    violates: ClassVar[Mapping[str, str]] = {}

    def __init__(self, hypers: Any, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__()
        self.hypers = hypers
        self.cutoff = cutoff
        self.target = target

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Why this readout cannot make the target, in words; None where it can."""
        return None

    @classmethod
    def unmet(cls, provides: Provides, target: TensorTarget) -> str | None:
        """Why this readout cannot make the target of an encoder's features, in words; None where it can.

        To be overridden where neither alone says it: a tensor that can be made of some features and not of others.
        """
        return cls.needs.unmet_by(provides) or cls.cannot_make(target)

    @classmethod
    def unmet_with(cls, hypers: Any, provides: Provides, target: TensorTarget) -> str | None:
        """The same with these hyperparameters: to be overridden where it depends on them."""
        return cls.unmet(provides, target)

    def fit(self, tensors: Tensor) -> None:
        """Take statistics of the training tensors, (n, *target.shape), before the training, if it wants any."""

    def prepare(self, batch: CrystalBatch) -> CrystalBatch:
        """The batch as the encoder shall see it: itself, or with a strain to differentiate by."""
        return batch

    def precompute(self, embedding: Embedding, batch: CrystalBatch) -> Mapping[str, Rows] | None:
        """Compute the part of `forward` that depends on bonds and geometry but on no parameter.

        For a frozen encoder it is asked once for each crystal, not in every step; `forward` then finds the answer in
        `embedding.precomputed`, in the place of the bond features. Elsewhere (an encoder that learns, a prediction)
        `forward` gets the bond features. None: it wants these in every step, the default where it `needs` some.
        """
        return None if self.needs.bonds else {}

    def explain(self, embedding: Embedding, batch: CrystalBatch) -> LatticeResponse | None:
        """Born charges and force constants of which the ionic tensor that `forward` gives is made, float64.

        To be overridden by a readout that goes through them, `explains` and does not `normalise`; of a joint target
        they are those of the part `ionic`. Callers run it in eval mode and without grad. None: it has none.
        """
        return None

    def with_labels(self, embedding: Embedding, batch: CrystalBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """`forward`'s tensor and, by name, the other labels on the way to it: `also_makes` says which.

        `born`: Born charges, (N, 3, 3), e, indices field and displacement. `band_gap`: (B,), eV. In training each is
        compared with the labels that there are.
        """
        return self(embedding, batch), {}

    @abstractmethod
    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, *target.shape), or (N, *target.shape) per atom, in the Cartesian frame of `batch.cell`."""


@dataclass(frozen=True)
class Record:
    """One crystal of a dataset.

    Attributes:
        key: unique within the dataset.
        structure: pymatgen Structure; its Cartesian frame is that of the tensors.
        targets: name -> array (*target.shape), or (n_atoms, *target.shape) per atom, where an atom without a label has
            NaN in all its components.
        properties: what else is known: `band_gap` (eV), `space_group` (number), `mp_id` (mp-149), `source`, ...
        functional: the level of theory that gave the targets: PBE, PBE+U, PBEsol, ...
        force_constants: (3N, 3N) Φ at Γ, eV/Å², row 3κ+α for atom κ and direction α; None where there are none.
        means: name of a 3×3 target -> a third of its trace, where that alone is known.
        left_out: name of a label (a target or `force_constants`) that the source has and the record has not -> why.
    """

    key: str
    structure: Structure
    targets: Mapping[str, np.ndarray]
    properties: Mapping[str, Any] = field(default_factory=dict)
    functional: str = "unknown"
    force_constants: np.ndarray | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)


class BadRecord(Exception):
    """A record that cannot be read: yielded by `Dataset.records` in the record's place.

    The run stops at it or, with `on_bad_record: skip`, counts and lists it.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class Dataset(Citable, ABC):
    """A source of crystals and tensors. It only reads: cleaning, deduplication and splits are the core's.

    Class attributes:
        licence: of the data, and whom to cite.
        citation: BibTeX of the same (`zoo.contract.references.Citable`).
    """

    Hypers: ClassVar[type[Hypers]]
    licence: ClassVar[str] = "not stated"

    def __init__(self, hypers: Any) -> None:
        self.hypers = hypers

    def fetch(self) -> Path | None:
        """Download what is not here yet, for `zoo data fetch`; None where nothing has to be downloaded."""
        return None

    def fingerprint(self) -> str | None:
        """Identifies, beside the hyperparameters, what `records` yields: a hash of the files that it reads, say.

        With one, the records are read once and kept in the cache until it changes. None: they are read in every run.

        Raises:
            ZooError: the files cannot be had, or read.
        """
        return None

    @abstractmethod
    def targets(self) -> Mapping[str, TensorTarget]:
        """The tensor properties that the records may hold, by name."""

    @abstractmethod
    def records(self) -> Iterator[Record | BadRecord]:
        """All records, in a fixed order; what cannot be read comes as a `BadRecord` in its place."""
