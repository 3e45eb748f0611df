"""`zoo cite`: the bibliography of an answer, read by a parser of BibTeX, and the facts in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bibtexparser
import pytest
import torch
import yaml
from cli import refused, zoo

from zoo import __version__
from zoo.api import Weights, references
from zoo.config import plugins, recipe
from zoo.contract.references import entries
from zoo.report import citations
from zoo.storage.weights import save_weights

ROOT = Path(__file__).parents[1]
KNOWN = (ROOT / "zoo" / "contract" / "references.bib").read_text(encoding="utf-8")
CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
ALWAYS = {"zoo", "mao2024dtnet"}
MODEL = ROOT / "tests" / "checkpoints" / "format_4"


def parsed(text: str) -> dict[str, dict[str, str]]:
    """Key -> fields, by a strict parser; the keys in their order."""
    parser = bibtexparser.bparser.BibTexParser(common_strings=True, ignore_nonstandard_types=False)
    found = bibtexparser.loads(text, parser).entries
    keys = [entry["ID"] for entry in found]
    assert len(set(keys)) == len(keys) == text.count("\n@") + text.startswith("@")
    return {entry["ID"]: entry for entry in found}


def cited(config: recipe.Recipe) -> set[str]:
    """Keys of a recipe's bibliography beside those of every one."""
    keys = list(parsed(str(citations.of_recipe(config))))
    assert keys == sorted(keys)
    assert set(keys) >= ALWAYS
    return set(keys) - ALWAYS


def test_the_publications_are_whole_and_sorted() -> None:
    found = parsed(KNOWN)
    assert list(found) == sorted(found)
    for key, entry in found.items():
        assert entry["author"] and entry["title"]
        assert entry["year"] in key and 1990 < int(entry["year"]) < 2030, key
        if entry["ENTRYTYPE"] == "article":
            assert entry["journal"] and int(entry["volume"]) and entry["pages"] and entry["doi"].startswith("10."), key
    dois = [entry["doi"] for entry in found.values() if "doi" in entry]
    assert len(set(dois)) == len(dois)


def test_the_zoo_cites_itself_as_its_citation_file_says() -> None:
    own = parsed(citations.ZOO)["zoo"]
    assert own["title"] == CFF["title"]
    assert own["author"].strip("{}") == CFF["authors"][0]["name"]
    assert own["year"] == str(CFF["date-released"].year)
    assert CFF["version"] == __version__ and __version__ in own["note"]
    by_doi = {entry["doi"]: entry for entry in parsed(KNOWN).values() if "doi" in entry}
    for reference in CFF["references"]:
        known = by_doi[reference["doi"]]
        assert (known["title"].replace("{", "").replace("}", ""), known["year"]) == (
            reference["title"],
            str(reference["year"]),
        )
        assert known["author"].startswith(reference["authors"][0]["family-names"])


@pytest.mark.parametrize("kind", ["encoder", "readout", "dataset"])
def test_what_a_plugin_cites_by_name_it_cites_as_bibtex(kind: str) -> None:
    for name in plugins.available(kind):
        plugin = plugins.load(kind, name)
        assert set(entries(plugin.citation)) <= set(parsed(KNOWN)), name
        told = f"{plugin.__doc__} {getattr(plugin, 'licence', '')}"
        if "arXiv" in told or "et al." in told or "cite " in told:
            assert plugin.citation, f"{name} names a publication and has no citation"


@pytest.mark.parametrize(
    ("name", "overrides", "keys"),
    [
        ("dtnet_total", (), {"park2024sevennet", "deng2023chgnet", "petousis2017dielectric", "jain2013materials"}),
        (
            "dielectric_all",
            (),
            {
                "park2024sevennet",
                "deng2023chgnet",
                "petousis2017dielectric",
                "jain2013materials",
                "gonze1997dynamical",
                "petretto2018phonons",
                "togo2015lifetimes",
                "togo2018phonondb",
            },
        ),
        (
            "dtnet_total",
            ("encoder={name: concatenated}",),
            {
                "park2024sevennet",
                "deng2023chgnet",
                "koker2025nequix",
                "petousis2017dielectric",
                "jain2013materials",
            },
        ),
        (
            "dtnet_total",
            ("encoder={name: sevennet, checkpoint: SevenNet-MF-0}",),
            {
                "park2024sevennet",
                "kim2025multifidelity",
                "deng2023chgnet",
                "petousis2017dielectric",
                "jain2013materials",
            },
        ),
        ("scratch_sevennet_total", (), {"park2024sevennet", "petousis2017dielectric", "jain2013materials"}),
        (
            "born_ionic",
            ("force_constants.potential={name: nequix, weights: nequix-mp-1-pft}",),
            {
                "park2024sevennet",
                "deng2023chgnet",
                "koker2025nequix",
                "koker2026pft",
                "gonze1997dynamical",
                "petousis2017dielectric",
                "jain2013materials",
            },
        ),
        (
            "elastic_matten",
            (),
            {"park2024sevennet", "deng2023chgnet", "wen2024matten", "dejong2015elastic", "jain2013materials"},
        ),
    ],
)
def test_a_recipe_cites_encoder_potential_readout_and_data(name: str, overrides: Any, keys: set[str]) -> None:
    assert cited(recipe.read(name, overrides)) == keys


