"""The trainer: it learns, a kill costs nothing, NaN is told, and a frozen encoder stays frozen."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from cli import accept

from zoo.config import recipe
from zoo.config.recipe import Recipe
from zoo.contract.target import TensorTarget
from zoo.data.petousis2017 import Petousis2017
from zoo.errors import ZooError
from zoo.model.tensor_model import Normaliser
from zoo.storage.run_folder import RunFolder, read_history, read_json
from zoo.training.mean_error import MeanError, component_errors, mae_of_components
from zoo.workflows.train import run, target_of


def train(small: dict, folder, on_epoch=None) -> dict:
    return run(recipe.parse(small, "small"), RunFolder(folder), lambda line: None, on_epoch)


def test_it_learns_what_it_is_shown(small: dict, tmp_path) -> None:
    small["training"] = {"max_epochs": 60, "batch_size": 8, "learning_rate": 0.01}
    small["readout"]["dropout"] = 0.0
    train(small, tmp_path / "run")
    history = read_history(RunFolder(tmp_path / "run").seed(0))
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]


class Killed(BaseException):
    """Stands for a kill of the process: a BaseException, which no handler of the trained code catches."""


def kill_at(epoch: int):
    """Told of every epoch by the trainer, before its checkpoint."""

    def kill(seed: int, row: dict) -> None:
        if row["epoch"] == epoch:
            raise Killed

    return kill


def test_a_folder_goes_on_with_its_own_recipe_only(small: dict, tmp_path) -> None:
    small["training"] |= {"max_epochs": 2}
    with pytest.raises(Killed):
        train(small, tmp_path / "run", kill_at(2))
    other = {**small, "training": {**small["training"], "learning_rate": 0.5}}
    with pytest.raises(ZooError, match=r"another recipe.*--out"):
        train(other, tmp_path / "run")
    # Tracking does not change what is trained; nor does it matter that an earlier zoo did not write every key.
    begun = RunFolder(tmp_path / "run").recipe
    lines = [line for line in begun.read_text().splitlines() if "weight_average:" not in line]
    begun.write_text("\n".join(lines))
    accept(begun)
    train({**small, "tracking": {"enabled": False, "experiment": "other"}}, tmp_path / "run")
    assert RunFolder(tmp_path / "run").finished


@pytest.mark.parametrize("average", [None, 0.1])
def test_a_kill_changes_nothing(small: dict, tmp_path, average: float | None) -> None:
    small["training"] |= {"max_epochs": 6, "weight_average": average}
    whole = train(small, tmp_path / "whole")

    with pytest.raises(Killed):
        train(small, tmp_path / "killed", kill_at(3))
    assert not RunFolder(tmp_path / "killed").finished
    resumed = train(small, tmp_path / "killed")
    assert resumed == whole
    a, b = (read_history(RunFolder(tmp_path / name).seed(0)) for name in ("whole", "killed"))
    assert a == b
    weights = [torch.load(tmp_path / n / "seed_0" / "best.pt", weights_only=True) for n in ("whole", "killed")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
@pytest.mark.extended
def test_a_kill_in_the_midst_of_a_checkpoint_changes_nothing(
    small: dict, tmp_path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The old checkpoint stays until the new one is whole."""
    small["training"] |= {"max_epochs": 4}
    whole = train(small, tmp_path / "whole")
    save, calls = torch.save, []

    def interrupted(content, target, *rest, **more) -> None:
        calls.append(target)
        if sum(1 for _ in calls) > 4 and (name == "best.pt") == ("optimizer" not in content):
            raise Killed
        save(content, target, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupted)
        with contextlib.suppress(Killed):
            train(small, tmp_path / "killed")
    assert (tmp_path / "killed" / "seed_0" / "last.pt").is_file()
    assert train(small, tmp_path / "killed") == whole


def test_a_torn_history_is_mended(small: dict, tmp_path) -> None:
    small["training"] |= {"max_epochs": 4}
    whole = train(small, tmp_path / "whole")

    with pytest.raises(Killed):
        train(small, tmp_path / "killed", kill_at(3))
    history = RunFolder(tmp_path / "killed").seed(0).history
    history.write_text(history.read_text()[:-20])
    assert train(small, tmp_path / "killed") == whole


