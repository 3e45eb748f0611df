"""What describes a crystal does not depend on how it is written down; novelty counts from the training crystals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn import o3
from pymatgen.core import Lattice, Structure

from zoo.config import plugins
from zoo.contract.features import Features
from zoo.errors import ZooError
from zoo.graphs.graph import collate, crystal_graph
from zoo.inference.novelty import COMPONENTS, NEIGHBOURS, Novelty, describe_crystals
from zoo.testing.compare import orthogonal_matrices, rotate_crystal

WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [[1 / 3, 2 / 3, 0.0], [1 / 3, 2 / 3, 0.382]]
)


def described(*structures: Structure) -> torch.Tensor:
    torch.manual_seed(0)
    encoder = plugins.load("encoder", "nequip")(plugins.hypers("encoder", "nequip", {"layers": 2, "channels": 8}))
    batch = collate([crystal_graph(structure, encoder.cutoff) for structure in structures])
    with torch.no_grad():
        return describe_crystals(encoder(batch).atoms, batch.crystal, len(structures))


def test_frame_cell_and_batch_do_not_matter() -> None:
    turned = [rotate_crystal(WURTZITE, rotation) for rotation in orthogonal_matrices(4)]
    found = described(WURTZITE, WURTZITE * (2, 1, 1), *turned)
    assert found.std(0).max() < 1e-4 < found[0].std()
    torch.testing.assert_close(found[:1], described(WURTZITE), rtol=1e-4, atol=1e-5)


def test_the_channels_are_scalars_and_norms() -> None:
    irreps = o3.Irreps("2x0e+1x0o+1x1o")
    values = torch.tensor([[1.0, -2.0, -3.0, 3.0, 4.0, 0.0], [3.0, 0.0, 3.0, 0.0, 0.0, 1.0]])
    found = describe_crystals(Features(irreps, values), torch.tensor([0, 0]), 1)
    torch.testing.assert_close(found, torch.tensor([[2.0, -1.0, 3.0, 3.0]]))  # a pseudoscalar's sign is the hand's


def reference(n: int = 200) -> tuple[Novelty, np.ndarray]:
    random = np.random.default_rng(0)
    training = random.normal(size=(n, 6)).astype(np.float32) * [1, 10, 100, 1, 1, 0]
    validation = random.normal(size=(100, 6)).astype(np.float32) * [1, 10, 100, 1, 1, 0]
    names = [{"key": str(i), "formula": "X", "crystal_system": "cubic"} for i in range(n)]
    return Novelty.of(names, np.zeros((n, 3, 3), np.float32), training, validation), validation


def test_the_threshold_leaves_one_in_a_hundred() -> None:
    found, validation = reference()
    beyond = sum(found.novelty(one) > found.threshold for one in validation)
    assert beyond == 1
    assert found.novelty(validation[0] + [0, 0, 10_000, 0, 0, 0]) > found.threshold
    assert found.novelty(validation[0] + [0, 0, 0, 0, 0, 5]) == found.novelty(validation[0])  # it never changed


def test_a_neighbour_without_a_label_has_no_tensor() -> None:
    """A source may have ε∞ alone: its crystals are neighbours, and their ε is not zero but unknown."""
    found, _ = reference()
    assert found.tensors is not None
    found.tensors[7] = np.eye(3)
    nearest = found.nearest(np.array([0.0, 0, 0, 0, 0, 0]), 200)
    assert {one["key"]: one["tensor"] for one in nearest if one["tensor"] is not None} == {"7": np.eye(3).tolist()}


def test_few_axes_of_many_channels_keep_distances() -> None:
    random = np.random.default_rng(0)
    alike = random.normal(size=(20, 300))  # 300 channels that twenty numbers make
    training, validation = (
        random.normal(size=(n, 20)) @ alike + 1e-3 * random.normal(size=(n, 300)) for n in (200, 50)
    )
    names = [{"key": str(i), "formula": "X", "crystal_system": "cubic"} for i in range(200)]
    found = Novelty.of(names, None, training, validation)
    assert found.descriptors.shape == (200, COMPONENTS + 1)
    scaled = (training - validation[0]) / training.std(0)
    np.testing.assert_allclose(found.distances(validation[0]), np.sqrt(np.square(scaled).mean(1)), rtol=1e-3)
    assert found.distances(training[3]).argmin() == 3 and found.distances(training[3]).min() < 1e-4
    outside = random.normal(size=300)
    outside -= np.linalg.pinv(alike) @ (alike @ outside)  # none of the training crystals has any of it
    assert found.novelty(validation[0] + 20 * outside) > found.threshold


def test_it_is_kept_and_damage_is_told(tmp_path: Path) -> None:
    found, validation = reference()
    found.save(tmp_path)
    again = Novelty.load(tmp_path)
    assert again.novelty(validation[0]) == pytest.approx(found.novelty(validation[0]), rel=1e-5)
    assert [n["key"] for n in again.nearest(validation[0], 3)] == [n["key"] for n in found.nearest(validation[0], 3)]
    assert found.novelty(validation[0]) == pytest.approx(
        np.mean([near["distance"] for near in found.nearest(validation[0], NEIGHBOURS)])
    )
    for wrong in ("[]", "{", json.dumps([1] * 200)):
        (tmp_path / "reference.json").write_text(wrong)
        with pytest.raises(ZooError, match="damaged"):
            Novelty.load(tmp_path)
    (tmp_path / "reference.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(ZooError, match="damaged"):
        Novelty.load(tmp_path)
    (tmp_path / "reference.safetensors").unlink()
    with pytest.raises(ZooError, match=r"reference.safetensors is missing"):
        Novelty.load(tmp_path)
