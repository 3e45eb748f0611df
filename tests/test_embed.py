"""`zoo embed`: what is in the files is what the encoder gives, and turns as it should."""

from __future__ import annotations

import errno
import json
import resource
import shutil
from pathlib import Path

import ase
import ase.io
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from cli import accept, refused, zoo
from e3nn import o3
from pymatgen.core import Lattice, Structure
from safetensors.torch import load_file, save_file
from test_guides import DOCS, expanded
from test_readme import blocks, commands

from zoo.contract.features import Features
from zoo.data.petousis2017 import Petousis2017
from zoo.data.structure_files import structure_from_file
from zoo.graphs.graph import collate, crystal_graph
from zoo.inference import embed
from zoo.inference.feature_arrays import blocks_of
from zoo.model import checkpoint

GUIDE = (DOCS / "guides" / "embeddings.md").read_text(encoding="utf-8")
QUARTZ = Structure.from_spacegroup(
    "P3_121", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]]
)
# No symmetry at all: a crystal's mean vector does not vanish.
SKEW = Structure(
    Lattice.from_parameters(4.1, 4.7, 5.3, 80, 97, 103),
    ["Na", "Cl", "O", "Na"],
    [[0.01, 0.02, 0.03], [0.48, 0.55, 0.41], [0.1, 0.43, 0.77], [0.62, 0.03, 0.55]],
)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A trained run (nequip, two seeds), its registry, and structure files."""
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.copy(trained / "mlflow.db", tmp_path)
    shutil.copy(trained / "NaCl.cif", tmp_path)
    QUARTZ.to(str(tmp_path / "quartz.cif"))
    SKEW.to(str(tmp_path / "skew.vasp"), fmt="poscar")
    return tmp_path


def columns(path: Path) -> dict[str, np.ndarray]:
    """A Parquet file as a user of pyarrow reads it."""
    table = pq.read_table(path)
    out = {}
    for name in table.column_names:
        values = table[name].combine_chunks()
        shaped = hasattr(values, "to_numpy_ndarray")
        out[name] = values.to_numpy_ndarray() if shaped else values.to_numpy(zero_copy_only=False)
    return out


def direct(run: Path, structure: Structure) -> tuple[Features, Features]:
    """Of atoms and crystal, by the first member's encoder."""
    _, members = checkpoint.load(run / "model")
    batch = collate([crystal_graph(structure, members[0].encoder.cutoff)])
    with torch.no_grad():
        atoms = members[0].encoder(batch).atoms
    return atoms, Features(atoms.irreps, atoms.values.mean(dim=0, keepdim=True))


def write_extxyz(path: Path, structures: list[tuple[np.ndarray, list[str], np.ndarray]]) -> None:
    """Cells, symbols and positions as they are, of either handedness."""
    ase.io.write(path, [ase.Atoms(s, positions=x, cell=c, pbc=True) for c, s, x in structures], format="extxyz")


def parts(structure: Structure) -> tuple[np.ndarray, list[str], np.ndarray]:
    return structure.lattice.matrix, [site.specie.symbol for site in structure], structure.cart_coords


def test_the_files_hold_what_the_encoder_gives(folder: Path) -> None:
    done = zoo_embed(folder, "run", "NaCl.cif", "skew.vasp", "quartz.cif")
    assert "encoder   nequip of run\n" in done
    atoms, crystals = columns(folder / "embeddings.parquet"), columns(folder / "embeddings.crystals.parquet")
    assert crystals["file"].tolist() == ["NaCl.cif", "skew.vasp", "quartz.cif"]
    assert crystals["key"].tolist() == ["NaCl", "skew", "quartz"]
    assert crystals["formula"].tolist()[0] == "NaCl" and crystals["n_atoms"].tolist() == [8, 4, 9]
    for row, file in enumerate(crystals["file"]):
        structure = structure_from_file(folder / file)
        mine = atoms["crystal"] == row
        features, mean = direct(folder / "run", structure)
        assert set(atoms["file"][mine]) == {file}
        assert atoms["atom"][mine].tolist() == list(range(len(structure)))
        assert atoms["symbol"][mine].tolist() == [site.specie.symbol for site in structure]
        assert atoms["number"][mine].tolist() == [site.specie.Z for site in structure]
        np.testing.assert_allclose(atoms["position"][mine], structure.cart_coords, atol=1e-12)
        np.testing.assert_allclose(crystals["cell"][row], structure.lattice.matrix, atol=1e-12)
        for name in ("scalars", "vectors", "tensors"):
            expected = getattr(features, name)().numpy()
            assert expected.shape[-1] > 0
            np.testing.assert_allclose(atoms[name][mine], expected, atol=1e-5)
            np.testing.assert_allclose(crystals[name][row], getattr(mean, name)()[0].numpy(), atol=1e-5)
            np.testing.assert_allclose(crystals[name][row], atoms[name][mine].mean(axis=0), atol=1e-5)


