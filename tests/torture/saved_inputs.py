"""Inputs that the zoo has written itself: the files of a model folder, and of the cache. One of them is changed.

The changed input is a name, a word and the content: `stale` leaves the checksums as they were, `sealed` renews them, as
somebody does who has changed a file on purpose.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from torture.mutations import changed_binary, changed_bytes, changed_text, changed_value, pick

SAVED = Path(__file__).parents[1] / "checkpoints" / "format_4"
FILES = ("model.json", "checksums.json", "reference.json", "predictions.csv", "member_0.safetensors",
         "member_1.safetensors", "reference.safetensors")  # fmt: skip


def packed(name: str, word: str, content: bytes) -> bytes:
    """One input of the three."""
    return f"{name}\n{word}\n".encode() + content


def unpacked(data: bytes) -> tuple[str, str, bytes]:
    """Name, word and content."""
    name, word, content = data.split(b"\n", 2)
    return name.decode(), word.decode(), content


def changed_file(path: Path, random: np.random.Generator) -> tuple[bytes, str]:
    """The content of a file after a change that fits its format."""
    if path.suffix not in (".json", ".csv", ".jsonl"):
        return changed_binary(path.read_bytes(), path.read_bytes(), random)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json" and random.random() < 0.6:
        value, how = changed_value(json.loads(text), random)
        return json.dumps(value).encode("utf-8", "surrogatepass"), how
    text, how = changed_text(text, text, random)
    return changed_bytes(text, random), how


def change_model(random: np.random.Generator) -> tuple[bytes, str]:
    """A file of a model folder, changed by accident or on purpose."""
    name, word = pick(random, FILES), pick(random, ("stale", "sealed", "sealed"))
    content, how = changed_file(SAVED / name, random)
    return packed(name, word, content), f"{name} ({word}): {how}"


_MEMBERS: list[Any] = []


@contextlib.contextmanager
def members_again() -> Iterator[None]:
    """Members of the untouched settings are made once, and handed out again to each case.

    Making the modules of one takes a tenth of a second, and reading a model a hundredth beside it. Loading writes over
    all that a member has learned, so nothing is left of the case before. Other settings are made as they come.
    """
    from zoo.model import tensor_model

    build, used = tensor_model.build, itertools.count()
    card = _untouched_card()
    untouched = (card.recipe.encoder, card.recipe.readout, card.target, card.recipe.force_constants.potential)

    def again(*settings: Any) -> Any:
        if settings != untouched:
            return build(*settings)
        number = next(used)
        if number == len(_MEMBERS):
            _MEMBERS.append(build(*settings))
        return _MEMBERS[number]

    with mock.patch.object(tensor_model, "build", again):
        yield


@cache
def _untouched_card() -> Any:
    from zoo.model.checkpoint import read_card

    return read_card(SAVED)


def read_model(data: bytes, folder: Path) -> None:
    """Load the model and ask it: the answer of the untouched model or, after a change on purpose, a finite one.

    The crystal lies within what the model has seen, so that all that is loaded has its part in the answer.
    """
    from zoo.inference.predictor import Predictor
    from zoo.storage import checksums

    name, word, content = unpacked(data)
    place = folder / "model"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(SAVED, place)
    (place / name).write_bytes(content)
    if word == "sealed" and name != checksums.NAME:
        checksums.seal(place, [name])
    expected = _expected()
    with members_again():
        found = _answer(Predictor.load(place))
    assert np.isfinite(found["tensor"]).all(), "an answer that is not finite"
    if word == "stale" and name != "predictions.csv":
        assert repr(found) == repr(expected), "another answer, without a word"


def _answer(predictor: Any) -> dict[str, Any]:
    from torture.inputs import some_crystals

    answer = predictor.predict(some_crystals()[0], neighbours=2)
    return {"tensor": answer.tensor.tolist(), "nearest": answer.nearest, "intervals": answer.intervals}


@cache
def _expected() -> dict[str, Any]:
    from zoo.inference.predictor import Predictor

    return _answer(Predictor.load(SAVED))


def _prepared(folder: Path, place: Path) -> dict[str, str]:
    """Prepare the small dataset with the cache in `place`: hashes of all that a training takes from it."""
    from torture.facts import digest
    from zoo.config.dataset_settings import FrameCheck
    from zoo.data.file import File
    from zoo.data.pipeline import prepare
    from zoo.graphs.store import GraphStore

    os.environ["ZOO_CACHE"] = str(place)
    dataset = File(File.Hypers(path=str(folder / "crystals.json"), targets={"total": {}}))
    prepared = prepare(dataset, "total", cleaning=None, deduplicate=True, frame=FrameCheck(), on_bad_record="skip")
    crystals = prepared.crystals
    graphs = GraphStore.build([crystals[i] for i in range(len(crystals))], 4.0, crystals.keys)
    arrays = {f"graph {i}: {name}": value for i, one in enumerate(graphs) for name, value in vars(one).items()}
    arrays |= {"tensors": crystals.tensors().numpy(), "facts": crystals.facts}
    found = {name: digest(np.ascontiguousarray(array).tobytes()) for name, array in arrays.items()}
    return found | {"names": f"{crystals.keys} {crystals.formulas}", "report": repr(prepared.report)}


def make_cache(folder: Path) -> None:
    """Make what the cases of the cache begin with, in a process whose memory and threads nobody minds."""
    from torture.inputs import datasets

    folder.mkdir(parents=True)
    (folder / "crystals.json").write_text(datasets()[0], encoding="utf-8")
    expected = _prepared(folder, folder / "cache")
    assert _prepared(folder, folder / "cache") == expected
    (folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")


def place_of_cache() -> Path:
    """The folder that `make_cache` has filled."""
    return Path(os.environ["TORTURE_CACHE"])


def change_cache(random: np.random.Generator) -> tuple[bytes, str]:
    """A file of the cache, changed by accident."""
    place = place_of_cache() / "cache"
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.suffix != ".lock")
    path = pick(random, files)
    content, how = changed_file(path, random)
    name = str(path.relative_to(place))
    return packed(name, "stale", content), f"{path.parent.parent.name}/{path.name}: {how}"


def read_cache(data: bytes, folder: Path) -> None:
    """Prepare the dataset anew with the changed cache: the same comes from it, made anew where that is needed."""
    name, _, content = unpacked(data)
    made, place = place_of_cache(), folder / "cache"
    expected = json.loads((made / "expected.json").read_text(encoding="utf-8"))
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made / "cache", place)
    (place / name).write_bytes(content)
    found = _prepared(made, place)
    other = [key for key in expected if found.get(key) != expected[key]]
    assert not other and len(found) == len(expected), f"another {', '.join(other[:3])}, without a word"
