import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from converted import ConvertedTests
from golden import DATA, batch_of, build, golden
from safetensors.torch import load_file
from small_crystals import error

from zoo.api import Features, PublicWeights, ZooError, sha256_of
from zoo.storage.weights import save_weights
from zoo_tensornet import TensorNet, checkpoint
from zoo_tensornet.checkpoint import KNOWN, Architecture
from zoo_tensornet.radial import SmoothBessel

FOLDER = DATA / "tensornet"
WEIGHTS = str(FOLDER / "tensornet.safetensors")


def matrices(features: Features) -> torch.Tensor:
    """matgl's X, (N, C, 3, 3): its antisymmetric part holds a polar vector, so its irreps are none of a matrix."""
    count = features.irreps[0].mul
    assert str(features.irreps) == f"{count}x0e+{count}x1o+{count}x2e"
    as_matrix = Features(f"{count}x0e+{count}x1e+{count}x2e", features.values)
    return as_matrix.matrices().permute(0, 3, 1, 2)


def check_against(features: Path, weights: str, tolerance: float = 1e-12) -> None:
    seen = 0
    for crystal in golden(features):
        for layer in (1, 2):
            encoder = build(TensorNet, weights=weights, layer=layer)
            got = matrices(encoder(batch_of(encoder, crystal.structure)).atoms)
            assert error(got, crystal.features[str(layer)]) < tolerance
            seen += 1
    assert seen == 6


class TestAgainstMatgl:
    def test_features_are_matgls_own(self):
        check_against(FOLDER / "features.safetensors", WEIGHTS)

    def test_in_single_precision_too(self):
        encoder = build(TensorNet, torch.float32, weights=WEIGHTS)
        for crystal in golden(FOLDER / "features.safetensors"):
            got = matrices(encoder(batch_of(encoder, crystal.structure, dtype=torch.float32)).atoms)
            assert error(got, crystal.features["2"]) < 1e-5

    def test_conversion(self):
        """What the other tests read is what `zoo convert` makes of matgl's own files."""
        made = TensorNet.convert(FOLDER / "state.pt")
        kept = load_file(WEIGHTS)
        assert made.tensors.keys() == kept.keys()
        assert all(torch.equal(made.tensors[name], kept[name]) for name in kept)

    @pytest.mark.tensornet
    @pytest.mark.parametrize("variant", ["bessel", "gaussian", "potential"])
    def test_models_made_just_now(self, tmp_path, variant):
        folder = Path(os.environ["ZOO_FOREIGN"]) / "tensornet" / variant
        save_weights("tensornet", TensorNet.convert(folder / "state.pt"), tmp_path / "made.safetensors")
        check_against(folder / "features.safetensors", str(tmp_path / "made.safetensors"))


class TestConverted(ConvertedTests):
    """The antisymmetric part is a polar vector, 1o: under inversion X becomes its transpose."""

    encoder = TensorNet
    weights = WEIGHTS
    crystals = FOLDER / "features.safetensors"


class TestFeatures:
    def test_vectors_point_against_the_rotation_vector(self):
        """The 1o block is -sqrt(2) v of matgl's antisymmetric part A_ij = -ε_ijk v_k; no detour over matrices()."""
        encoder = build(TensorNet, weights=WEIGHTS, layer=2)
        for crystal in golden(FOLDER / "features.safetensors"):
            x = crystal.features["2"]
            skew = (x - x.transpose(-1, -2)) / 2
            vector = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
            got = encoder(batch_of(encoder, crystal.structure)).atoms.block("1o")
            assert (got + 2**0.5 * vector).norm() < 1e-12 * x.norm()

    def test_the_smooth_basis_is_orthonormal(self):
        """∫ g_m g_n r² dr = δ, the property that defines it (Kocer et al.)."""
        r = torch.linspace(1e-6, 5.0, 20001, dtype=torch.float64)
        basis = SmoothBessel(4, 5.0)(r)
        products = torch.trapezoid(basis.unsqueeze(2) * basis.unsqueeze(1) * (r**2)[:, None, None], r, dim=0)
        assert torch.allclose(products, torch.eye(4, dtype=torch.float64), atol=1e-6)


