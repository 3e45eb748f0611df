"""`zoo convert`, and the reader of pickled modules under it: nothing of a file may ever run."""

from __future__ import annotations

import _compat_pickle
import hashlib
import lzma
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import zoo
from safetensors.torch import save_file
from torch import nn

from zoo import api as zoo_api
from zoo.api import PublicWeights, Weights, ZooError
from zoo.cli.convert_command import convert_command
from zoo.config import plugins
from zoo.storage.weights import default_path, load_weights, read_metadata, save_weights
from zoo_mace.pickled import read_pickled_module

DATA = Path(__file__).parent / "encoders" / "data"


class Block(nn.Module):
    """Everything that a module can hold, as far as it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.linear.weight.data = torch.arange(6.0).view(3, 2).T  # not contiguous
        self.layers = nn.ModuleList([nn.Linear(2, 2).double(), nn.LayerNorm(2)])
        self.register_buffer("numbers", torch.tensor([1, 8]))
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("halves", torch.arange(10.0)[2:8:2])
        self.settings = {"kind": "small", "sizes": [1, 2], "names": {"a"}}
        self.scale = np.float64(2.5)
        self.kind = nn.Linear  # a class


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, call: object, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


def save(module: object, path: Path) -> Path:
    torch.save(module, path)
    return path


class TestReader:
    def test_what_it_reads(self, tmp_path: Path) -> None:
        module = Block()
        read = read_pickled_module(save(module, tmp_path / "block.pt"))
        assert (read.name, read.module) == ("Block", Block.__module__)
        state = read.state_dict()
        assert list(state) and state.keys() == module.state_dict().keys()
        for name, value in module.state_dict().items():
            assert torch.equal(state[name], value) and state[name].dtype == value.dtype, name
        assert read.get("settings") == module.settings
        assert read.get("scale") == 2.5
        assert read.get("numbers").tolist() == [1, 8]
        assert read.get("nothing", "else") == "else"
        assert [child.name for child in read.children()["layers"].children().values()] == ["Linear", "LayerNorm"]

    @pytest.mark.parametrize(
        "attack",
        [
            Malicious(os.system, "touch MARK"),
            Malicious(eval, "open('MARK', 'w')"),
            Malicious(exec, "open('MARK', 'w')"),
            Malicious(__import__("builtins").open, "MARK", "w"),
            Malicious(map, Malicious(os.system, "touch MARK"), ["x"]),
            Malicious(torch.load, "MARK"),
        ],
        ids=["system", "eval", "exec", "open", "nested", "load"],
    )
    def test_nothing_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Malicious) -> None:
        monkeypatch.chdir(tmp_path)
        module = Block()
        module.attack = attack
        read = read_pickled_module(save(module, tmp_path / "block.pt"))
        assert not (tmp_path / "MARK").exists()
        assert read.state_dict().keys() == module.state_dict().keys()
        # Without executing it: the file holds a call of the function, which an unpickler would make.
        with zipfile.ZipFile(tmp_path / "block.pt") as file:
            (name,) = [name for name in file.namelist() if name.endswith("data.pkl")]
            steps = [(code.name, argument) for code, argument, _ in pickletools.genops(file.read(name))]
        module_name, qualified = attack.call.__module__, attack.call.__qualname__
        old = (_compat_pickle.REVERSE_IMPORT_MAPPING.get(module_name, module_name), qualified)  # torch's protocol is 2
        reference = " ".join(_compat_pickle.REVERSE_NAME_MAPPING.get((module_name, qualified), old))
        assert ("GLOBAL", reference) in steps and ("REDUCE", None) in steps, "the file holds no call to refuse"

    def test_a_graph_module_is_not_rebuilt(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """torch.fx pickles modules as source code that is executed when they are loaded."""
        monkeypatch.chdir(tmp_path)
        module = Block()
        module.graph = torch.fx.symbolic_trace(nn.Linear(2, 2))
        read = read_pickled_module(save(module, tmp_path / "block.pt"))
        assert read.children()["graph"].name == "reduce_graph_module"

    def test_attacks_by_other_names(self, tmp_path: Path) -> None:
        """Protocol 0 pickles written by hand: whatever the global, an inert record comes of it."""
        for line in (b"cposix\nsystem\n(S'touch MARK'\ntR.", b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."):
            path = tmp_path / "by_hand.pt"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", line)
            with pytest.raises(ZooError, match="an object of"):
                read_pickled_module(path)

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"not a zip", "torch.save"),
            (pickle.dumps({"a": 1}), "torch.save"),
        ],
    )
    def test_other_files(self, tmp_path: Path, content: bytes, complaint: str) -> None:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ZooError, match=complaint):
            read_pickled_module(tmp_path / "file")

    def test_a_state_dict_is_no_module(self, tmp_path: Path) -> None:
        with pytest.raises(ZooError, match="OrderedDict"):
            read_pickled_module(save(OrderedDict(a=torch.zeros(2)), tmp_path / "state.pt"))

    def test_a_tensor_out_of_its_storage(self, tmp_path: Path) -> None:
        """A hostile size or stride must not read other memory."""
        good = save(Block(), tmp_path / "good.pt")
        bad = tmp_path / "bad.pt"
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if "/data/" in name and len(content) == 24:  # linear.weight, 6 numbers
                    content = content[:8]
                target.writestr(name, content)
        with pytest.raises(ZooError, match="8 bytes"):
            read_pickled_module(bad)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that mace-torch pickled."""
    path = tmp_path / "mine.model"
    path.write_bytes(lzma.decompress((DATA / "mace" / "residual.model.xz").read_bytes()))
    return path


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestCommand:
    def test_a_file_of_ones_own(self, model: Path, tmp_path: Path) -> None:
        refused = zoo("convert", "mace", "mine.model", cwd=tmp_path)
        assert refused.returncode == 2
        assert f"--sha256 {checksum(model)}" in refused.stderr
        assert "Traceback" not in refused.stderr

        done = zoo("convert", "mace", "mine.model", "--sha256", checksum(model), "--out", "a.safetensors", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"sha256 {checksum(model)}" in done.stdout
        metadata = read_metadata("mace", tmp_path / "a.safetensors")
        assert metadata["source_sha256"] == checksum(model)
        assert metadata["source"] == "mine.model"
        assert metadata["channels"] == 4

        listed = zoo("run", "dtnet_total", "encoder={name: mace, weights: a.safetensors, layer: 7}", cwd=tmp_path)
        assert listed.returncode == 2
        assert "1 to 2" in listed.stderr

    def test_another_checksum(self, model: Path, tmp_path: Path) -> None:
        done = zoo("convert", "mace", "mine.model", "--sha256", "0" * 64, cwd=tmp_path)
        assert done.returncode == 2
        assert "--sha256 " + "0" * 64 in done.stderr

    def test_a_file_that_only_has_the_name(self, model: Path, tmp_path: Path) -> None:
        model.rename(tmp_path / "2024-01-07-mace-128-L2_epoch-199.model")
        done = zoo("convert", "mace", "2024-01-07-mace-128-L2_epoch-199.model", cwd=tmp_path)
        assert done.returncode == 2
        assert "2024-01-07-mace-128-L2_epoch-199.model" in done.stderr

    def test_an_encoder_without_weights_of_others(self, model: Path, tmp_path: Path) -> None:
        done = zoo("convert", "nequip", "mine.model", cwd=tmp_path)
        assert done.returncode == 2
        assert "nothing to convert" in done.stderr

    def test_a_model_of_something_else(self, tmp_path: Path) -> None:
        path = save(Block(), tmp_path / "block.pt")
        done = zoo("convert", "mace", "block.pt", "--sha256", checksum(path), cwd=tmp_path)
        assert done.returncode == 2
        assert "MACE potential" in done.stderr

    def test_a_module_that_contains_itself(self, tmp_path: Path) -> None:
        module = nn.Module()
        module._modules["self"] = module
        path = save(module, tmp_path / "loop.pt")
        done = zoo("convert", "mace", "loop.pt", "--sha256", checksum(path), cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "contains itself" in done.stderr

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            (RecursionError("too deep"), "RecursionError: too deep"),
            (MemoryError(), "MemoryError: "),
            (RuntimeError("one\ntwo"), "RuntimeError: one"),
            (KeyError("x"), "KeyError: 'x'"),
        ],
    )
    def test_whatever_fails_in_a_plugin(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
    ) -> None:
        class Encoder(zoo_api.Encoder):  # a stranger's, by the name of the zoo's own class
            @classmethod
            def convert(cls, source: Path) -> Weights:
                raise failure

        monkeypatch.setattr(plugins, "load", lambda kind, name: Encoder)
        path = save(Block(), tmp_path / "block.pt")
        with pytest.raises(ZooError) as caught:
            convert_command.main(["own", str(path), "--sha256", checksum(path)], standalone_mode=False)
        assert str(path) in str(caught.value) and f"({reason})" in str(caught.value)

    def test_tensors_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """safetensors refuses two names of one tensor."""

        class Encoder(zoo_api.Encoder):
            @classmethod
            def convert(cls, source: Path) -> Weights:
                shared = torch.zeros(3)
                return Weights({"a": shared, "b": shared}, {})

        monkeypatch.setattr(plugins, "load", lambda kind, name: Encoder)
        path = save(Block(), tmp_path / "block.pt")
        arguments = ["own", str(path), "--sha256", checksum(path), "--out", str(tmp_path / "a.safetensors")]
        with pytest.raises(ZooError, match="no own file"):
            convert_command.main(arguments, standalone_mode=False)
        assert not (tmp_path / "a.safetensors").exists()

    def test_the_encoder_of_a_stranger_may_be_called_encoder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Encoder(zoo_api.Encoder):
            @classmethod
            def convert(cls, source: Path) -> Weights:
                return Weights({"a": torch.zeros(3)}, {})

        Encoder.convert.__func__.__qualname__ = "Encoder.convert"  # as at the top of the stranger's module
        monkeypatch.setattr(plugins, "load", lambda kind, name: Encoder)
        path = save(Block(), tmp_path / "block.pt")
        out = tmp_path / "a.safetensors"
        arguments = ["own", str(path), "--sha256", checksum(path), "--out", str(out)]
        convert_command.main(arguments, standalone_mode=False)
        assert load_weights("own", out).tensors["a"].shape == (3,)


