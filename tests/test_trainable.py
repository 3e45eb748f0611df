"""encoder.trainable and encoder.learning_rate: frozen, fine-tuned, trained from a random start."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest
import torch
from cli import refused, zoo

from zoo.config import recipe
from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.data.petousis2017 import Petousis2017
from zoo.inference.predictor import Predictor
from zoo.model import tensor_model
from zoo.storage.run_folder import RunFolder
from zoo.training.tensor_learner import groups
from zoo.workflows import train

TOTAL = TensorTarget("total")
WEIGHTS = Path(__file__).parent / "encoders" / "data"


def built(**encoder) -> tensor_model.TensorModel:
    choice = recipe.EncoderChoice(**encoder)
    return tensor_model.build(choice, recipe.Plugin(name="dtnet", width=8, blocks=1), TOTAL)


@pytest.mark.sevennet
class TestPretrained:
    def test_is_frozen_unless_the_recipe_says_otherwise(self) -> None:
        frozen = built(name="sevennet", layer=1).train()
        assert frozen.frozen and frozen.caches_embeddings
        assert frozen.readout.training and not any(module.training for module in frozen.encoder.modules())
        assert not any(parameter.requires_grad for parameter in frozen.encoder.parameters())
        assert "encoder" not in frozen.learned()

    def test_fine_tuning_runs_it_in_every_step(self) -> None:
        tuned = built(name="sevennet", layer=1, trainable=True).train()
        assert not tuned.frozen and not tuned.caches_embeddings
        assert all(module.training for module in tuned.encoder.modules())
        assert any(parameter.requires_grad for parameter in tuned.encoder.parameters())


def crystals_of(elements: frozenset[int], path: Path) -> dict:
    """Crystals of petousis2017 that hold these elements alone, as a dataset: the small weights know few."""
    kept = (
        {"key": record.key, "structure": record.structure.as_dict(), "total": record.targets["total"].tolist()}
        for record in Petousis2017(Petousis2017.Hypers()).records()
        if isinstance(record, Record) and set(record.structure.atomic_numbers) <= elements
    )
    path.write_text(json.dumps(list(itertools.islice(kept, 20))))
    return {"name": "file", "path": str(path)}


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param({"name": "sevennet", "layer": 1}, marks=pytest.mark.sevennet),
        {"name": "mace", "layer": 1, "weights": str(WEIGHTS / "mace" / "density.safetensors")},
        {"name": "tensornet", "layer": 1, "weights": str(WEIGHTS / "tensornet" / "tensornet.safetensors")},
        {"name": "nequix", "layer": 1, "weights": str(WEIGHTS / "nequix" / "nequix.safetensors")},
    ],
    ids=lambda choice: choice["name"],
)
def test_a_fine_tuned_model_is_trained_saved_and_loaded(small: dict, tmp_path: Path, choice: dict) -> None:
    tuned = choice | {"trainable": True, "learning_rate": 1e-3}
    training = {"max_epochs": 1, "batch_size": 16}
    original = built(**choice)
    small["dataset"] = crystals_of(original.encoder.elements(), tmp_path / "crystals.json")
    config = recipe.parse(small | {"encoder": tuned, "training": training}, "test")
    folder = RunFolder(tmp_path / "run")
    told: list[str] = []
    train.run(config, folder, told.append)
    assert any("fine-tuned" in line for line in told)
    member = Predictor.load(folder.model).members[0]
    change = [
        (new - old).abs().max().item()
        for new, old in zip(member.encoder.parameters(), original.encoder.parameters(), strict=True)
    ]
    assert max(change) > 1e-4, "the encoder has not learned"
    assert max(change) < 0.1, "the encoder did not start at the pretrained weights"


def test_the_encoder_may_have_a_learning_rate_of_its_own() -> None:
    learned = built(name="nequip", layers=1, channels=4).learned()
    one = groups(learned, None)
    assert len(one) == 1
    rest, encoder = groups(learned, 1e-5)
    assert encoder["lr"] == 1e-5 and "lr" not in rest
    count = sum(p.numel() for group in (rest, encoder) for p in group["params"])
    assert count == sum(p.numel() for p in learned.parameters())
    assert {id(p) for p in encoder["params"]} == {id(p) for p in learned["encoder"].parameters()}


def test_its_learning_rate_is_used(small: dict, tmp_path: Path) -> None:
    """With a rate of next to nothing for the encoder, the readout alone learns."""
    still = copy.deepcopy(small)
    still["encoder"]["learning_rate"] = 1e-30
    still["training"] |= {"max_epochs": 1, "weight_decay": 0.0}
    config = recipe.parse(still, "test")
    train.seed_everything(config.seeds[0])
    start = tensor_model.build(config.encoder, config.readout, TOTAL)
    folder = RunFolder(tmp_path / "run")
    train.run(config, folder, lambda _: None)
    member = Predictor.load(folder.model).members[0]
    same = [torch.equal(a, b) for a, b in zip(start.encoder.parameters(), member.encoder.parameters(), strict=True)]
    moved = [
        not torch.equal(a, b) for a, b in zip(start.readout.parameters(), member.readout.parameters(), strict=True)
    ]
    assert all(same) and any(moved)


def test_freezing_a_random_start_is_refused(small: dict, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(recipe.dump(recipe.parse(small, "test")))
    refused(zoo("run", "r.yaml", "encoder.trainable=false", cwd=tmp_path), "'nequip' starts", "trainable")
