"""Settings of the data in a recipe. Nothing heavy is imported here: recipes are read before torch is imported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Cleaning(BaseModel):
    """Range that every element of a tensor must lie in."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min: float = -10.0
    """Smallest element, of the total tensor where the dataset has one, else of the target; in the target's unit."""
    max: float = 100.0
    """Largest element, likewise."""

    @model_validator(mode="after")
    def _ordered(self) -> Cleaning:
        if self.min >= self.max:
            raise ValueError("min must be less than max")
        return self


class FrameCheck(BaseModel):
    """Check that each tensor is invariant under the point group of its own structure."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tolerance: float = Field(default=0.05, gt=0)
    """Largest relative residual, max ‖R·T - T‖ / ‖T‖ over the operations R of the point group."""
    drop: bool = False
    """Leave offenders out; false: they are reported and used."""
    symprec: float = Field(default=0.01, gt=0)
    """Tolerance of the symmetry search, Å. A loose one finds symmetry in distorted crystals that their tensors lack."""


class Splitting(BaseModel):
    """Split of the records into training, validation and test part."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Literal["random", "formula", "file"] = "random"
    """random: as in the DTNet paper; formula: one reduced formula stays in one part, so that polymorphs do not leak;
    file: validation and test part as in `path`; all other records, new ones included, are the training part."""
    path: str | None = None
    """Split of an earlier run for `kind: file` (seed_K/split.json in its folder)."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of the test part."""
    val: float = Field(default=0.1, gt=0, lt=1)
    """Share of the validation part."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Seed of the split; null: the seed of the training, so that each seed has its own split."""
    train: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] | None = None
    """Number (an integer) or share (0.5, 1.0) of the crystals of the training part that are used, for a learning
    curve: validation and test part stay the same, and a smaller set is part of a larger one. null: all."""

    @model_validator(mode="after")
    def _something_left(self) -> Splitting:
        if self.test + self.val >= 1:
            raise ValueError("test and val together must be less than 1")
        if (self.kind == "file") != (self.path is not None):
            raise ValueError("kind: file and path go together")
        return self
