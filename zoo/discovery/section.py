"""The recipe of a screening: which candidates, what to leave out, what to make large, how to choose."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator, model_validator
from pymatgen.core import Element

from zoo import recipe
from zoo.errors import ZooError
from zoo.recipe import Plugin, Section


class CandidateSource(Section):
    """Where candidates come from: one of the two."""

    path: str | None = None
    """A folder of CIF and VASP files (looked through to its depths), or a JSON, extxyz, CSV or Parquet of many."""
    dataset: Plugin | None = None
    """A dataset plugin by name, its settings beside it; its tensors are not looked at."""

    @model_validator(mode="after")
    def _one(self) -> CandidateSource:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("candidates come from one of path and dataset")
        return self


class Filters(Section):
    """What is left out before anything is predicted. What is not known of a candidate does not leave it out."""

    max_atoms: PositiveInt | None = 20
    """In the cell; null: any number."""
    elements: tuple[str, ...] | None = None
    """Only crystals of these; null: of all that the encoder knows."""
    without: tuple[str, ...] = ()
    """No crystals with any of these."""
    max_energy_above_hull: NonNegativeFloat | None = 0.0
    """eV/atom, of the property `energy_above_hull`; null: any."""
    min_band_gap: NonNegativeFloat | None = 0.01
    """eV, of the property `band_gap`; null: any."""
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


class Screen(Section):
    """All that fixes a screening."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Of its folder."""
    description: str = ""
    """One line for `zoo recipes`."""
    model: str
    """A run folder, a registered model (its champion), or an MLflow URI; some acquisitions need an ensemble."""
    candidates: CandidateSource
    filters: Filters = Filters()
    objective: Plugin = Plugin(name="polycrystalline")
    """What to make large (`zoo list`)."""
    acquisition: Plugin = Plugin(name="ucb")
    """How to choose (`zoo list`)."""
    best: float | None = None
    """The highest objective so far, for acquisitions that need it; null: that of the model's training crystals."""
    top: PositiveInt = 20
    """So many are chosen."""
    chunk: PositiveInt = 256
    """Crystals predicted, and written down, at a time: what is in memory, and what a kill can lose."""
    seed: int = 0
    """Of what is drawn at random."""
    device: str = "auto"
    """auto (cuda, then mps, then cpu), or a torch device."""

    @property
    def plugins(self) -> dict[str, str]:
        """Kind -> name."""
        return {"objective": self.objective.name, "acquisition": self.acquisition.name}

    @property
    def content(self) -> dict[str, Any]:
        """Every key with its value, ready for JSON."""
        return self.model_dump(mode="json")

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True)


def read(name_or_path: str, overrides: tuple[str, ...] = ()) -> Screen:
    """A screening from a file or by name, with `key.key=value` overrides (values are YAML).

    Raises:
        ZooError: no such recipe, one for a training, no YAML, an unknown key, a bad value.
    """
    content, where = recipe.read_content(name_or_path, overrides)
    if "candidates" not in content and "readout" in content:
        raise ZooError(f"{where} trains a model, it screens nothing: zoo run {name_or_path}")
    recipe.make_path_absolute(content, "model")
    source = content.get("candidates")
    recipe.make_path_absolute(source)
    recipe.make_path_absolute(source.get("dataset") if isinstance(source, dict) else None)
    return parse(content, where)


def parse(content: dict[str, Any], where: str) -> Screen:
    """A screening from a mapping.

    Raises:
        ZooError: an unknown key or a bad value.
    """
    return recipe.checked(Screen, content, where)
