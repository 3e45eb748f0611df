"""Hostile pickles, written instruction by instruction: nothing outside of the file's own numbers is touched."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.api import ZooError
from zoo_mace import pickled
from zoo_mace.pickled import read_pickled_module

NUMBERS = torch.arange(4.0)
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
MODULE = b"cm\nModule\n)\x81"  # an instance, without state
EMPTY_MODULE = MODULE + b"}U\x08_modules}sb"


def text(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()


def storage(count: int, kind: str = "FloatStorage") -> bytes:
    """The storage `0` of the archive."""
    return (
        b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text("0") + text("cpu") + number(count) + b"tQ"
    )


def tensor(size: int, stride: int, held: int = 4) -> bytes:
    return TENSOR + b"(" + storage(held) + b"K\x00" + number(size) + b"\x85" + number(stride) + b"\x85\x89}tR"


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def written(
    path: Path, instructions: bytes, numbers: bytes | None = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    raw = NUMBERS.numpy().tobytes() if numbers is None else numbers
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + instructions + b".")
        archive.writestr("a/data/0", raw, compression)
    return path


def refused(path: Path, complaint: str) -> None:
    with pytest.raises(ZooError, match=complaint) as caught:
        read_pickled_module(path)
    assert len(str(caught.value).splitlines()) == 1


def test_the_instructions_here_make_a_module(tmp_path: Path) -> None:
    """So that what is refused below is refused for what the test says."""
    attributes = b"(" + text("_modules") + b"}" + text("_buffers") + b"}" + text("x") + tensor(4, 1) + b"su"
    read = read_pickled_module(written(tmp_path / "m", MODULE + b"}" + attributes + b"b"))
    assert torch.equal(read.state_dict()["x"], NUMBERS)


class TestState:
    """BUILD calls `__setstate__`, or sets attributes, of whatever is on the stack."""

    def test_a_tensor_keeps_its_storage(self, tmp_path: Path) -> None:
        """torch's own `Tensor.__setstate__` would make a tensor of 100 numbers of a storage of 4."""
        state = b"(" + tensor(4, 1) + b"K\x00K\x64\x85K\x01\x85t"
        refused(written(tmp_path / "m", tensor(4, 1) + state + b"b"), "it sets attributes of a Tensor")

    @pytest.mark.parametrize("name", ["_utils\n_rebuild_parameter", "_utils\n_rebuild_tensor_v2"])
    def test_functions_of_the_reader_stay_as_they_are(self, tmp_path: Path, name: str) -> None:
        state = b"}" + text("__defaults__") + b"K\x05\x85s"
        path = written(tmp_path / "m", f"ctorch.{name}\n".encode() + b"N" + state + b"\x86b")
        before = (pickled._parameter.__defaults__, pickled._tensor.__defaults__)
        refused(path, "it sets attributes of a function")
        assert (pickled._parameter.__defaults__, pickled._tensor.__defaults__) == before

    @pytest.mark.parametrize(
        ("target", "kind"),
        [
            (b"cm\nName\n", "class"),
            (b"ccollections\nOrderedDict\n", "class"),
            (b"]", "list"),
            (b"}", "dict"),
            (b"K\x01", "int"),
        ],
    )
    def test_other_targets(self, tmp_path: Path, target: bytes, kind: str) -> None:
        path = written(tmp_path / "m", target + b"}" + text("x") + b"K\x01sb")
        refused(path, f"it sets attributes of a {kind}")

    def test_methods_of_a_dict_stay(self, tmp_path: Path) -> None:
        """torch's state dicts hold an attribute; here it is dropped, whatever its name."""
        ordered = b"ccollections\nOrderedDict\n)R}" + text("items") + b"K\x01sb"
        attributes = b"(" + text("_modules") + b"}" + text("kept") + ordered + b"u"
        read = read_pickled_module(written(tmp_path / "m", MODULE + b"}" + attributes + b"b"))
        assert list(read.state["kept"].items()) == []


class TestItems:
    @pytest.mark.parametrize(
        ("instructions", "kind"),
        [
            (tensor(4, 1) + b"K\x00K\x07s", "Tensor"),
            (tensor(4, 1) + b"(K\x00K\x07u", "Tensor"),
            (tensor(4, 1) + b"K\x07a", "Tensor"),
            (b"}K\x07a", "dict"),
            (b"](K\x07\x90", "list"),
            (b"]K\x00K\x07s", "list"),
            (b"cm\nName\n(K\x07e", "class"),
        ],
    )
    def test_only_into_containers(self, tmp_path: Path, instructions: bytes, kind: str) -> None:
        refused(written(tmp_path / "m", instructions), f"it adds items to a {kind}")


