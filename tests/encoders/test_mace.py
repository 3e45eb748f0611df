import lzma
import os
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from converted import ConvertedTests
from golden import DATA, batch_of, build, golden
from small_crystals import error

from zoo.api import ZooError
from zoo.convolution.paths import coupling
from zoo.storage.weights import save_weights
from zoo_mace import MACE, checkpoint
from zoo_mace.checkpoint import KNOWN
from zoo_mace.pickled import PickledObject, read_pickled_module
from zoo_mace.product import monomials, symmetric_part

FOLDER = DATA / "mace"
WEIGHTS = str(FOLDER / "density.safetensors")


@pytest.fixture(scope="module")
def residual(tmp_path_factory) -> str:
    """The weights of a model that mace-torch pickled, converted here."""
    folder = tmp_path_factory.mktemp("mace")
    pickled = folder / "residual.model"
    pickled.write_bytes(lzma.decompress((FOLDER / "residual.model.xz").read_bytes()))
    save_weights("mace", MACE.convert(pickled), folder / "residual.safetensors")
    return str(folder / "residual.safetensors")


def check_against(features: Path, weights: str, tolerance: float = 1e-12) -> None:
    layers = MACE.layers(MACE.Hypers(weights=weights))
    encoder = build(MACE, weights=weights, layer=tuple(range(1, layers + 1)))
    seen = 0
    for crystal in golden(features):
        batch = batch_of(encoder, crystal.structure)
        h, a = encoder.network(
            batch.numbers, encoder.species[batch.numbers], batch.src, batch.dst, -batch.edge_vectors()
        )
        flat = [torch.cat([x.transpose(1, 2).flatten(1) for x in layer], dim=1) for layer in h]
        assert error(torch.cat(flat, dim=1), crystal.features["h"]) < tolerance
        for number, layer in enumerate(a, start=1):
            assert error(torch.cat([x.transpose(1, 2) for x in layer], 2), crystal.features[f"A{number}"]) < tolerance
        seen += 1
    assert seen == 3


class TestAgainstMaceTorch:
    def test_residual_interactions(self, residual):
        """The blocks of MACE-MP-0a, its degree 3 and order 3 aside: `public` of the models made just now has these."""
        check_against(FOLDER / "residual.features.safetensors", residual)

    def test_density_normalised_interactions(self):
        """The blocks of MACE-MP-0b3 and MPA-0, the transformed distance too; degree and order as above."""
        check_against(FOLDER / "density.features.safetensors", WEIGHTS)

    def test_what_the_encoder_gives(self):
        """The last layer has scalars alone: the rest comes from the layer before, and no channel twice."""
        encoder = build(MACE, weights=WEIGHTS, layer=2)
        for crystal in golden(FOLDER / "density.features.safetensors"):
            made = encoder(batch_of(encoder, crystal.structure)).atoms
            first, second = crystal.features["h"].split([36, 4], dim=1)
            assert str(made.irreps) == "4x0e+4x1o+4x2e"
            assert error(made.values, torch.cat([second, first[:, 4:]], dim=1)) < 1e-12

    def test_in_single_precision_too(self):
        encoder = build(MACE, torch.float32, weights=WEIGHTS, layer=1)
        for crystal in golden(FOLDER / "density.features.safetensors"):
            got = encoder(batch_of(encoder, crystal.structure, dtype=torch.float32)).atoms.values
            assert error(got, crystal.features["h"][:, :36]) < 1e-5

    def test_the_atomic_basis_beside(self):
        encoder = build(MACE, weights=WEIGHTS, layer=1, atomic_basis=True)
        crystal = next(golden(FOLDER / "density.features.safetensors"))
        made = encoder(batch_of(encoder, crystal.structure)).atoms
        assert str(made.irreps) == "8x0e+8x1o+8x2e"
        for degree, irrep in enumerate(("0e", "1o", "2e")):
            basis = crystal.features["A1"][:, :, degree**2 : (degree + 1) ** 2]
            assert error(made.block(irrep)[:, 4:], basis) < 1e-12

    @pytest.mark.mace
    @pytest.mark.parametrize("variant", ["residual", "density", "third-order", "public", "agnostic"])
    def test_models_made_just_now(self, tmp_path, variant):
        folder = Path(os.environ["ZOO_FOREIGN"]) / "mace" / variant
        save_weights("mace", MACE.convert(folder / "mace.model"), tmp_path / "made.safetensors")
        check_against(folder / "features.safetensors", str(tmp_path / "made.safetensors"))


