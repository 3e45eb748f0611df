"""Electronic, ionic and total tensor together: the labels, the target, the readout `joint`, the recipe's `readouts`."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from pymatgen.core import Lattice, Structure

from zoo.api import CrystalBatch, Record, TensorTarget, ZooError
from zoo.config import plugins, recipe
from zoo.config.recipe import EncoderChoice, Plugin
from zoo.data.tensors import DIELECTRIC, JOINT, target_named, with_parts
from zoo.model.joint import Joint
from zoo.model.precomputed import Precomputed
from zoo.model.tensor_model import TensorModel, build
from zoo.testing import Pair, prototypes
from zoo.testing.prototypes import varied
from zoo.training.batches import Samples
from zoo.training.mean_error import component_errors, known_errors, mae_of_components, mean_or_zero
from zoo.workflows.train import target_of

NEQUIP = {"cutoff": 4.0, "layers": 2, "channels": 4}
PARTS = ("electronic", "ionic", "total")


def symmetric(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(3, 3))
    return values + values.T


def record(**targets: np.ndarray) -> Record:
    return Record("mp-1", Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]]), targets)


def test_parts_come_back_from_their_independent_components() -> None:
    tensors = np.stack([[symmetric(3 * n + k) for k in range(3)] for n in range(2)])
    values = torch.from_numpy(tensors.reshape(2, -1)[:, list(JOINT.independent)])
    np.testing.assert_allclose(JOINT.from_independent(values).numpy(), tensors, atol=1e-12)


class TestLabels:
    whole: ClassVar = {"electronic": symmetric(0), "ionic": symmetric(1), "total": symmetric(0) + symmetric(1)}

    @pytest.mark.parametrize("known", [c for n in range(4) for c in itertools.combinations(PARTS, n)])
    def test_of_two_the_third_follows(self, known: tuple[str, ...]) -> None:
        given = record(**{name: self.whole[name] for name in known})
        made = with_parts(given, JOINT)
        if not known:
            assert made is given and "dielectric" not in made.targets
            return
        tensors = made.targets["dielectric"]
        assert tensors.shape == JOINT.shape == (3, 3, 3)
        for row, name in zip(tensors, PARTS, strict=True):
            if name in known or len(known) > 1:
                np.testing.assert_allclose(row, self.whole[name], atol=1e-14)
            else:
                assert np.isnan(row).all()
        assert given.targets.keys() == set(known), "the record itself stays as it is"

    def test_labels_that_do_not_add_up_are_kept_as_they_are(self) -> None:
        given = record(**{**self.whole, "total": symmetric(2)})
        np.testing.assert_array_equal(with_parts(given, JOINT).targets["dielectric"][2], symmetric(2))

    def test_a_part_that_was_left_out_stays_so(self) -> None:
        given = dataclasses.replace(record(electronic=symmetric(3), ionic=symmetric(2)), left_out={"total": "why"})
        made = with_parts(given, JOINT).targets["dielectric"]
        assert np.isnan(made[2]).all() and np.isfinite(made[:2]).all()

    def test_another_joint_target_takes_what_there_is(self) -> None:
        parts = (DIELECTRIC["ionic"], TensorTarget("total"))
        made = with_parts(record(total=symmetric(3)), TensorTarget("both", parts=parts))
        assert made.targets["both"].shape == (2, 3, 3) and np.isnan(made.targets["both"][0]).all()


class TestTarget:
    def test_it_comes_back_from_json(self) -> None:
        content = json.loads(json.dumps(dataclasses.asdict(JOINT)))
        again = TensorTarget(**content)
        assert again == JOINT and hash(again) == hash(JOINT)
        assert all(isinstance(part, TensorTarget) for part in again.parts)

    def test_what_it_says(self) -> None:
        assert JOINT.main is JOINT.parts[-1] and JOINT.main.name == "total" and TensorTarget("x").main.name == "x"
        assert JOINT.shape == (3, 3, 3) and JOINT.rank == 2
        assert JOINT.independent == tuple(9 * k + i for k in range(3) for i in TensorTarget("x").independent)
        tensors = np.arange(2 * 27).reshape(2, 3, 3, 3)
        split = JOINT.split(tensors)
        assert list(split) == list(PARTS)
        assert all(np.array_equal(split[name][1], tensors[:, k]) for k, name in enumerate(PARTS))
        assert TensorTarget("x").split(tensors)["x"][1] is tensors

    def test_a_dataset_that_has_a_part_has_it(self) -> None:
        assert target_named({"ionic": DIELECTRIC["ionic"]}, "dielectric", "the dataset") is JOINT
        own = TensorTarget("dielectric", "ij")
        assert target_named({"dielectric": own, "total": own}, "dielectric", "the dataset") is own
        with pytest.raises(ZooError, match="the dataset has no target 'dielectric'"):
            target_named({"elastic": TensorTarget("elastic", "ijkl=jikl=klij")}, "dielectric", "the dataset")


class TestErrors:
    """Over all labelled components of all parts, each with the same weight."""

    predicted = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).double()

    def true(self) -> torch.Tensor:
        true = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1)).double()
        true[0, 1:] = torch.nan
        true[2, 0] = torch.nan
        true[3] = torch.nan
        return true

    def test_parts_without_a_label_are_left_out(self) -> None:
        found = component_errors(self.predicted, self.true(), JOINT)
        wanted = [
            (self.predicted - self.true())[i, k, a, b].abs()
            for i, k in ((0, 0), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2))
            for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
        ]
        torch.testing.assert_close(found, torch.stack(wanted))
        assert mae_of_components(self.predicted, self.true(), JOINT) == torch.stack(wanted).mean()

    def test_no_gradient_comes_from_them(self) -> None:
        predicted = self.predicted.clone().requires_grad_()
        mae_of_components(predicted, self.true(), JOINT).backward()
        assert predicted.grad.isfinite().all()
        assert not predicted.grad[self.true().isnan()].any() and predicted.grad[1].any()

    def test_without_any_label_it_is_zero(self) -> None:
        assert mae_of_components(self.predicted[3:], self.true()[3:], JOINT) == 0

    def test_shares_of_a_batch_add_up(self) -> None:
        """Errors of two processes, weighted by what they have labels of, are those of one process: of each part."""
        samples = Samples(None, self.true(), None, None, target=JOINT)  # type: ignore[arg-type]
        for name, (part, true) in JOINT.split(self.true()).items():
            predicted = JOINT.split(self.predicted)[name][1]
            errors = [known_errors(predicted[s], true[s]) for s in ([0, 1], [2, 3])]
            weights = [samples.labelled(s)[name] / samples.labelled(range(4))[name] for s in ([0, 1], [2, 3])]
            shares = sum(w * mean_or_zero(one) for w, one in zip(weights, errors, strict=True))
            torch.testing.assert_close(shares, known_errors(predicted, true).mean())
            assert part.name == name


def joint(electronic: dict, ionic: dict, seed: int = 0) -> TensorModel:
    torch.manual_seed(seed)
    choice = Plugin(name="joint", electronic=electronic, ionic=ionic)
    model = build(EncoderChoice(name="nequip", **NEQUIP), choice, JOINT, potential=Plugin(name="sevennet"))
    return model.double().eval()


DTNET = {"name": "dtnet", "width": 8, "blocks": 1}
BORN = {"name": "born", "width": 8, "channels": 2}
SIMPLE = {"name": "dtnet-simple", "width": 8, "blocks": 1}


def batch_of(structures: list[Structure]) -> CrystalBatch:
    return Pair("nequip", "born", NEQUIP, {"width": 8}).batch(structures)


class TestReadout:
    @pytest.mark.parametrize("ionic", [DTNET, BORN], ids=["dtnet", "born"])
    def test_it_is_the_readouts_and_their_sum(self, ionic: dict) -> None:
        """Whatever holds for each holds for it: it has no conformance tests of its own."""
        model, batch = joint(DTNET, ionic), batch_of(varied())
        torch.manual_seed(2)
        model.fit_normaliser(torch.randn(5, 3, 3, 3).double())
        found = model(batch)
        assert found.shape == (len(varied()), 3, 3, 3)
        embedding = model.encoder(batch)
        for k, name in enumerate(("electronic", "ionic")):
            alone = model.readout.normalisers[name](model.readout.readouts[name](embedding, batch))
            assert torch.equal(found[:, k], alone) and alone.any()
        assert torch.equal(found[:, 2], found[:, 0] + found[:, 1])

    def test_each_is_built_with_its_own_settings_and_part(self) -> None:
        readout = joint({**DTNET, "width": 16}, BORN).readout
        assert readout.readouts["electronic"].hypers.width == 16 and readout.readouts["ionic"].hypers.width == 8
        assert [readout.readouts[name].target.name for name in readout.readouts] == ["electronic", "ionic"]

    def test_what_it_needs_is_what_they_need(self) -> None:
        both, none = joint(DTNET, BORN).readout, joint(SIMPLE, DTNET).readout
        assert both.needs.force_constants and not none.needs.force_constants
        assert set(both.needs.atoms) == {"0e", "1o", "2e"} and set(both.needs.bonds) == {"0e", "1o"}
        assert both.explains and not none.explains
        strain = joint(DTNET, {"name": "strain", "width": 8}).readout
        assert strain.needs_grad and not both.needs_grad
        assert Joint.needs.atoms == () and not Joint.needs_grad, "those of a pair are not those of the class"

    def test_statistics_are_those_of_each_part(self) -> None:
        """Of the crystals that have its label; a readout that makes physical units has none."""
        tensors = torch.randn(6, 3, 3, 3).double()
        tensors = tensors + tensors.mT
        tensors[:2, 1] = torch.nan
        readout = joint(DTNET, DTNET).readout
        seen: dict[str, torch.Tensor] = {}
        for name, part in readout.readouts.items():
            part.fit = lambda known, name=name: seen.update({name: known})
        readout.fit(tensors)
        for name, expected in (("electronic", tensors[:, 0]), ("ionic", tensors[2:, 1])):
            assert torch.equal(seen[name], expected)
            irreps = DIELECTRIC[name].to_irreps(expected)
            torch.testing.assert_close(readout.normalisers[name].shift[0], irreps[:, 0].mean())
            assert not readout.normalisers[name].shift[1:].any()
        plain = joint(DTNET, BORN).readout
        plain.fit(tensors)
        assert torch.equal(plain.normalisers["ionic"].scale, torch.ones(6).double())
        nothing = joint(DTNET, DTNET).readout
        nothing.fit(torch.full((3, 3, 3, 3), torch.nan).double())
        assert torch.equal(nothing.normalisers["ionic"].scale, torch.ones(6).double())

    @pytest.mark.parametrize("parts", [(DTNET, DTNET), (DTNET, BORN), (SIMPLE, DTNET)], ids=["two", "born", "simple"])
    def test_what_they_precompute_is_kept_apart(self, parts: tuple[dict, dict]) -> None:
        model, structures = joint(*parts), varied()

        def embed(piece: np.ndarray):
            batch = batch_of([structures[i] for i in piece])
            with torch.no_grad():
                return model.encoder(batch), batch

        rows = Precomputed.build(model.readout, embed, [np.array([i]) for i in range(len(structures))])
        assert rows is not None
        batch = batch_of(structures)
        with torch.no_grad():
            embedding = model.encoder(batch)
            stored = dataclasses.replace(embedding, bonds=None, precomputed=rows.rows(range(len(structures))))
            found = model(batch, stored.to(dtype=torch.float64))
            torch.testing.assert_close(found, model(batch, embedding), rtol=1e-5, atol=1e-5)

    def test_every_part_learns(self) -> None:
        model = joint(DTNET, BORN).train()
        true = torch.randn(len(varied()), 3, 3, 3).double()
        true[:, 2] = torch.nan
        mae_of_components(model(batch_of(varied())), true, JOINT).backward()
        for name, parameter in model.readout.named_parameters():
            learned = parameter.grad is not None and parameter.grad.isfinite().all()
            assert learned or not parameter.requires_grad, name

    def test_silicon_has_no_ionic_part(self) -> None:
        cell = Structure(Lattice(2.715 * (np.ones((3, 3)) - np.eye(3))), ["Si", "Si"], [[0, 0, 0], [0.25] * 3])
        (found,) = joint(DTNET, BORN)(batch_of([cell]))
        assert found[1].norm() < 1e-10 and torch.allclose(found[0], found[2]) and found[0].norm() > 0.1
        (polar,) = joint(DTNET, BORN)(batch_of([prototypes()["m-3m"].structure]))
        assert polar[1].norm() > 0.1


class TestRecipe:
    content: ClassVar = {
        "name": "both",
        "dataset": {"name": "petousis2017"},
        "target": "dielectric",
        "encoder": {"name": "nequip", **NEQUIP},
        "readouts": {"electronic": DTNET, "ionic": BORN},
        "force_constants": {"potential": {"name": "sevennet"}},
    }

    def built(self, **changes: object) -> TensorModel:
        config = recipe.parse({**self.content, **changes}, "mine.yaml")
        return build(config.encoder, config.readout, target_of(config), config.force_constants.potential)

    def refusal(self, **changes: object) -> str:
        with pytest.raises(ZooError) as caught:
            self.built(**changes)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_readouts_are_the_readout_joint(self) -> None:
        config = recipe.parse(self.content, "mine.yaml")
        assert config.readout.name == "joint" and config.readout.settings == self.content["readouts"]
        assert recipe.parse(yaml.safe_load(recipe.dump(config)), "dumped") == config
        assert self.built().target == JOINT

    def test_overrides(self, tmp_path: Path) -> None:
        path = tmp_path / "both.yaml"
        path.write_text(yaml.safe_dump(self.content))
        config = recipe.read(str(path), ("readouts.ionic.width=16", "readouts.electronic.dropout=0.1"))
        assert config.readout.settings["ionic"] == {**BORN, "width": 16}
        assert config.readout.settings["electronic"] == {**DTNET, "dropout": 0.1}
        other = recipe.read(str(path), ("readouts.ionic.name=dtnet", "readouts.ionic.blocks=2"))
        assert other.readout.settings["ionic"] == {"name": "dtnet", "width": 8, "blocks": 2}, "channels is born's"
        dumped = tmp_path / "dumped.yaml"
        dumped.write_text(recipe.dump(config))
        again = recipe.read(str(dumped), ("readout.ionic.name=dtnet",))
        assert again.readout.settings["ionic"] == {"name": "dtnet", "width": 16}

    def test_one_or_several(self) -> None:
        assert "leave one of them out" in self.refusal(readout=DTNET)
        assert "names a readout of each part" in self.refusal(readouts="dtnet")
        without = {key: value for key, value in self.content.items() if key != "readouts"}
        with pytest.raises(ZooError, match="'readout' is missing"):
            recipe.parse(without, "mine.yaml")

    def test_what_is_wrong_is_named(self) -> None:
        assert "no readout 'bron'. Did you mean 'born'?" in self.refusal(
            readouts={"electronic": DTNET, "ionic": {"name": "bron"}}
        )
        assert "'widht'" in self.refusal(readouts={"electronic": {"name": "dtnet", "widht": 8}, "ionic": DTNET})
        assert "'ionic' is missing" in self.refusal(readouts={"electronic": DTNET})
        assert "'total'" in self.refusal(readouts={"electronic": DTNET, "ionic": DTNET, "total": DTNET})
        assert "the target is 'total' alone" in self.refusal(target="total")

    def test_a_readout_of_one_tensor_for_three(self) -> None:
        content = {**self.content, "readout": DTNET}
        del content["readouts"]
        config = recipe.parse(content, "mine.yaml")
        with pytest.raises(ZooError, match="name a readout of each by readouts"):
            build(config.encoder, config.readout, target_of(config))

    def test_a_part_that_its_readout_cannot_make(self) -> None:
        assert "names 'born' for 'ionic', which needs force constants, the encoder has no energy" in self.refusal(
            force_constants={}
        )
        assert "names 'dtnet' for 'electronic', which needs atom features of 2e" in self.refusal(
            encoder={"name": "painn"}
        )

    def test_joint_is_a_readout_like_others(self) -> None:
        assert plugins.load("readout", "joint") is Joint
        assert "together" in str(Joint.cannot_make(TensorTarget("total")))
        assert Joint.cannot_make(JOINT) is None
