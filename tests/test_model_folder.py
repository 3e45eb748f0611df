"""Saved models: every format version that ever was loads, and what is damaged is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli import accept

from zoo.data.structures import structure_from_dict
from zoo.errors import ZooError
from zoo.inference.predictor import Predictor
from zoo.model import checkpoint

FORMATS = sorted((Path(__file__).parent / "checkpoints").glob("format_*"))


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_a_model_of_every_format_loads_and_answers_as_it_did(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    answer = Predictor.load(folder).predict([structure_from_dict(expected["structure"])])[0]
    np.testing.assert_allclose(answer.tensor, expected["answer"]["tensor"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer.spread, expected["answer"]["spread"], rtol=1e-3, atol=1e-5)
    assert answer.warnings == tuple(expected["answer"]["warnings"])
    for name, interval in expected["answer"].get("intervals", {}).items():
        np.testing.assert_allclose(answer.intervals[name], interval, rtol=1e-3, err_msg=name)


def test_the_present_format_is_among_them() -> None:
    assert f"format_{checkpoint.FORMAT_VERSION}" in {folder.name for folder in FORMATS}, (
        "the format was counted up: python scripts/make_format_checkpoint.py tests/checkpoints/format_N, and commit it"
    )


def damaged(tmp_path: Path, change) -> Path:
    """A model folder with a change that its checksums do not speak of."""
    copy = tmp_path / "model"
    shutil.copytree(FORMATS[-1], copy)
    (copy / "checksums.json").unlink()
    change(copy)
    return copy


@pytest.mark.parametrize(
    "name", ["model.json", "member_0.safetensors", "member_1.safetensors", "reference.json", "reference.safetensors"]
)
@pytest.mark.parametrize("kind", ["flipped", "cut", "empty"])
def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "model" / name
    shutil.copytree(FORMATS[-1], path.parent)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped": content, "cut": content[: len(content) // 2], "empty": b""}[kind])
    with pytest.raises(ZooError, match=rf"{name} is damaged.*checksums.json"):
        Predictor.load(path.parent)
    accept(path)  # as the line says: what is wrong is then whatever its reader finds
    if kind != "flipped":
        with pytest.raises(ZooError, match=name):
            Predictor.load(path.parent)


def test_an_older_model_is_said_to_have_no_checksums(caplog: pytest.LogCaptureFixture) -> None:
    Predictor.load(FORMATS[2])
    assert "no checksums" in caplog.text
    caplog.clear()
    Predictor.load(FORMATS[3])
    assert "no checksums" not in caplog.text


def edit(**values):
    def change(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "model.json").unlink(), "holds no model"),
        (lambda folder: (folder / "model.json").write_text("{"), "no valid JSON"),
        (lambda folder: (folder / "model.json").write_text("[]"), "format version"),
        (edit(format_version=99), "format version 99"),
        (edit(members=[{"seed": 0}]), "damaged"),
        (edit(target={"name": "total", "formula": "[i=i["}), "damaged.*small letters"),
        (lambda folder: (folder / "member_1.safetensors").unlink(), "member_1.safetensors is missing"),
        (lambda folder: (folder / "member_1.safetensors").write_bytes(b"x" * 100), "is damaged"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(ZooError, match=message) as caught:
        checkpoint.load(damaged(tmp_path, change))
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        content = json.loads((folder / "model.json").read_text())
        content["recipe"]["readout"]["width"] = 5
        (folder / "model.json").write_text(json.dumps(content))

    with pytest.raises(ZooError, match="installed plugins"):
        checkpoint.load(damaged(tmp_path, change))


def test_an_ensemble_of_members_gives_mean_and_spread() -> None:
    expected = json.loads((FORMATS[-1] / "expected.json").read_text())
    predictor = Predictor.load(FORMATS[-1])
    tensors = predictor.tensors([structure_from_dict(expected["structure"])])
    assert [tensor.shape for tensor in tensors] == [(2, 3, 3)]
    answer = predictor.predict([structure_from_dict(expected["structure"])])[0]
    np.testing.assert_allclose(answer.tensor, tensors[0].mean(0), atol=1e-6)  # zeros are zeros in an answer
    np.testing.assert_allclose(answer.spread, tensors[0].std(0, ddof=1))