class TestConverted(ConvertedTests):
    encoder = MACE
    weights = WEIGHTS
    crystals = FOLDER / "density.features.safetensors"
    most: ClassVar = {"layer": (1, 2), "atomic_basis": True}

    def test_can_be_trained_and_strained_after_an_inference(self):
        coupling.cache_clear()
        super().test_can_be_trained_and_strained_after_an_inference()


class TestFeatures:
    def test_symmetric_part(self):
        """The coefficients of monomials give what the full coupling gives of equal vectors."""
        generator = torch.Generator().manual_seed(0)
        coupling = torch.randn(3, 4, 4, 4, 2, generator=generator, dtype=torch.float64)
        x = torch.randn(4, generator=generator, dtype=torch.float64)
        full = torch.einsum("lijkp,i,j,k->lp", coupling, x, x, x)
        assert torch.allclose(torch.einsum("mlp,m->lp", symmetric_part(coupling, 3), x[monomials(4, 3)].prod(1)), full)


class TestWeights:
    @pytest.mark.parametrize(
        ("name", "irreps"),
        [
            ("mp-0a-small", "128x0e"),
            ("mp-0a-medium", "128x0e+128x1o"),
            ("mp-0a-large", "128x0e+128x1o+128x2e"),
            ("mpa-0-medium", "128x0e+128x1o"),
        ],
    )
    def test_known_without_the_file(self, monkeypatch, tmp_path, name, irreps):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        provides = MACE.provides(MACE.Hypers(weights=name, layer=1))
        assert str(provides.atoms) == irreps
        assert str(provides.bonds) == "10x0e+10x1o"
        more = MACE.provides(MACE.Hypers(weights=name, layer=(1, 2), atomic_basis=True)).atoms
        assert more.count("0e") == 4 * 128
        assert more.count("3o") == 2 * 128

    def test_all_public_ones_are_known(self):
        assert set(KNOWN) == set(MACE.public_weights)


class TestConversion:
    @pytest.fixture
    def pickled(self, tmp_path) -> Path:
        path = tmp_path / "residual.model"
        path.write_bytes(lzma.decompress((FOLDER / "residual.model.xz").read_bytes()))
        return path

    @staticmethod
    def no_products(model: PickledObject) -> None:
        model.children()["products"].state["_modules"].clear()

    @staticmethod
    def other_elements(model: PickledObject) -> None:
        model.state["_buffers"]["atomic_numbers"] = torch.arange(1, 6)

    @pytest.mark.parametrize(("damage", "kind"), [(no_products, "ValueError"), (other_elements, "RuntimeError")])
    def test_a_model_that_is_damaged(self, monkeypatch, pickled, damage, kind):
        model = read_pickled_module(pickled)
        damage(model)
        monkeypatch.setattr(checkpoint, "read_pickled_module", lambda _: model)
        with pytest.raises(ZooError, match=f"lacks what the zoo must know of a MACE model .{kind}") as caught:
            MACE.convert(pickled)
        assert "\n" not in str(caught.value)

    def test_couplings_with_rounding(self, monkeypatch, pickled):
        """A path of zeros, and parts that symmetry forbids, need not be zero to the last digit."""
        exact, model = MACE.convert(pickled), read_pickled_module(pickled)
        generator = torch.Generator().manual_seed(0)
        for product in model.children()["products"].children().values():
            for contraction in checkpoint._contractions(product):
                for name, value in contraction.state_dict().items():
                    if name.startswith("U_matrix"):
                        noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                        value += 1e-9 * value.abs().max() * noise
        monkeypatch.setattr(checkpoint, "read_pickled_module", lambda _: model)
        assert MACE.convert(pickled).metadata == exact.metadata

    def test_a_pseudotensor_is_seen(self, monkeypatch, pickled):
        model = read_pickled_module(pickled)
        product = next(iter(model.children()["products"].children().values()))
        vectors = checkpoint._contractions(product)[1].state_dict()["U_matrix_1"]
        vectors[0, 0] = vectors.abs().max()  # a scalar in the place of a vector's component
        monkeypatch.setattr(checkpoint, "read_pickled_module", lambda _: model)
        with pytest.raises(ZooError, match="mixes tensors and pseudotensors"):
            MACE.convert(pickled)
