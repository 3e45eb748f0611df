"""`nequix` against the package nequix, its features, and files *.nqx of which nothing may run."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from converted import ConvertedTests
from golden import DATA, Golden, batch_of, build, golden
from safetensors.torch import load_file

from zoo.api import ConvertedEncoder, ZooError
from zoo.storage.weights import save_weights
from zoo_nequix import Nequix

FOLDER = DATA / "nequix"
WEIGHTS = str(FOLDER / "nequix.safetensors")
MODEL = FOLDER / "model.nqx"


def check_features(crystals: Iterator[Golden], weights: str, tolerance: float) -> int:
    """Features after each layer that was kept; how many were compared."""
    seen = 0
    for crystal in crystals:
        for name, wanted in crystal.features.items():
            if name.isdigit():
                encoder = build(Nequix, weights=weights, layer=int(name))
                got = encoder(batch_of(encoder, crystal.structure)).atoms.values[:, : wanted.shape[1]]
                assert (got - wanted).abs().max() < tolerance
                seen += 1
    return seen


class TestAgainstNequix:
    def test_features_are_its_own(self):
        """The last layer has scalars alone; they come before the vectors and tensors of the layer below."""
        assert check_features(golden(FOLDER / "features.safetensors"), WEIGHTS, 1e-12) == 6

    def test_in_single_precision_too(self):
        encoder = build(Nequix, torch.float32, weights=WEIGHTS, layer=1)
        for crystal in golden(FOLDER / "features.safetensors"):
            got = encoder(batch_of(encoder, crystal.structure, dtype=torch.float32)).atoms.values
            assert (got - crystal.features["1"]).abs().max() < 1e-5

    def test_conversion(self):
        """The weights that the other tests read equal those that `zoo convert` makes of the package's file."""
        made = Nequix.convert(MODEL)
        kept = load_file(WEIGHTS)
        assert made.tensors.keys() == kept.keys()
        assert all(torch.equal(made.tensors[name], kept[name]) for name in kept)

    @pytest.mark.nequix
    @pytest.mark.parametrize(("variant", "layers"), [("small", 2), ("other", 3)])
    def test_models_made_just_now(self, tmp_path, variant, layers):
        folder = Path(os.environ["ZOO_FOREIGN"]) / "nequix" / variant
        save_weights("nequix", Nequix.convert(folder / "model.nqx"), tmp_path / "made.safetensors")
        crystals = golden(folder / "features.safetensors")
        assert check_features(crystals, str(tmp_path / "made.safetensors"), 1e-12) == 3 * layers

    @pytest.mark.nequix
    @pytest.mark.shared
    @pytest.mark.parametrize("name", ["nequix-mp-1", "nequix-mp-1-pft", "nequix-oam-1-pft"])
    def test_the_published_models(self, shared_data, tmp_path, name):
        """Features that were kept as float32."""
        save_weights("nequix", Nequix.convert(shared_data / "nequix" / f"{name}.nqx"), tmp_path / "m.safetensors")
        crystals = golden(Path(os.environ["ZOO_FOREIGN"]) / "nequix" / "published.safetensors", f"{name}:")
        assert check_features(crystals, str(tmp_path / "m.safetensors"), 1e-6) == 3


class TestConverted(ConvertedTests):
    encoder = Nequix
    weights = WEIGHTS
    crystals = FOLDER / "features.safetensors"

    def build(self, **hypers: object) -> ConvertedEncoder:
        """Its default is layer 3, of the four of the published models."""
        return super().build(**{"layer": 2, **hypers})


class TestFeatures:
    @pytest.mark.parametrize(
        ("layer", "atoms"),
        [
            (1, "128x0e+64x1o+32x2e+32x3o"),
            (4, "128x0e+64x1o+32x2e+32x3o"),
            ((3, 4), "256x0e+64x1o+32x2e+32x3o"),
            ((1, 2, 3), "384x0e+192x1o+96x2e+96x3o"),
        ],
    )
    def test_known_without_the_file(self, monkeypatch, tmp_path, layer, atoms):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        provides = Nequix.provides(Nequix.Hypers(layer=layer))
        assert str(provides.atoms) == atoms
        assert str(provides.bonds) == "8x0e+8x1o"
        assert Nequix.layers(Nequix.Hypers()) == 4

    def test_of_several_layers_none_is_given_twice(self):
        crystal = next(golden(FOLDER / "features.safetensors"))
        first, last, both = (build(Nequix, weights=WEIGHTS, layer=layer) for layer in (1, 2, (1, 2)))
        made = [encoder(batch_of(encoder, crystal.structure)).atoms for encoder in (first, last, both)]
        assert torch.equal(made[2].scalars(), torch.cat([made[0].scalars(), made[1].scalars()], dim=1))
        assert torch.equal(made[2].block("3o"), made[0].block("3o"))
        assert torch.equal(made[1].block("3o"), made[0].block("3o"))