def test_damaged_checkpoints_are_told(small: dict, tmp_path) -> None:
    with pytest.raises(Killed):
        train(small, tmp_path / "run", kill_at(2))
    (tmp_path / "run" / "seed_0" / "last.pt").write_bytes(b"nonsense")
    with pytest.raises(ZooError, match=r"last.pt is damaged.*seed_0"):
        train(small, tmp_path / "run")


def test_other_data_are_refused_at_a_resumption(small: dict, tmp_path, monkeypatch) -> None:
    with pytest.raises(Killed):
        train(small, tmp_path / "run", kill_at(1))
    monkeypatch.setattr(Petousis2017, "fingerprint", lambda self: "other data")
    real = Petousis2017.records
    first = min(record.key for record in real(Petousis2017(Petousis2017.Hypers())))
    monkeypatch.setattr(Petousis2017, "records", lambda self: (r for r in real(self) if r.key != first))
    with pytest.raises(ZooError, match="data have changed"):
        train(small, tmp_path / "run")


def test_two_processes_do_not_share_a_folder(small: dict, tmp_path) -> None:
    def again(seed: int, row: dict) -> None:
        with pytest.raises(ZooError, match="another process"):
            train(small, tmp_path / "run")

    train(small, tmp_path / "run", again)


def test_folders_of_the_same_second_differ(tmp_path) -> None:
    paths = {RunFolder.new("x", tmp_path).path for _ in range(5)}
    assert len(paths) == 5


def test_early_stopping_is_remembered_over_a_kill(small: dict, tmp_path) -> None:
    small["training"] |= {"max_epochs": 40, "patience": 3, "learning_rate": 1e-12}
    whole = train(small, tmp_path / "whole")
    assert whole["epochs"] == [4]

    with pytest.raises(Killed):
        train(small, tmp_path / "killed", kill_at(3))
    assert train(small, tmp_path / "killed") == whole


def test_a_loss_of_nan_is_told_with_the_fix(small: dict, tmp_path) -> None:
    small["training"] |= {"learning_rate": 1e30}
    with pytest.raises(ZooError, match=r"(nan|inf).*training.learning_rate"):
        train(small, tmp_path / "run")


def test_a_validation_error_of_nan_is_refused(small: dict, tmp_path, monkeypatch) -> None:
    """Nothing compares as better than NaN: the first epoch would stay the best one without a word."""

    monkeypatch.setattr("zoo.training.mean_error.MeanError.compute", lambda self: float("nan"))
    with pytest.raises(ZooError, match=r"epoch 1; .* training\.learning_rate"):
        train(small, tmp_path / "run")
    assert not (tmp_path / "run" / "seed_0" / "best.pt").exists()


def test_stopping_early_prints_nothing_of_its_own(small: dict, tmp_path, capfd, caplog) -> None:
    small["training"] |= {"max_epochs": 30, "patience": 1, "learning_rate": 1e-12}
    train(small, tmp_path / "run")
    assert len(read_history(RunFolder(tmp_path / "run").seed(0))) < 30
    assert "EarlyStopping" not in "".join(capfd.readouterr()) + caplog.text