def test_every_shipped_recipe_has_a_bibliography() -> None:
    for name in recipe.for_command("run"):
        assert cited(recipe.read(name)), name


def test_data_of_ones_own_and_plugins_that_say_nothing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = "dataset={name: file, path: mine.csv, targets: {total: {}}}"
    config = recipe.read("dielectric", (data,))
    text = str(citations.of_recipe(config))
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert len(comments) == 1 and comments[0].endswith("mine.csv")
    assert "petousis2017dielectric" not in parsed(text)
    monkeypatch.setattr(plugins, "origin", lambda point: "theirs 1.0")
    text = str(citations.of_recipe(config))
    assert "'susceptibility' (theirs 1.0)" in text and "'born'" not in text
    parsed(text)


def test_tuned_weights_cite_the_data_of_their_tuning(tmp_path: Path) -> None:
    weights = tmp_path / "potential.safetensors"
    sources = [{"source": {"name": "phonondb2018", "share": 0.5}}, {"source": {"name": "file", "path": "own.extxyz"}}]
    save_weights("sevennet", Weights({"x": torch.zeros(1)}, {"pretraining": {"sources": sources}}), weights)
    config = recipe.read("dtnet_total", (f"encoder.weights={weights}",))
    assert {"togo2018phonondb", "park2024sevennet", "deng2023chgnet"} <= cited(config)
    assert "own.extxyz" in str(citations.of_recipe(config))
    weights.unlink()
    text = str(citations.of_recipe(config))
    assert "togo2018phonondb" not in text and str(weights) in text


def test_the_command_takes_a_model_a_recipe_or_nothing(tmp_path: Path) -> None:
    alone = zoo("cite", cwd=tmp_path)
    assert set(parsed(alone.stdout)) >= ALWAYS and alone.returncode == 0  # without a model in the box, these alone
    model = zoo("cite", str(MODEL), cwd=tmp_path)
    assert model.returncode == 0, model.stderr
    assert set(parsed(model.stdout)) > ALWAYS
    (tmp_path / "mine.yaml").write_text(recipe.find("elastic_matten").read_text(encoding="utf-8"), encoding="utf-8")
    own = zoo("cite", "mine.yaml", cwd=tmp_path)
    assert own.stdout == zoo("cite", "elastic_matten", cwd=tmp_path).stdout
    assert "wen2024matten" in parsed(own.stdout)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dielctric_all", "Did you mean 'dielectric_all'?"),
        ("nowhere.yaml", "nowhere.yaml"),
        ("tune_sevennet_phonons", "zoo pretrain"),
        ("screen_total", "zoo screen"),
        ("qqqq", "qqqq"),
        (".", "neither a run folder nor a model folder"),
    ],
)
def test_bad_names_are_one_line(name: str, says: str, tmp_path: Path) -> None:
    refused(zoo("cite", name, cwd=tmp_path), says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@article{a, title = {x}", "balanced"),
        ("@article{, title = {x}}", "key"),
        ("@misc{a, title = {x}}\n@misc{a, title = {y}}", "two different"),
    ],
)
def test_broken_bibtex_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        entries(text)


def test_entries_keep_what_is_written() -> None:
    two = references("mao2024dtnet", "wen2024matten")
    assert list(entries("words @ before\n" + two)) == ["mao2024dtnet", "wen2024matten"]
    assert "\n".join(entries(two).values()) == two
    assert "{\\'a}" in references("batatia2022mace")
    with pytest.raises(KeyError):
        references("nobody1900")


def test_nothing_is_built_and_no_weights_are_read() -> None:
    assert cited(recipe.read("dtnet_total", ("target=nothing", "encoder={name: mace}"))) >= {"batatia2022mace"}