class TestFiles:
    """Other models and damaged files: one line, no traceback, and nothing runs."""

    @staticmethod
    def refused(path: Path, content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(ZooError) as caught:
            Nequix.convert(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("key", "value", "complaint"),
        [
            ("index_weights", True, "weights for each element"),
            ("layer_norm", False, "no layer norm"),
            ("hidden_irreps", "8x0e + 4x1e", "the zoo runs those of 0e, 1o"),
            ("hidden_irreps", "8x0e + 4x0e", "the zoo runs those of 0e, 1o"),
            ("hidden_irreps", "", "the zoo runs those of 0e, 1o"),
            ("hidden_irreps", "0x0e + 4x1o", "the zoo runs those of 0e, 1o"),
            ("hidden_irreps", "many", "ValueError"),
            ("hidden_irreps", "9x0e + 4x1o + 3x2e + 2x3o", "is due"),
            ("hidden_irreps", f"{10**18}x0e + 4x1o", "damaged"),
            ("lmax", 2, "fewer degrees"),
            ("lmax", None, "lmax"),
            ("n_layers", 1, "is due"),
            ("n_layers", 3, "is due"),
            ("n_layers", 10**9, "n_layers"),
            ("radial_mlp_size", 7, "is due"),
            ("radial_polynomial_p", 6.5, "radial_polynomial_p"),
            ("avg_n_neighbors", 0, "avg_n_neighbors"),
            ("cutoff", float("nan"), "cutoff"),
            ("atomic_numbers", [1, 1], "twice"),
            ("atomic_numbers", [0], "atomic_numbers"),
            ("atomic_numbers", [1, 2], "is due"),
        ],
    )
    def test_settings_that_are_refused(self, tmp_path, key, value, complaint):
        line, arrays = MODEL.read_bytes().split(b"\n", 1)
        changed = json.dumps(json.loads(line) | {key: value}).encode()
        assert complaint in self.refused(tmp_path / "model.nqx", changed + b"\n" + arrays)

    @pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"{}\n", b"\x80\x04\n", b"[" * 100000, b"PK\x03\x04"])
    def test_another_file(self, tmp_path, content):
        assert "damaged or no file of Nequix" in self.refused(tmp_path / "model.nqx", content)

    def test_cut_anywhere_or_longer(self, tmp_path):
        content = MODEL.read_bytes()
        for length in np.linspace(0, len(content) - 1, 40).astype(int):
            assert "damaged or no file of Nequix" in self.refused(tmp_path / "model.nqx", content[:length])
        assert "more arrays" in self.refused(tmp_path / "model.nqx", content + content[-100:])

    def test_a_line_feed_at_the_end(self, tmp_path):
        """The published nequix-mp-1.nqx has one."""
        (tmp_path / "model.nqx").write_bytes(MODEL.read_bytes() + b"\n")
        assert Nequix.convert(tmp_path / "model.nqx").content() == Nequix.convert(MODEL).content()

    def test_nothing_is_unpickled(self, monkeypatch, tmp_path):
        """numpy's format can hold a pickle, of an array of objects."""

        class Harmful:
            def __reduce__(self) -> tuple:
                return os.system, (f"touch {tmp_path / 'MARK'}",)

        file = io.BytesIO()
        np.save(file, np.array([Harmful()] * 89, dtype=object), allow_pickle=True)
        with monkeypatch.context() as patch:
            patch.setattr(pickle, "loads", lambda *_: pytest.fail("something was unpickled"))
            line = MODEL.read_bytes().split(b"\n", 1)[0]
            assert "an array of object" in self.refused(tmp_path / "model.nqx", line + b"\n" + file.getvalue())
        assert not (tmp_path / "MARK").exists()