def test_seeds_give_different_models_and_splits(small: dict, tmp_path) -> None:
    small["seeds"] = [0, 1]
    content = train(small, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert read_json(folder.seed(0).split)["test"] != read_json(folder.seed(1).split)["test"]
    assert len(content["test"]["mae_ten"]["each"]) == 2
    assert content["test"]["mae_ten"]["std"] == pytest.approx(np.std(content["test"]["mae_ten"]["each"], ddof=1))
    assert len(read_json(folder.model / "model.json")["members"]) == 1, "splits differ: no ensemble"


def test_one_split_makes_an_ensemble(small: dict, tmp_path) -> None:
    small |= {"seeds": [0, 1], "split": {"seed": 5}}
    content = train(small, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert read_json(folder.seed(0).split) == read_json(folder.seed(1).split)
    assert len(read_json(folder.model / "model.json")["members"]) == 2
    members = content["test"]["mae_ten"]["each"]
    assert members[0] != members[1]
    assert content["ensemble_test"]["mae_ten"] <= np.mean(members) + 1e-9, "a mean is no worse than its members' mean"


def test_the_statistics_are_those_of_the_training_part(small: dict, tmp_path) -> None:
    train(small, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    config: Recipe = recipe.read(str(folder.recipe))
    target = target_of(config)
    keys = set(read_json(folder.seed(0).split)["train"])
    from zoo.data.petousis2017 import Petousis2017

    records = [r for r in Petousis2017(Petousis2017.Hypers()).records() if getattr(r, "key", None) in keys]
    traces = [np.trace(r.targets["total"]) / 3 for r in records]
    weights = torch.load(folder.seed(0).best, weights_only=True)
    assert weights["normaliser.shift"][0] / 3**0.5 == pytest.approx(np.mean(traces), rel=1e-5)
    assert weights["normaliser.scale"].shape == (target.irreps.dim,)


def test_the_normaliser_keeps_equivariance() -> None:
    target = TensorTarget("total")
    normaliser = Normaliser(target).double()
    tensors = torch.randn(50, 3, 3, dtype=torch.float64)
    normaliser.fit(tensors + tensors.mT + 4 * torch.eye(3))
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    x = tensors[:1] + tensors[:1].mT
    torch.testing.assert_close(normaliser(rotation @ x @ rotation.T), rotation @ normaliser(x) @ rotation.T)


def test_a_normaliser_of_isotropic_tensors_divides_by_nothing() -> None:
    normaliser = Normaliser(TensorTarget("total"))
    normaliser.fit(torch.eye(3).expand(5, 3, 3) * 2)
    assert torch.isfinite(normaliser(torch.eye(3)[None])).all()


@pytest.mark.parametrize("sizes", [[7], [1, 4, 2], [3, 0, 4]])
def test_the_validation_error_counts_components_in_batches_of_any_size(sizes: list[int]) -> None:
    target, generator = TensorTarget("total"), torch.Generator().manual_seed(0)
    predicted, true = (torch.randn(7, 3, 3, generator=generator) for _ in range(2))
    metric = MeanError(lambda p, t: component_errors(p, t, target), torch.device("cpu"))
    for parts in zip(predicted.split(sizes), true.split(sizes), strict=True):
        metric.update(parts)
    metric.update((None, None))  # a process without a batch takes part
    assert metric.compute() == pytest.approx(mae_of_components(predicted, true, target).item(), rel=1e-7)


def test_mae_of_components_counts_six() -> None:
    true = torch.zeros(1, 3, 3)
    predicted = torch.tensor([[[1.0, 2, 0], [2, 0, 0], [0, 0, 0]]])
    assert mae_of_components(predicted, true, TensorTarget("total")).item() == pytest.approx(3 / 6)


def test_an_extensive_target_is_not_shifted() -> None:
    """A supercell of two cells must have twice the tensor, not twice less a shift."""
    one = torch.eye(3).expand(5, 3, 3) * torch.tensor([1.0, 2, 3, 4, 5])[:, None, None]
    for intensive in (True, False):
        normaliser = Normaliser(TensorTarget("total", intensive=intensive))
        normaliser.fit(one)
        cell, supercell = normaliser(0.1 * torch.eye(3)[None]), normaliser(0.2 * torch.eye(3)[None])
        assert torch.allclose(supercell, 2 * cell) is not intensive


@pytest.mark.parametrize(
    ("encoder", "asked_for", "threads"),
    [
        ({"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4}, None, 3),
        pytest.param({"name": "sevennet", "layer": 1}, None, 1, marks=pytest.mark.sevennet),
        pytest.param({"name": "sevennet", "layer": 1}, "3", 3, marks=pytest.mark.sevennet),
    ],
)
def test_a_readout_alone_trains_on_one_thread(
    small: dict, tmp_path, monkeypatch: pytest.MonkeyPatch, encoder: dict, asked_for: str | None, threads: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked_for is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked_for)
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        small |= {"encoder": encoder, "data": {"limit": 12}, "training": {"max_epochs": 1}}
        train(small, tmp_path / "run", lambda *_: seen.append(torch.get_num_threads()))
        assert seen == [threads]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
