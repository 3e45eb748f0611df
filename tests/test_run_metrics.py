"""Metrics that a run shows in MLflow: a headline for each tensor, and some twenty in all."""

from __future__ import annotations

from typing import Any

from zoo.config import recipe
from zoo.tracking.run_labels import LONGEST, params_of
from zoo.tracking.run_metrics import metrics_of_run, metrics_of_seed

NAMES = ("n", "mae_ten", "rmse_ten", "mae_diag", "frobenius", "frobenius_0e", "within_25", "within_10", "within_5")


def errors(error: float) -> dict[str, Any]:
    """Entries of metrics.json for one tensor, all of them `error`."""
    entry = {"mean": error, "std": 0.25, "each": [error, error]}
    held = {"0.5": {"covered": 0.5, "width": 1.0}, "0.9": {"covered": error / 10, "width": 2.0}}
    return {
        "val": dict.fromkeys(NAMES, entry),
        "test": dict.fromkeys(NAMES, entry),
        "test_mean_baseline": {name: {"mean": 2 * error, "std": None, "each": []} for name in NAMES},
        "ensemble_test": dict.fromkeys(NAMES, error / 2),
        "calibration": {"n": 100, "test": {"tensor": {"n": 100, "levels": held}}},
    }


def test_a_joint_run_has_its_errors_by_tensor() -> None:
    content = errors(4.0) | {"parts": {"electronic": errors(1.0), "ionic": errors(3.0)}}
    content["test_labels"] = {"born": {"mae": {"mean": 0.1}, "correlation": {"mean": 0.9}, "n": {"mean": 5}}}
    found = metrics_of_run(content)
    assert len(found) <= 25
    kinds = ("", "_baseline", "_ensemble", "_std")
    tens = [f"test_mae_ten{part}{kind}" for part in ("", "_electronic", "_ionic") for kind in kinds]
    assert {name for name in found if name.startswith("test_mae_ten")} == set(tens)
    assert (found["test_mae_ten"], found["test_mae_ten_electronic"], found["test_mae_ten_ionic"]) == (4, 1, 3)
    assert (found["test_mae_ten_baseline"], found["test_mae_ten_ionic_ensemble"]) == (8, 1.5)
    assert (found["test_coverage_90"], found["test_coverage_90_electronic"]) == (0.4, 0.1)
    assert (found["best_val_mae_ten_ionic"], found["test_mae_ten_std"], found["test_mae_born"]) == (3, 0.25, 0.1)
    assert not {"test_frobenius_electronic", "test_rmse_ten", "test_n"} & set(found)


def test_what_is_not_known_is_left_out() -> None:
    """No spread of one seed, no ensemble, no interval at a level that few crystals cannot resolve."""
    content = errors(4.0)
    content["test"] = {"mae_ten": {"mean": 4.0, "std": None, "each": [4.0]}}
    content["calibration"]["test"]["tensor"]["levels"].pop("0.9")
    del content["ensemble_test"]
    assert set(metrics_of_run(content)) == {"test_mae_ten", "test_mae_ten_baseline", "best_val_mae_ten"}


def test_a_seed_has_the_names_of_the_whole() -> None:
    def own(error: float) -> dict[str, Any]:
        all_crystals = {"all": dict.fromkeys(NAMES, error)}
        return {"val": all_crystals, "test": all_crystals, "test_mean_baseline": dict.fromkeys(NAMES, 2 * error)}

    found = metrics_of_seed(own(4.0) | {"parts": {"electronic": own(1.0)}})
    assert (found["test_mae_ten"], found["test_mae_ten_electronic"]) == (4, 1)
    whole = metrics_of_run(errors(4.0) | {"parts": {"electronic": errors(1.0)}})
    assert set(found) < set(whole)


def test_parameters_are_the_recipe_as_one_would_type_it(small: dict[str, Any]) -> None:
    small["encoder"] = {"name": "concatenated", "encoders": [{"name": "sevennet"}, {"name": "mace", "layer": [1, 2]}]}
    small["seeds"] = list(range(100))
    params = params_of(recipe.parse(small, "small"))
    assert list(params)[:2] == ["target", "encoder.name"]
    assert params["encoder.encoders.0.name"] == "sevennet" and params["encoder.encoders.1.layer"] == "[1, 2]"
    assert params["data.deduplicate"] == "true" and params["training.max_epochs"] == "3"
    assert "split.path" not in params and "tracking.experiment" not in params and "name" not in params
    assert len(params["seeds"]) == LONGEST and params["seeds"].endswith("…")
