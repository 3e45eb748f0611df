"""A run in MLflow has a headline metric for each tensor, some twenty metrics in all, parameters and inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.config import recipe
from zoo.storage.run_folder import RunFolder, write_json
from zoo.tracking.run_inputs import inputs_of_run, inputs_of_seed
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


def test_inputs_of_a_run_with_auxiliary_sources(small: dict[str, Any], tmp_path: Path) -> None:
    """The parts of the split under the dataset's name, each source under its own, a file under the file's."""
    small["auxiliary"] = [{"name": "file", "path": "/data/mine.json", "targets": {"total": {}}}, {"name": "dtnet-mp"}]
    folder, config = RunFolder(tmp_path), recipe.parse(small, "small")
    datasets = [{"key": f"key {n}", "licence": f"licence {n}", "crystals": 10 + n} for n in range(3)]
    write_json(folder.provenance, {"data": "whole", "plugins": {}, "datasets": datasets})
    write_json(folder.path / "data_report.json", {"used": 10, "counts": {"clean": 2, "frame": 0}})
    for seed, order in ((0, "ABCD"), (1, "BACD"), (2, "ABDC")):
        train, val, test = list(order[:2]), [order[2]], [order[3]]
        write_json(folder.seed(seed).split, {"seed": seed, "train": train, "val": val, "test": test})
    found = inputs_of_seed(folder, config, 0)
    names = ["petousis2017"] * 3 + ["mine.json", "dtnet-mp"]
    assert [one.dataset.name for one in found] == names
    assert [one.tags[0].value for one in found] == ["train", "validation", "test", "train", "train"]
    profiles = [json.loads(one.dataset.profile) for one in found]
    assert [one["num_rows"] for one in profiles] == [2, 1, 1, 11, 12]
    assert profiles[0]["left_out_clean"] == 2 and "left_out_frame" not in profiles[0]
    assert json.loads(found[3].dataset.source) == {"uri": "/data/mine.json"}
    digests = [[one.dataset.digest for one in inputs_of_seed(folder, config, seed)] for seed in range(3)]
    assert digests[1] == digests[0], "the order of the keys does not matter"
    assert digests[2][0] == digests[0][0] and digests[2][1:3] == [*reversed(digests[0][1:3])]
    several = recipe.parse({**small, "seeds": [0, 1]}, "small")
    assert [one.tags[0].value for one in inputs_of_run(folder, several)] == ["all", "train", "train"]


def test_inputs_of_a_run_of_before_its_datasets_were_written_down(small: dict[str, Any], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.provenance, {"data": "whole", "plugins": {"dataset": "petousis2017 (crystal-tensor-zoo 0.1.0)"}})
    write_json(folder.path / "data_report.json", {"used": 3, "counts": {}})
    write_json(folder.seed(0).split, {"seed": 0, "train": ["A"], "val": ["B"], "test": ["C"]})
    found = inputs_of_seed(folder, recipe.parse(small, "small"), 0)
    assert len({one.dataset.digest for one in found}) == 3
    assert "petousis2017 (crystal-tensor-zoo 0.1.0)" in found[0].dataset.source
