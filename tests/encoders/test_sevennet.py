"""Settings of the encoder `sevennet`, the features that it declares, and the input that it refuses."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from e3nn import o3
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from sevennets import SHIPPED, batch_of, encoder, ours
from small_crystals import error, quartz, random_p1

from zoo.api import ZooError
from zoo_sevennet import SevenNet, weights_file
from zoo_sevennet import checkpoint as checkpoints


class TestChoices:
    pytestmark = pytest.mark.sevennet

    @pytest.mark.parametrize("pseudotensors", [False, True])
    @pytest.mark.parametrize("layer", [1, 2, 3, 4, 5, (1, 4), (3, 5), (5, 4, 2)])
    def test_provides_what_it_promised(self, layer, pseudotensors):
        model = encoder(layer, pseudotensors)
        with torch.no_grad():
            made = model(batch_of(quartz()))
        promised = SevenNet.provides(model.hypers)
        assert made.atoms.irreps == promised.atoms
        assert made.bonds.irreps == promised.bonds == o3.Irreps("8x0e+8x1o")
        assert torch.equal(made.bonds.values, model.bonds(batch_of(quartz())).values)

    def test_default_is_layer_4_true_tensors(self):
        assert SevenNet.provides(SevenNet.Hypers()).atoms == o3.Irreps("128x0e+64x1o+32x2e")

    @pytest.mark.parametrize("layer", [1, 2, 4, 5, (3, 5)])
    def test_degree_3(self, layer):
        model = encoder(layer, checkpoint="SevenNet-l3i5")
        with torch.no_grad():
            made = model(batch_of(random_p1())).atoms
        assert made.irreps == SevenNet.provides(model.hypers).atoms
        channels = 64 if layer == (3, 5) else 32
        assert (made.block("3o").norm(dim=(0, 2)) > 0).sum() == channels
        assert (made.block("3e").norm(dim=(0, 2)) > 0).sum() == (0 if layer == 1 else channels)

    def test_several_layers_are_concatenated(self):
        batch = batch_of(quartz())
        with torch.no_grad():
            both = encoder((4, 1), False)(batch).atoms
            parts = [encoder(n, False)(batch).atoms for n in (1, 4)]
        assert both.irreps == o3.Irreps("256x0e+128x1o+64x2e")
        for irrep in ("0e", "1o", "2e"):
            assert torch.allclose(both.block(irrep), torch.cat([part.block(irrep) for part in parts], dim=1))

    def test_layer_5_has_the_vectors_and_tensors_of_layer_4(self):
        batch = batch_of(quartz())
        with torch.no_grad():
            fourth, fifth = (encoder(n, False)(batch).atoms for n in (4, 5))
        assert fifth.irreps == fourth.irreps
        assert torch.equal(fifth.vectors(), fourth.vectors())
        assert torch.equal(fifth.tensors(), fourth.tensors())
        assert error(fifth.scalars(), fourth.scalars()) > 0.1
        assert SevenNet.provides(SevenNet.Hypers(layer=[4, 5])).atoms == o3.Irreps("256x0e+64x1o+32x2e")

    def test_later_layers_are_not_built(self):
        assert len(encoder(2, False).network.layers) == 2

    def test_fingerprint_tells_what_is_computed(self):
        prints = {encoder(layer, p).fingerprint() for layer in (3, 4, (3, 4)) for p in (False, True)}
        assert len(prints) == 6
        assert len({ours(name).fingerprint() for name in SHIPPED}) == len(SHIPPED)
        named, default = (encoder(checkpoint="SevenNet-MF-0", **m) for m in ({"modality": "PBE"}, {}))
        assert named.fingerprint() == default.fingerprint()
        assert encoder((4, 3), False).fingerprint() == encoder((3, 4), False).fingerprint()

    def test_fingerprint_of_the_first_release(self):
        """Caches that were made with it stay good."""
        assert encoder(4, False).fingerprint().startswith("c52cac4d4bec4020")

    def test_table_is_that_of_the_file(self):
        for name, known in checkpoints.CHECKPOINTS.items():
            content = checkpoints.read(known.path())
            config, state = content["config"], content["model_state_dict"]
            channels = tuple(tuple(mul for mul, _ in o3.Irreps(irreps)) for irreps in config["irreps_manual"][1:])
            architecture = known.architecture
            assert architecture.channels == channels, name
            assert architecture.cutoff == config["cutoff"]
            assert architecture.radial == (
                config["radial_basis"]["bessel_basis_num"],
                *config["weight_nn_hidden_neurons"],
            )
            envelope = config["cutoff_function"]
            if architecture.switch_on is None:
                assert envelope == {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6}
            else:
                assert envelope["cutoff_function_name"] == "XPLOR"
                assert envelope["cutoff_on"] == architecture.switch_on
            denominators = [value for key, value in state.items() if "denominator" in key or "denumerator" in key]
            assert len(denominators) == 5
            assert all(float(value) == architecture.neighbours for value in denominators)
            assert architecture.solid != config.get("_normalize_sph", False)
            modalities = config.get("_modal_map", {})
            assert set(known.modalities) == set(modalities)
            assert next(iter(known.modalities), None) == config.get("default_modal")
            assert architecture.biased == config.get("use_modality", False)
            assert set(config["_type_map"]) == set(checkpoints.ELEMENTS), name

    def test_elements(self):
        elements = encoder().elements()
        assert len(elements) == 89
        assert {1, 8, 14, 83, 94} <= elements
        assert 84 not in elements

    def test_unknown_element(self):
        polonium = Structure(Lattice.cubic(3.35), ["Po"], [[0, 0, 0]])
        with pytest.raises(ZooError, match="SevenNet-0 does not know Po"):
            encoder()(batch_of(quartz(), polonium))


class TestShipped:
    """SevenNet-0 and SevenNet-l3i5 as the zoo ships them."""

    @pytest.mark.sevennet
    @pytest.mark.parametrize("name", weights_file.SHA256)
    def test_the_numbers_and_fingerprints_are_those_of_sevenn(self, name, monkeypatch):
        choices = [{"layer": 5}, {"layer": (1, 2), "pseudotensors": True}]
        ours = [SevenNet(SevenNet.Hypers(checkpoint=name, **choice)) for choice in choices]
        monkeypatch.setattr(weights_file, "shipped", lambda checkpoint: None)
        for one, choice in zip(ours, choices, strict=True):
            original = SevenNet(SevenNet.Hypers(checkpoint=name, **choice))
            for known, found in (
                (original.network.state_dict(), one.network.state_dict()),
                (original.energy_model().state_dict(), one.energy_model().state_dict()),
            ):
                assert known.keys() == found.keys()
                assert all(torch.equal(known[key], found[key]) for key in known)
            monkeypatch.undo()
            mine = one.fingerprint(), one.energy_fingerprint()
            monkeypatch.setattr(weights_file, "shipped", lambda checkpoint: None)
            assert mine == (original.fingerprint(), original.energy_fingerprint())

    @pytest.mark.parametrize("name", weights_file.SHA256)
    def test_licence_and_checksum_are_beside_them(self, name):
        note = (weights_file.SHIPPED / "LICENSE.md").read_text(encoding="utf-8")
        assert "MIT License" in note and weights_file.SHA256[name] in note
        assert (weights_file.SHIPPED / f"{name}.safetensors").stat().st_size < 5e6

    def test_a_damaged_file_is_refused(self, monkeypatch, tmp_path):
        content = bytearray((weights_file.SHIPPED / "SevenNet-0.safetensors").read_bytes())
        content[-5] ^= 1
        (tmp_path / "SevenNet-0.safetensors").write_bytes(content)
        monkeypatch.setattr(weights_file, "SHIPPED", tmp_path)
        weights_file.shipped.cache_clear()
        try:
            with pytest.raises(ZooError, match="install crystal-tensor-zoo anew"):
                SevenNet(SevenNet.Hypers())
        finally:
            weights_file.shipped.cache_clear()


class TestModality:
    @pytest.mark.parametrize("name", [name for name, known in checkpoints.CHECKPOINTS.items() if not known.modalities])
    def test_where_there_is_none(self, name):
        with pytest.raises(ValidationError, match=f"{name} has one level of theory alone: leave modality out"):
            SevenNet.Hypers(checkpoint=name, modality="PBE")

    def test_unknown(self):
        with pytest.raises(ValidationError, match="modality is one of PBE, R2SCAN"):
            SevenNet.Hypers(checkpoint="SevenNet-MF-0", modality="r2scan")

    def test_default(self):
        assert SevenNet.Hypers(checkpoint="SevenNet-MF-0").level_of_theory == "PBE"
        assert SevenNet.Hypers().level_of_theory is None


class TestSafety:
    def test_a_file_that_would_run_code_is_refused(self, tmp_path):
        class Harmful:
            def __reduce__(self):
                return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

        torch.save({"model_state_dict": Harmful()}, tmp_path / "harmful.pth")
        with pytest.raises(ZooError, match=r"harmful.pth"):
            checkpoints.read(tmp_path / "harmful.pth")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.sevennet
    def test_the_allowed_globals_stay_allowed_here_alone(self):
        before = torch.serialization.get_safe_globals()
        checkpoints.read(checkpoints.CHECKPOINTS["SevenNet-0"].path())
        assert set(torch.serialization.get_safe_globals()) == set(before)

    def test_missing_extra(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ZooError, match=r'pip install "crystal-tensor-zoo\[sevennet\]"'):
            SevenNet(SevenNet.Hypers(checkpoint="SevenNet-MF-0"))
        assert SevenNet(SevenNet.Hypers(layer=1)).fingerprint()
        assert SevenNet.provides(SevenNet.Hypers(layer=3)).atoms == o3.Irreps("128x0e+64x1o+32x2e")

    @pytest.mark.parametrize("layer", [True, 1.0, [True]])
    def test_a_layer_is_a_whole_number(self, layer):
        with pytest.raises(ValidationError, match="valid integer"):
            SevenNet.Hypers(layer=layer)

    @pytest.mark.parametrize("layer", [0, 6, [], [1, 7], [2, 2]])
    def test_layers_that_do_not_exist(self, layer):
        with pytest.raises(ValidationError, match="layer is a number from 1 to 5, or a list of different ones"):
            SevenNet.Hypers(layer=layer)