def zoo_embed(folder: Path, *arguments: str) -> str:
    result = zoo("embed", *arguments, "--device", "cpu", cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_of_an_ensemble_with_trained_encoders_the_first_speaks_and_it_is_said(folder: Path) -> None:
    model = folder / "run" / "model"
    card = json.loads((model / "model.json").read_text())
    card["members"] *= 2
    (model / "model.json").write_text(json.dumps(card))
    accept(model / "model.json")
    other = load_file(model / "member_0.safetensors")
    save_file({name: value + 1 for name, value in other.items()}, model / "member_1.safetensors")
    assert "2 members" in zoo_embed(folder, "run", "skew.vasp")
    features, _ = direct(folder / "run", structure_from_file(folder / "skew.vasp"))
    np.testing.assert_allclose(columns(folder / "embeddings.parquet")["scalars"], features.scalars().numpy(), atol=1e-5)


def test_the_metadata_say_how_to_read_them(folder: Path) -> None:
    zoo_embed(folder, "models:/small-total@champion", "skew.vasp", "--bonds")
    for table in ("atoms", "crystals", "bonds"):
        path = folder / ("embeddings.parquet" if table == "atoms" else f"embeddings.{table}.parquet")
        said = json.loads(pq.read_schema(path).metadata[b"zoo"])
        assert said["encoder"]["name"] == "nequip" and said["encoder"]["settings"]["channels"] == 4
        assert len(said["encoder"]["fingerprint"]) == 64 and said["encoder"]["cutoff"] == 3.0
        assert said["model"]["name"] == "models:/small-total@champion" and said["model"]["member"] == 0
        described, found = said["tables"][table], columns(path)
        assert list(described["columns"]) == list(found)
        for name, column in described["columns"].items():
            if "irreps" in column:
                assert list(found[name].shape[1:]) == column["shape"] and len(column["axes"]) == len(column["shape"])
        irreps = o3.Irreps(described["irreps"])
        assert sum(o3.Irreps(c["irreps"]).dim for c in described["columns"].values() if "irreps" in c) == irreps.dim


def test_bonds_are_the_edges_of_their_crystals(folder: Path) -> None:
    zoo_embed(folder, "run", "skew.vasp", "quartz.cif", "--bonds")
    atoms, crystals, bonds = (columns(folder / f"embeddings{t}.parquet") for t in ("", ".crystals", ".bonds"))
    _, members = checkpoint.load(folder / "run" / "model")
    first = np.searchsorted(atoms["crystal"], bonds["crystal"])
    vector = atoms["position"][first + bonds["src"]] - atoms["position"][first + bonds["dst"]]
    vector += np.einsum("ei,eij->ej", bonds["shift"], crystals["cell"][bonds["crystal"]])
    np.testing.assert_allclose(bonds["vector"], vector, atol=1e-9)
    for row, file in enumerate(("skew.vasp", "quartz.cif")):
        structure = structure_from_file(folder / file)
        batch = collate([crystal_graph(structure, members[0].encoder.cutoff)])
        with torch.no_grad():
            expected = members[0].encoder(batch).bonds.vectors().numpy()
        np.testing.assert_allclose(bonds["vectors"][bonds["crystal"] == row], expected, atol=1e-5)


@pytest.mark.parametrize("improper", [False, True])
def test_what_is_read_back_turns_with_the_crystal(folder: Path, improper: bool) -> None:
    torch.manual_seed(3)
    turn = o3.rand_matrix().double().numpy() * (-1 if improper else 1)
    cell, symbols, positions = parts(SKEW)
    write_extxyz(folder / "both.extxyz", [(cell, symbols, positions), (cell @ turn.T, symbols, positions @ turn.T)])
    zoo_embed(folder, "run", "both.extxyz")
    atoms, crystals = columns(folder / "embeddings.parquet"), columns(folder / "embeddings.crystals.parquet")
    for table, (one, two) in (
        (atoms, (atoms["crystal"] == 0, atoms["crystal"] == 1)),
        (crystals, (np.array([True, False]), np.array([False, True]))),
    ):
        assert np.abs(table["vectors"][one]).max() > 1e-3 and np.abs(table["tensors"][one]).max() > 1e-3
        np.testing.assert_allclose(table["scalars"][two], table["scalars"][one], atol=1e-5)
        vectors = np.einsum("ij,njc->nic", turn, table["vectors"][one])
        tensors = np.einsum("ij,njkc,lk->nilc", turn, table["tensors"][one], turn)
        np.testing.assert_allclose(table["vectors"][two], vectors, atol=1e-5)
        np.testing.assert_allclose(table["tensors"][two], tensors, atol=1e-5)


def test_a_supercell_has_the_features_of_its_cell(folder: Path) -> None:
    write_extxyz(folder / "both.extxyz", [parts(SKEW), parts(SKEW * (2, 1, 3))])
    zoo_embed(folder, "run", "both.extxyz")
    crystals = columns(folder / "embeddings.crystals.parquet")
    assert crystals["n_atoms"].tolist() == [4, 24] and crystals["key"].tolist() == ["1", "2"]
    for name in ("scalars", "vectors", "tensors"):
        np.testing.assert_allclose(crystals[name][1], crystals[name][0], atol=1e-5)


def test_npz_and_parquet_agree_and_npz_needs_no_pickle(folder: Path) -> None:
    files = ["NaCl.cif", "skew.vasp"]
    zoo_embed(folder, "run", *files, "--bonds", "--out", "features.npz")
    zoo_embed(folder, "run", *files, "--bonds", "--out", "features.parquet")
    with np.load(folder / "features.npz", allow_pickle=False) as found:
        said = json.loads(found["metadata"].item())
        assert said == json.loads(pq.read_schema(folder / "features.parquet").metadata[b"zoo"])
        names = {"metadata"}
        for table in ("atoms", "crystals", "bonds"):
            suffix = "" if table == "atoms" else f".{table}"
            for name, values in columns(folder / f"features{suffix}.parquet").items():
                assert found[f"{table}_{name}"].tolist() == values.tolist(), name
                names.add(f"{table}_{name}")
        assert set(found.files) == names


def test_200_crystals_stay_in_order_across_row_groups(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "ATOMS_AT_ONCE", 300)
    records = sorted(Petousis2017(Petousis2017.Hypers()).records(), key=lambda record: record.key)[:200]
    content = {record.key: {"structure": record.structure.as_dict()} for record in records}
    (folder / "many.json").write_text(json.dumps(content))
    zoo_embed(folder, "run", "many.json")
    file = pq.ParquetFile(folder / "embeddings.parquet")
    assert file.metadata.num_row_groups >= 4
    assert max(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)) < 400
    atoms, crystals = columns(folder / "embeddings.parquet"), columns(folder / "embeddings.crystals.parquet")
    assert crystals["key"].tolist() == [record.key for record in records]
    assert crystals["crystal"].tolist() == list(range(200))
    counts = [len(record.structure) for record in records]
    assert atoms["crystal"].tolist() == np.repeat(np.arange(200), counts).tolist()
    assert atoms["number"].tolist() == [site.specie.Z for record in records for site in record.structure]
    for row in range(0, 200, 23):
        features, _ = direct(folder / "run", records[row].structure)
        np.testing.assert_allclose(atoms["tensors"][atoms["crystal"] == row], features.tensors().numpy(), atol=1e-4)


