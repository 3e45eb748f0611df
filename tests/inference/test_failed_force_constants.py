"""Force constants of a batch: a crystal that has none fails alone, and what is kept is not computed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import springs
import torch

from zoo.api import CrystalBatch, ZooError
from zoo.inference.prediction import Prediction
from zoo.inference.predictor import Predictor
from zoo.inference.raw_answers import Raw
from zoo.testing import PairPotential, prototypes


class Counted(PairPotential):
    """Knows how many crystals, displaced ones among them, its energy was asked for."""

    crystals = 0

    def energy(self, batch: CrystalBatch) -> torch.Tensor:
        type(self).crystals += batch.n_crystals
        return super().energy(batch)


class NotFinite(PairPotential):
    def energy(self, batch: CrystalBatch) -> torch.Tensor:
        """NaN where there is sodium."""
        sodium = batch.numbers == 11
        return super().energy(batch).index_add(0, batch.crystal[sodium], (-1 - batch.positions[sodium, 0] ** 2).sqrt())


class TooLarge(PairPotential):
    def energy(self, batch: CrystalBatch) -> torch.Tensor:
        """So stiff where there is sodium that float32 does not hold it, nor float64 its slope times 100."""
        sodium = torch.zeros(batch.n_crystals, dtype=torch.bool).index_fill(0, batch.crystal[batch.numbers == 11], True)
        energy = super().energy(batch)
        return torch.where(sodium, self.factor * energy, energy)

    factor = 1e40


class Overflowing(TooLarge):
    factor = 1e307


def asked(predictor: Predictor, kind: type[PairPotential]) -> Predictor:
    """The same model on force constants of another potential."""
    potential = kind(PairPotential.Hypers()).double().eval()
    return Predictor(predictor.card, predictor.members, predictor.device, predictor.reference, potentials=[potential])


@pytest.mark.parametrize(
    ("kind", "words"),
    [(NotFinite, "no finite forces"), (TooLarge, "force constants above"), (Overflowing, "force constants above")],
)
def test_a_crystal_without_force_constants_fails_alone(
    predictor: Predictor, kind: type[PairPotential], words: str
) -> None:
    others = [springs.quartz(), prototypes()["m-3m"].structure]
    together = asked(predictor, kind).predict_each([others[0], springs.salt(), others[1]])
    error = together.pop(1)
    assert isinstance(error, ZooError) and words in str(error) and "Na1 Cl1" in str(error)
    for answer, structure in zip(together, others, strict=True):
        assert isinstance(answer, Prediction)
        wanted = asked(predictor, PairPotential).predict(structure)
        np.testing.assert_allclose(answer.tensor, wanted.tensor, rtol=1e-4, atol=1e-4)
    (alone,) = asked(predictor, kind).predict_each([springs.salt()])
    assert isinstance(alone, ZooError)


def test_what_is_kept_is_not_computed_again(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    model, (salt, quartz) = asked(predictor, Counted), (springs.salt(), springs.quartz())

    def computed(*structures: object, keep: bool = True) -> tuple[list[Raw | ZooError], int]:
        Counted.crystals = 0
        return model.ask(structures, keep=keep), Counted.crystals

    assert computed(salt, keep=False)[1] and not list(tmp_path.rglob("*.npz"))
    (first,), _ = computed(salt)
    (again,), count = computed(salt)
    assert count == 0 and isinstance(first, Raw) and isinstance(again, Raw)
    assert first.force_constants is not None and again.force_constants is not None
    for name, value in vars(first.force_constants).items():
        assert np.array_equal(value, vars(again.force_constants)[name]), name
    _, both = computed(quartz, salt)
    (kept,) = [path for path in tmp_path.rglob("*.npz") if path.stat().st_size < 5000]
    kept.write_bytes(kept.read_bytes()[:-700])  # a damaged file is none
    (_, mended), count = computed(quartz, salt)
    assert 0 < count < both and isinstance(mended, Raw)
    assert computed(quartz, salt)[1] == 0