class TestWeights:
    def test_known_without_the_file(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        provides = TensorNet.provides(TensorNet.Hypers())
        assert str(provides.atoms) == "128x0e+128x1o+128x2e"
        assert str(provides.bonds) == "3x0e+3x1o"
        assert len(KNOWN["MatPES-PBE-2025.1"].elements) == 89


class TestConversion:
    """Other models, published ones with another model.json, and files that are damaged: one line, no traceback."""

    @staticmethod
    def convert(folder: Path, content: object, state: object = None) -> str:
        (folder / "model.json").write_text(json.dumps(content))
        shutil.copy(FOLDER / "state.pt", folder) if state is None else torch.save(state, folder / "state.pt")
        with pytest.raises(ZooError) as caught:
            TensorNet.convert(folder / "state.pt")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @staticmethod
    def content(**changed: object) -> dict:
        content = json.loads((FOLDER / "model.json").read_text())
        content["kwargs"] |= changed
        return content

    @pytest.mark.parametrize(
        ("key", "value", "complaint"),
        [
            ("equivariance_invariance_group", "SO(3)", "not tensors under inversion"),
            ("use_smooth", False, "not smooth"),
            ("activation_type", "softexp", "activation softexp"),
            ("rbf_type", "ExpNorm", "radial basis ExpNorm"),
            ("rbf_type", [], "TypeError"),
            ("units", 16, "not of the model in"),
            ("units", "many", "units"),
            ("nblocks", 1, "not of the model in"),
            ("nblocks", 3, "not of the model in"),
            ("element_types", ["H", "Qq"], "Qq"),
            ("element_types", ["H"], "not of the model in"),
            ("rbf_type", "Gaussian", "centers"),
        ],
    )
    def test_models_that_are_refused(self, tmp_path, key, value, complaint):
        assert complaint in self.convert(tmp_path, self.content(**{key: value}))

    @pytest.mark.parametrize(
        "key", ["rbf_type", "use_smooth", "activation_type", "equivariance_invariance_group", "element_types", "width"]
    )
    def test_a_setting_that_is_missing(self, tmp_path, key):
        content = self.content()
        del content["kwargs"][key]
        told = self.convert(tmp_path, content)
        assert "model.json lacks" in told
        assert f"KeyError: '{key}'" in told

    @pytest.mark.parametrize(
        "content", [[], 1, {"@class": "Potential"}, {"@class": "TensorNet"}, {"@class": "TensorNet", "kwargs": []}]
    )
    def test_a_model_json_of_something_else(self, tmp_path, content):
        assert "model.json lacks" in self.convert(tmp_path, content)

    def test_of_another_model(self, tmp_path):
        assert "is of a M3GNet" in self.convert(tmp_path, {"@class": "M3GNet"})

    @pytest.mark.parametrize(
        ("state", "complaint"),
        [
            ([1], "no state.pt of matgl"),
            ({1: 2}, "no state.pt of matgl"),
            ({}, "Missing key"),
            ({"model.layers.0.linears_tensor.0.weight": 1.0}, "not of the model in"),
        ],
    )
    def test_another_state(self, tmp_path, state, complaint):
        assert complaint in self.convert(tmp_path, self.content(), state)

    @pytest.mark.parametrize(
        ("key", "value", "wrong"),
        [("cutoff", 4.5, "cutoff"), ("activation_type", "tanh", "activation"), ("element_types", None, "elements")],
    )
    def test_published_weights_with_another_model_json(self, monkeypatch, tmp_path, key, value, wrong):
        """The checksum is of state.pt alone."""
        found = Architecture(**TensorNet.convert(FOLDER / "state.pt").metadata)
        published = PublicWeights(file="state.pt", page="there", sha256=sha256_of(FOLDER / "state.pt"))
        monkeypatch.setitem(checkpoint.PUBLIC, "small", published)
        monkeypatch.setitem(checkpoint.KNOWN, "small", found)
        assert Architecture(**TensorNet.convert(FOLDER / "state.pt").metadata) == found
        value = value or self.content()["kwargs"]["element_types"][::-1]
        told = self.convert(tmp_path, self.content(**{key: value}))
        assert f"not the one published with small: it has another {wrong}; get it anew" in told
