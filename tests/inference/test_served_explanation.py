"""A served model explains where it is asked to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from zoo.tracking.request_validation import BadRequest, Limits, checked
from zoo.tracking.served_model import EXAMPLE, Crystal, TensorService

pytestmark = pytest.mark.sevennet


def served(folder: Path) -> TensorService:
    service = TensorService()
    service.load_context(SimpleNamespace(artifacts={"model": str(folder)}, model_config={}))  # type: ignore[arg-type]
    return service


def test_an_answer_carries_modes_and_charges(joint_folder: Path) -> None:
    crystals = [Crystal.model_validate(EXAMPLE[0])]
    service = served(joint_folder)
    (answer,) = service.predict(crystals, {"explain": True})
    assert len(answer["explanation"]["born_charges"]) == 8
    (mode,) = answer["explanation"]["modes"]
    assert mode["degeneracy"] == 3 and mode["share"] == pytest.approx(1)
    (plain,) = service.predict(crystals, {"explain": False})
    assert "explanation" not in plain and plain["ionic"] == answer["ionic"]


def test_a_model_that_cannot_explain_refuses() -> None:
    folder = Path(__file__).parents[1] / "checkpoints" / "format_3"
    with pytest.raises(MlflowException, match="nothing to explain"):
        served(folder).predict([Crystal.model_validate(EXAMPLE[0])], {"explain": True})


@pytest.mark.parametrize("value", ["1", '"yes"', "null", "0.5"])
def test_the_option_is_true_or_false(value: str) -> None:
    with pytest.raises(BadRequest, match="neither true nor false"):
        checked(f'{{"inputs": [{{}}], "params": {{"explain": {value}}}}}'.encode(), "application/json", Limits())
    checked(b'{"inputs": [{}], "params": {"explain": true}}', "application/json", Limits())
