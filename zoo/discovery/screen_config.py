"""The recipe of a screening: which candidates, what to leave out, what to make large, how to choose."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveInt, field_validator, model_validator
from pymatgen.core import Element

from zoo.config import recipe
from zoo.config.recipe import Plugin, Section


class MaterialsProject(Section):
    """Query for crystals of the Materials Project, without deprecated ones; `filters` are applied after it."""

    chemsys: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Chemical systems to include, `*` for any element: [Ba-Ti-O, Sr-*-O]; null: all."""
    elements: tuple[str, ...] = ()
    """With all of these."""
    without: tuple[str, ...] = ()
    """With none of these."""
    max_atoms: PositiveInt | None = 20
    """In the cell; null: any number."""
    max_energy_above_hull: NonNegativeFloat | None = 0.0
    """eV/atom; null: any."""
    min_band_gap: NonNegativeFloat | None = 2.0
    """eV; null: any."""
    experimental: bool = False
    """Only crystals that are known from experiments."""

    @field_validator("chemsys", "elements", "without")
    @classmethod
    def _known(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for symbol in (symbol for one in given or () for symbol in one.split("-")):
            if symbol != "*" and not Element.is_valid_symbol(symbol):
                raise ValueError(f"'{symbol}' is no chemical element")
        return given


class CandidateSource(Section):
    """Source of the candidates: one of the three."""

    path: str | None = None
    """A folder of files of crystals (to its depths), or a file of many: JSON, extxyz, .traj, .db, CSV, Parquet, ..."""
    dataset: Plugin | None = None
    """A dataset plugin by name, its settings beside it; its tensors are not looked at."""
    materials_project: MaterialsProject | None = None
    """A query; it needs the extra [mp], and your key in MP_API_KEY."""

    @model_validator(mode="after")
    def _one(self) -> CandidateSource:
        if [self.path, self.dataset, self.materials_project].count(None) != 2:
            raise ValueError("candidates come from one of path, dataset and materials_project")
        return self


class Filters(Section):
    """Filters before prediction. A candidate is not left out for a property that is not known of it."""

    max_atoms: PositiveInt | None = 20
    """In the cell; null: any number."""
    elements: tuple[str, ...] | None = None
    """Only crystals of these; null: of all that the encoder knows."""
    without: tuple[str, ...] = ()
    """No crystals with any of these."""
    max_energy_above_hull: NonNegativeFloat | None = 0.0
    """eV/atom, of the property `energy_above_hull`; null: any."""
    min_band_gap: NonNegativeFloat | None = 2.0
    """eV, of the property `band_gap`, by PBE some half of the true one; null: any."""
    unseen: bool = True
    """Leave out crystals that the model has seen in its training or validation part, by their keys."""
    non_molecular: bool | None = None
    """Choose no molecular crystals; null: where the objective wants it so."""

    @field_validator("elements", "without")
    @classmethod
    def _known(cls, symbols: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for symbol in symbols or ():
            if not Element.is_valid_symbol(symbol):
                raise ValueError(f"'{symbol}' is no chemical element")
        return symbols


class Workers(Section):
    """Who works: this machine, or a Ray cluster."""

    kind: Literal["local", "ray"] = "local"
    """ray: processes of a Ray cluster, which may be on many machines; needs the extra [ray]."""
    count: PositiveInt = 1
    """Calculations at the same time; with ray, models that predict at the same time as well."""
    address: str | None = None
    """HOST:PORT of the Ray cluster; null: what RAY_ADDRESS says, else one is started on this machine alone."""

    @model_validator(mode="after")
    def _of_ray(self) -> Workers:
        if self.address is not None and self.kind != "ray":
            raise ValueError("address is that of a Ray cluster: set workers.kind to ray")
        return self


class Search(Section):
    """Settings that screening and discovery share: candidates, filters, and how to choose.

    Attributes:
        MAY_CHANGE: keys that may be others when the work is resumed.
    """

    MAY_CHANGE: ClassVar[tuple[str, ...]] = ("description", "device", "chunk", "workers")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the folder."""
    description: str = ""
    """One line for `zoo recipes`."""
    candidates: CandidateSource
    filters: Filters = Filters()
    objective: Plugin = Plugin(name="polycrystalline")
    """Objective to maximise (`zoo list`)."""
    part: str | None = None
    """Tensor that the objective is of, where the model predicts several (electronic, ionic, total); null: the last."""
    acquisition: Plugin = Plugin(name="ucb")
    """Acquisition function that scores the candidates (`zoo list`)."""
    top: PositiveInt = 20
    """So many are chosen."""
    chunk: PositiveInt = 256
    """Crystals predicted, and written down, at a time: what is in memory, and what a kill can lose."""
    seed: int = 0
    """Seed of random draws."""
    device: str = "auto"
    """auto (cuda, then mps, then cpu), or a torch device."""
    workers: Workers = Workers()
    """Who works."""

    @property
    def aim(self) -> str:
        """The objective in words, with the part that it is of where the recipe says one."""
        return f"{self.objective.name} of {self.part}" if self.part else self.objective.name

    @property
    def plugins(self) -> dict[str, str]:
        """Kind -> name."""
        return {"objective": self.objective.name, "acquisition": self.acquisition.name}

    @property
    def content(self) -> dict[str, Any]:
        """Every key with its value, ready for JSON."""
        return self.model_dump(mode="json")

    @property
    def fixed(self) -> dict[str, Any]:
        """The keys that must be the same when the work is resumed, with their values."""
        return {key: value for key, value in self.content.items() if key not in self.MAY_CHANGE}

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True)


class Screen(Search):
    """All that fixes a screening."""

    MAY_CHANGE = (*Search.MAY_CHANGE, "model")  # which is known by its fingerprint
    objective: Plugin = Plugin.model_validate({"name": "figure-of-merit", "assumed_gap": 2.0})
    """Objective to maximise (`zoo list`)."""
    model: str
    """A run folder, a registered model (its champion), or an MLflow URI; some acquisitions need an ensemble."""
    best: FiniteFloat | None = None
    """The highest objective so far, for acquisitions that need it; null: that of the model's training crystals."""


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Screen:
    """A screening from a file or by name, with `key.key=value` overrides (values are YAML).

    Raises:
        ZooError: no such recipe, one for a training, no YAML, an unknown key, a bad value.
    """
    content, where = recipe.read_content(name_or_path, overrides)
    recipe.refuse_other_kind(content, "screen", name_or_path)
    recipe.make_path_absolute(content, "model")
    recipe.make_path_absolute(content.get("candidates"))
    return parse(content, where)


def parse(content: dict[str, Any], where: str) -> Screen:
    """A screening from a mapping.

    Raises:
        ZooError: an unknown key or a bad value.
    """
    return recipe.checked(Screen, content, where)
