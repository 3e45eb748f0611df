"""The recipe of a pretraining: which encoder, which labelled crystals, which loss, how it is trained."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from zoo.config import recipe
from zoo.config.dataset_settings import Splitting
from zoo.config.sections import Data, Graph, Optimisation, Plugin, Section, Tracking

LABELS = ("energy", "atomic_energies", "forces", "stress", "force_constants")
"""Labels that a crystal may have, as recipes name them."""


class Source(Plugin):
    """A source of labelled crystals: `file` with its `path`, or a dataset whose records hold force constants."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the source's training crystals in an epoch, drawn anew in each."""


class HeldOut(Section):
    """Crystals of another dataset, on which models will be tested, whose twins must not be trained on."""

    dataset: Plugin
    """The dataset, its settings beside its name."""
    target: str = "total"
    """Tensor of the recipes whose splits are meant."""
    data: Data = Data()
    split: Splitting = Splitting()
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0,), min_length=1)
    """Seeds of these recipes: no twin of the validation or test part of any of them is trained on."""


class Loss(Section):
    """Weights of the mean errors of each label in the loss, and how force constants are compared."""

    energy: NonNegativeFloat = 0.0
    """Weight of the error of the energy, per eV an atom; 0: energies are not used."""
    atomic_energies: NonNegativeFloat = 0.0
    """Weight of the error of an atom's energy, per eV; 0: they are not used. Only another potential can tell them."""
    forces: NonNegativeFloat = 0.0
    """Weight of the error of a component of a force, per eV/Å; 0: forces are not used."""
    stress: NonNegativeFloat = 0.0
    """Weight of the error of a component of the stress, per eV/Å³; 0: stresses are not used."""
    force_constants: NonNegativeFloat = 0.0
    """Weight of the error of a component of Φv, per eV/Å²; 0: force constants are not used."""
    kind: Literal["l1", "huber"] = "l1"
    """l1: absolute errors; huber: quadratic below `delta`, absolute above it."""
    delta: PositiveFloat = 0.01
    """Error from which on Huber's is linear, in the unit of each label."""
    softness: PositiveFloat = 1.0
    """s in eV/Å²: v holds a mode of stiffness λ with a weight of (|λ| + s)^(-1/2)."""
    step: PositiveFloat = 0.01
    """Å, the displacement along v by which forces are differenced; |v|² is the number of atoms."""

    @model_validator(mode="after")
    def _something(self) -> Loss:
        if not self.used:
            raise ValueError("all weights are 0: name one of " + ", ".join(LABELS))
        return self

    @property
    def used(self) -> dict[str, float]:
        """The labels of a weight above 0, and these."""
        return {name: weight for name in LABELS if (weight := float(getattr(self, name)))}


class PotentialTraining(Optimisation):
    """Training of a potential by AdamW with cosine annealing."""

    warm_up: NonNegativeInt = 0
    """Epochs over which the learning rate first rises linearly, before the cosine; part of max_epochs."""

    @model_validator(mode="after")
    def _some_left(self) -> PotentialTraining:
        if self.warm_up >= self.max_epochs:
            raise ValueError("warm_up must be less than max_epochs")
        return self


class Pretraining(Section):
    """All that fixes a pretraining.

    Attributes:
        MAY_CHANGE: keys that may be others when the work is resumed.
    """

    MAY_CHANGE: ClassVar[tuple[str, ...]] = ("description", "device", "tracking", "graph")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the folder and, with hyphens, of the registered model."""
    description: str = ""
    """One line for `zoo recipes`."""
    encoder: Plugin
    """Encoder: one that has an energy is tuned, all layers and its head; on any other an energy is put and trained."""
    width: PositiveInt = 64
    """Hidden channels of the energy that is put on an encoder that has none."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Sources of labelled crystals."""
    largest: PositiveInt | None = None
    """Atoms of the largest cell that is used; null: any."""
    limit: PositiveInt | None = None
    """Largest number of crystals of each source (the first of them), for a quick trial; null: all."""
    without_twins_of: HeldOut | None = None
    """Splits whose validation and test crystals must have no twin here; null: nothing is left out."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the validation part; all crystals of one reduced formula are in one part."""
    loss: Loss
    training: PotentialTraining = PotentialTraining()
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of training; force constants, which are differences, want float64. The weights are kept in float32."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the start, of the split, of the order of batches and of the v of force constants."""
    device: str = "auto"
    """auto (cuda, then mps, then cpu), or a torch device."""
    graph: Graph = Graph()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _fits(self) -> Pretraining:
        if self.dtype == "float64" and self.training.precision != "float32":
            raise ValueError("training.precision rounds float32: leave it out with dtype: float64")
        if self.training.batch_edges is not None and any(source.share < 1 for source in self.sources):
            raise ValueError("training.batch_edges takes all crystals: leave out the share of sources")
        return self

    @property
    def registered_name(self) -> str:
        """Name of the registered model."""
        return self.name.replace("_", "-")

    @property
    def plugins(self) -> dict[str, str]:
        """Kind -> name."""
        return {"encoder": self.encoder.name}

    @property
    def content(self) -> dict[str, Any]:
        """Every key with its value, ready for JSON; a tracking URI with a password is left out."""
        content = self.model_dump(mode="json")
        if self.tracking.uri is not None and "@" in self.tracking.uri:
            content["tracking"]["uri"] = None
        return content

    @property
    def fixed(self) -> dict[str, Any]:
        """The keys that must be the same when the work is resumed, with their values."""
        return {key: value for key, value in self.content.items() if key not in self.MAY_CHANGE}

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True)


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Pretraining:
    """A pretraining from a file or by name, with `key.key=value` overrides (values are YAML).

    Raises:
        ZooError: no such recipe, one for another command, no YAML, an unknown key, a bad value.
    """
    content, where = recipe.read_content(name_or_path, overrides)
    recipe.refuse_other_kind(content, "pretrain", where)
    recipe.make_path_absolute(content.get("sources"))
    recipe.make_path_absolute(content.get("without_twins_of"))
    return parse(content, where)


def parse(content: dict[str, Any], where: str) -> Pretraining:
    """A pretraining from a mapping.

    Raises:
        ZooError: an unknown key or a bad value.
    """
    return recipe.checked(Pretraining, content, where)