class TestFiles:
    def test_they_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "w.safetensors"
        save_weights("mace", Weights({"a": torch.arange(3.0)}, {"cutoff": 6.0, "elements": [1, 8]}), path)
        made = load_weights("mace", path)
        assert made.tensors["a"].tolist() == [0, 1, 2]
        assert made.metadata == {"cutoff": 6.0, "elements": [1, 8]}

    def test_of_another_encoder(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        save_weights("mace", Weights({"a": torch.arange(3.0)}, {}), path)
        with pytest.raises(ZooError, match="`zoo convert tensornet`"):
            load_weights("tensornet", path)
        path.write_bytes(b"nonsense")
        with pytest.raises(ZooError, match="damaged"):
            load_weights("mace", path)

    @pytest.mark.parametrize(
        "header",
        [
            {"encoder": "mace"},
            {"encoder": "mace", "format": "1"},
            {"encoder": "mace", "format": "1", "metadata": "{"},
            {"encoder": "mace", "format": "1", "metadata": "[" * 100_000},
            {"encoder": "mace", "format": "1", "metadata": "[]"},
        ],
        ids=["no format", "no metadata", "cut", "deep", "a list"],
    )
    def test_an_odd_header(self, tmp_path: Path, header: dict[str, str]) -> None:
        save_file({"a": torch.zeros(3)}, tmp_path / "w.safetensors", header)
        with pytest.raises(ZooError, match="convert it anew"):
            read_metadata("mace", tmp_path / "w.safetensors")

    def test_the_public_table(self) -> None:
        """No checksum was typed twice, none is cut short."""
        from zoo.config import plugins

        known: list[PublicWeights] = [
            weights
            for name in ("mace", "tensornet")
            for weights in plugins.load("encoder", name).public_weights.values()
        ]
        assert len({weights.sha256 for weights in known}) == len(known) == 7
        assert all(len(bytes.fromhex(weights.sha256)) == 32 for weights in known)
        assert default_path("mace", "x").parts[-3:] == ("weights", "mace", "x.safetensors")