def test_what_cannot_be_embedded_is_named_and_the_others_are(folder: Path) -> None:
    (folder / "broken.cif").write_text("no crystal")
    squeezed = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
    squeezed.to(str(folder / "squeezed.vasp"), fmt="poscar")
    frames = [parts(SKEW), parts(QUARTZ)]
    write_extxyz(folder / "frames.extxyz", frames)
    text = (folder / "frames.extxyz").read_text().replace("Cl ", "Xx ")
    (folder / "frames.extxyz").write_text(text)
    files = ["broken.cif", "NaCl.cif", "squeezed.vasp", "frames.extxyz", "gone.cif", "note.txt"]
    (folder / "note.txt").write_text("")
    result = zoo("embed", "run", *files, cwd=folder)
    refused(result, "5 of 7")
    for words in ("broken.cif: ", "squeezed.vasp: ", "frames.extxyz#1: ", "gone.cif: "):
        assert f"warning: {words}" in result.stderr
    assert "note.txt: is empty" in result.stderr
    crystals = columns(folder / "embeddings.crystals.parquet")
    assert crystals["file"].tolist() == ["NaCl.cif", "frames.extxyz"] and crystals["key"].tolist() == ["NaCl", "2"]


def test_an_unusable_call_is_one_line_and_leaves_nothing(folder: Path) -> None:
    before = sorted(folder.iterdir())
    refused(zoo("embed", "sevenet", "NaCl.cif", cwd=folder), "'sevenet'", "'sevennet'?")
    refused(zoo("embed", "qqq", "NaCl.cif", cwd=folder), "'qqq' is", "no trained model")
    refused(zoo("embed", "runs/none", "NaCl.cif", cwd=folder), "folder runs/none")
    for name in ("nequip", "sevennet-scratch"):
        refused(zoo("embed", name, "NaCl.cif", cwd=folder), f"'{name}'", "zoo embed RUN_DIR")
    call = ("embed", "sevennet", "NaCl.cif")
    refused(zoo(*call, "--set", "layr=3", cwd=folder), "'layr'", "'layer'?")
    refused(zoo(*call, "--set", "layer=9", cwd=folder), "1 to 5")
    refused(zoo(*call, "--set", "layer", cwd=folder), "write key=value")
    refused(zoo(*call, "--set", "layer=1", "--set", "layer=2", cwd=folder), "given twice")
    refused(zoo("embed", "run", "NaCl.cif", "--set", "layer=3", cwd=folder), "--set", "run")
    refused(zoo("embed", "run", cwd=folder), "FILE...")
    refused(zoo("embed", "run", "gone.cif", cwd=folder), "gone.cif: ")
    refused(zoo("embed", "run", "NaCl.cif", "--out", "x.csv", cwd=folder), ".parquet or .npz")
    refused(zoo("embed", "run", "NaCl.cif", "--out", "no/x.npz", cwd=folder), "folder no")
    refused(zoo("embed", "run", "NaCl.cif", "--device", "gpu", cwd=folder), "device 'gpu'")
    assert sorted(folder.iterdir()) == before


