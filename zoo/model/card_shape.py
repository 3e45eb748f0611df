"""Types of what a `model.json` holds beside the recipe: others read them unchecked."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from zoo.errors import ZooError, explain_validation


class _Part(BaseModel):
    """Strict, since what is checked is afterwards used as it was read, and not as pydantic would convert it."""

    model_config = ConfigDict(strict=True)


class _Member(_Part):
    seed: int
    split_seed: int | None
    val_mae_ten: float | None


class _Mean(_Part):
    mean: float | None = None


class _Level(_Part):
    covered: float | None = None


class _Quantity(_Part):
    levels: dict[str, _Level] = {}


class _Calibration(_Part):
    test: dict[str, _Quantity] = {}


class _Metrics(_Part):
    n_train: int | list[int] | None = None
    n_test: int | list[int] | None = None
    test: dict[str, _Mean] = {}
    ensemble_test: dict[str, float | None] | None = None
    calibration: _Calibration | None = None


class _Target(_Part):
    name: str
    formula: str = ""
    unit: str = ""
    intensive: bool = True
    per_atom: bool = False
    quantity: str = ""
    parts: list[_Target] = []


class _Scale(_Part):
    floor: float
    quantiles: dict[str, float]


class _Intervals(_Part):
    n: int
    scales: dict[str, _Scale]


class _Shape(_Part):
    target: _Target
    calibration: _Intervals | None = None
    calibrations: dict[str, _Intervals] = {}
    members: list[_Member]
    elements: list[int]
    seen: list[str]
    encoder_fingerprint: str | None
    potential_fingerprint: str | None = None
    versions: dict[str, str]
    metrics: _Metrics


def require_shape(content: dict[str, Any], where: str) -> None:
    """Check that the parts of a card that are shown or compared have the types that the zoo writes.

    Raises:
        ZooError: one has not; the line begins with `where`.
    """
    try:
        _Shape.model_validate(content)
    except ValidationError as error:
        raise ZooError(explain_validation(error, _Shape, f"{where} is damaged")) from None