class TestCalls:
    @pytest.mark.parametrize(
        ("instructions", "complaint"),
        [
            (tensor(4, 1) + b")R", "it calls a Tensor"),
            (MODULE + b")R", "it calls a Module"),
            (b"ccollections\nOrderedDict\n)\x81", "it makes an instance of a type"),
            (b"ctorch._utils\n_rebuild_parameter\n)\x81", "it makes an instance of a function"),
            (b"ctorch\nSize\n)}\x92", "it makes an instance of a type"),
            (b"cm\nName\n" + tensor(4, 1) + b"R", "it calls with a Tensor of arguments"),
            (b"ctorch\nSize\n" + tensor(4, 1) + b"\x85R", "it makes a tuple of something other than a list"),
            (b"(im\nName\n", "an instruction that torch.save does not write"),
            (b"(ccollections\nOrderedDict\no", "an instruction that torch.save does not write"),
            (b"\x82\x01", "an instruction that torch.save does not write"),
            (b"P0\n", "an instruction that torch.save does not write"),
            (b"\x96" + (10**12).to_bytes(8, "little"), "an instruction that torch.save does not write"),
            (b"(U\x05otherN" + text("0") + b"NK\x01tQ", "it refers to something other than a storage"),
            (b"cm\nx\x1b[31m\n", "a name has unprintable characters"),
        ],
    )
    def test_only_known_ones(self, tmp_path: Path, instructions: bytes, complaint: str) -> None:
        refused(written(tmp_path / "m", instructions), complaint)


class TestSizes:
    """A small file takes little memory."""

    @pytest.fixture(autouse=True)
    def little(self) -> object:
        tracemalloc.start()
        yield
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 20e6

    def test_one_number_again_and_again(self, tmp_path: Path) -> None:
        refused(written(tmp_path / "m", tensor(10**8, 0)), "a tensor has more numbers than its storage")

    def test_out_of_the_storage(self, tmp_path: Path) -> None:
        refused(written(tmp_path / "m", tensor(5, 1)), "a tensor reaches out of its storage")
        refused(written(tmp_path / "m", tensor(2, -1)), "a tensor reaches out of its storage")

    def test_a_compressed_storage(self, tmp_path: Path) -> None:
        path = written(tmp_path / "m", tensor(1, 1, 10**7), bytes(4 * 10**7), zipfile.ZIP_DEFLATED)
        tracemalloc.reset_peak()
        refused(path, "a/data/0 is compressed")

    def test_a_storage_of_another_size(self, tmp_path: Path) -> None:
        path = written(tmp_path / "m", tensor(1, 1), bytes(4 * 10**7))
        tracemalloc.reset_peak()
        refused(path, "storage 0 has 40000000 bytes, not 4 numbers")

    def test_a_compressed_pickle(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "m", "w") as archive:
            archive.writestr("a/data.pkl", bytes(4 * 10**7), zipfile.ZIP_DEFLATED)
        tracemalloc.reset_peak()
        refused(tmp_path / "m", "a/data.pkl is compressed")

    def test_a_long_pickle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pickled, "_MOST_PICKLE", 1000)
        refused(written(tmp_path / "m", EMPTY_MODULE + bytes(1000)), "its pickle has .* bytes, more than 1000")

    def test_many_copies_of_a_storage(self, tmp_path: Path) -> None:
        """Each tensor is within its storage, all of them together are not within any memory."""
        many = b"(" + b"".join(tensor(10**5, 1, 10**5) for _ in range(100)) + b"t"
        path = written(tmp_path / "m", many, bytes(4 * 10**5))
        refused(path, "it makes more than a file of its size can hold")


class TestTrees:
    def test_a_module_in_itself(self, tmp_path: Path) -> None:
        module = nn.Module()
        module._modules["self"] = module
        torch.save(module, tmp_path / "m")
        refused(tmp_path / "m", "a module that contains itself")

    def test_a_module_in_two_to_the_hundred_places(self, tmp_path: Path) -> None:
        module = nn.Module()
        for _ in range(100):
            above = nn.Module()
            above.left = above.right = module
            module = above
        torch.save(module, tmp_path / "m")
        refused(tmp_path / "m", "or too many modules")

    def test_groups_of_another_kind(self, tmp_path: Path) -> None:
        attributes = b"(" + text("_modules") + tensor(4, 1) + text("_buffers") + b"]u"
        read = read_pickled_module(written(tmp_path / "m", MODULE + b"}" + attributes + b"b"))
        assert read.state_dict() == {} and read.children() == {} and read.get("x") is None


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_torch(tmp_path: Path, protocol: int) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    module.kept = {"a": {1, 2}, "b": [1.5, None], "c": torch.Size([2, 3]), "d": module.state_dict()}
    torch.save(module, tmp_path / "m", pickle_protocol=protocol)
    read = read_pickled_module(tmp_path / "m")
    assert all(torch.equal(read.state_dict()[name], value) for name, value in module.state_dict().items())
    assert read.state_dict().keys() == module.state_dict().keys()
    assert read.get("kept")["a"] == {1, 2} and read.get("kept")["c"] == (2, 3)
    assert read.get("kept")["d"].keys() == module.kept["d"].keys()