def test_a_file_that_is_there_is_not_overwritten(folder: Path) -> None:
    (folder / "x.crystals.parquet").write_text("mine")
    refused(zoo("embed", "run", "NaCl.cif", "--out", "x.parquet", cwd=folder), "x.crystals.parquet")
    assert (folder / "x.crystals.parquet").read_text() == "mine" and not (folder / "x.parquet").exists()


@pytest.mark.parametrize("out", ["x.parquet", "x.npz"])
def test_a_full_disk_is_one_line_and_leaves_nothing(folder: Path, out: str) -> None:
    before = sorted(folder.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        result = zoo("embed", "run", "NaCl.cif", "--out", out, cwd=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(result, "no space left", "--out")
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(folder.iterdir())
    plain = Path.open

    def locked(path: Path, *arguments, **named):
        if path.name == "x.crystals.parquet.partial":
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", locked)
    refused(zoo("embed", "run", "NaCl.cif", "--out", "x.parquet", cwd=folder), "cannot write in", "Permission denied")
    assert sorted(folder.iterdir()) == before


def test_irreps_without_a_cartesian_form_come_as_blocks() -> None:
    irreps = o3.Irreps("2x1o+3x0e+4x1e+1x3o+2x0e+0x2e")
    features = Features(irreps, torch.randn(5, irreps.dim))
    found = {block.name: block for block in blocks_of(irreps)}
    assert list(found) == ["scalars", "vectors", "1e", "3o"]
    for block in found.values():
        assert block.of(features).shape == (5, *block.shape) and len(block.axes) == len(block.shape)
    assert found["scalars"].shape == (5,) and found["vectors"].shape == (3, 2)
    np.testing.assert_array_equal(found["1e"].of(features), features.block("1e").numpy())


@pytest.mark.sevennet
def test_a_pretrained_encoder_by_its_name(folder: Path) -> None:
    zoo_embed(folder, "sevennet", "quartz.cif", "--set", "layer=2", "--set", "pseudotensors=true")
    said = json.loads(pq.read_schema(folder / "embeddings.parquet").metadata[b"zoo"])
    assert said["encoder"]["settings"]["layer"] == 2 and said["model"] is None
    from zoo_sevennet import SevenNet

    encoder = SevenNet(SevenNet.Hypers(layer=2, pseudotensors=True)).eval()
    assert said["encoder"]["fingerprint"] == encoder.fingerprint()
    with torch.no_grad():
        expected = encoder(collate([crystal_graph(structure_from_file(folder / "quartz.cif"), encoder.cutoff)])).atoms
    found = columns(folder / "embeddings.parquet")
    np.testing.assert_allclose(found["scalars"], expected.scalars().numpy(), atol=1e-5)
    np.testing.assert_allclose(found["tensors"], expected.tensors().numpy(), atol=1e-5)
    np.testing.assert_allclose(found["1e"], expected.block("1e").numpy(), atol=1e-5)
    assert np.abs(found["1e"]).max() > 1e-4


@pytest.mark.sevennet
def test_the_guide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, with the small run for runs/mine, then its Python."""
    (folder / "runs").mkdir()
    shutil.move(folder / "run", folder / "runs" / "mine")
    for words in commands(GUIDE):
        arguments = [name for word in words[1:] for name in expanded(word, folder)]
        result = zoo(*arguments, cwd=folder)
        assert result.returncode == 0, f"zoo {' '.join(arguments)}: {result.stderr}"
    monkeypatch.chdir(folder)
    shown: dict = {}
    for block in blocks(GUIDE):
        if "import json" in block or "np.load" in block:
            exec(block, shown)
    assert shown["X"].shape == (20, 128)
    atoms = pq.ParquetFile(folder / "embeddings.parquet").metadata.num_rows
    assert shown["vectors"].shape == (atoms, 3, 64) and shown["tensors"].shape[:3] == (atoms, 3, 3)
