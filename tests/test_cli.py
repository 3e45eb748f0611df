"""The command line as a user meets it: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import Result, accept, refused, zoo
from pymatgen.core import Lattice, Structure

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def in_process_of_its_own(prelude: str, *arguments: str, cwd: Path, **environment: str) -> Result:
    """`zoo ARGUMENTS...` after some lines of Python that change the surroundings."""
    code = f"{prelude}; import sys; sys.argv = ['zoo', *sys.argv[1:]]; from zoo.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("arguments", [(), ("data",)], ids=["zoo", "data"])
def test_a_command_alone_prints_its_help(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = zoo(*arguments, cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr
    assert result.stdout.startswith("Usage: ") and "\nCommands:\n" in result.stdout


def test_help_is_instant_and_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from zoo.cli.main import group; group(['--help'], standalone_mode=False);"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.strip().endswith("False")
    for command in ("run", "predict", "evaluate", "embed", "list", "compat", "new", "recipes", "data", "track"):
        assert command in result.stdout


def test_run_ends_in_the_table_and_what_to_do_next(trained: Path) -> None:
    out = (trained / "stdout").read_text()
    assert "MAE_ten" in out
    assert "predicting the mean" in out
    assert "models:/small-total/1 (champion)" in out
    (remark,) = [line for line in out.splitlines() if line.startswith("champion ")]
    assert "32 crystals" in remark
    assert out.strip().splitlines()[-1].startswith("next: zoo predict")


def test_what_a_command_took_counts_from_before_its_imports() -> None:
    """The clock starts with its module, which the command line imports, and torch only later."""
    code = "import sys, zoo.cli.main; print('zoo.runtime.timing' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_the_run_folder_holds_what_is_promised(trained: Path) -> None:
    content = json.loads((trained / "run" / "metrics.json").read_text())
    assert content["target"] == "total"
    assert (content["n_train"], content["n_val"], content["n_test"]) == (32, 4, 4)
    assert content["seeds"] == [0, 1]
    for name in ("mae_ten", "mae_mean_diag", "mae_diag", "mae_off_diag", "frobenius"):
        assert set(content["test"][name]) == {"mean", "std", "each"}
    assert content["per_crystal_system"]
    for name in ("parity_components", "parity_polycrystalline", "parity_eigenvalues", "learning_curve_seed_0"):
        assert (trained / "run" / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    for name in ("recipe.yaml", "run.json", "data_report.json", "seed_1/split.json", "model/model.json"):
        assert (trained / "run" / name).is_file()


def test_predict_answers_in_three_formats(trained: Path) -> None:
    shown = zoo("predict", "run", "NaCl.cif", cwd=trained)
    assert shown.returncode == 0, shown.stderr
    assert "NaCl" in shown.stdout and "cubic" in shown.stdout
    answer = json.loads(zoo("predict", "run", "NaCl.cif", "--format", "json", cwd=trained).stdout)[0]
    assert answer["file"] == "NaCl.cif"
    tensor = np.array(answer["tensor"])
    np.testing.assert_allclose(tensor, np.eye(3) * answer["polycrystalline"], atol=1e-4)
    np.testing.assert_allclose(answer["eigenvalues"], np.linalg.eigvalsh(tensor), atol=1e-6)
    rows = list(csv.DictReader(io.StringIO(zoo("predict", "run", "NaCl.cif", "--format", "csv", cwd=trained).stdout)))
    assert float(rows[0]["xx"]) == pytest.approx(tensor[0, 0])


def test_predict_by_registered_name_equals_the_run_folder(trained: Path) -> None:
    answers = [
        json.loads(zoo("predict", model, "NaCl.cif", "--format", "json", cwd=trained).stdout)
        for model in ("run", "small-total", "models:/small-total/1", "models:/small-total@champion")
    ]
    assert all(answer == answers[0] for answer in answers)


def test_track_twice_does_no_harm(trained: Path) -> None:
    first, second = (zoo("track", "run", cwd=trained) for _ in range(2))
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout


def test_lists_for_scripts(tmp_path: Path) -> None:
    plugins = json.loads(zoo("list", "--json", cwd=tmp_path).stdout)
    assert {"nequip", "sevennet", "dtnet", "petousis2017"} <= {plugin["name"] for plugin in plugins}
    pairs = json.loads(zoo("compat", "--json", cwd=tmp_path).stdout)
    assert {"encoder": "nequip", "readout": "dtnet", "works": True, "reason": None, "caveat": None} in pairs


def test_what_a_plugin_takes(tmp_path: Path) -> None:
    """Types as a recipe has them, brackets that are no markup, the keys inside a table, and how files are laid out."""
    said = zoo("list", "mace", cwd=tmp_path).stdout
    assert "int | list[int]" in said
    said = zoo("list", "file", cwd=tmp_path).stdout
    assert "targets.NAME.per_atom" in said and '{"total": {"quantity": "total dielectric"}}' in said
    assert "target_xx, target_xy" in said and "Raises" not in said
    assert "no keys" in zoo("list", "petousis2017", cwd=tmp_path).stdout


def test_predict_names_the_files_that_it_cannot_answer(trained: Path) -> None:
    """A thousand files are not refused for one."""
    (trained / "cut.cif").write_text((trained / "NaCl.cif").read_text()[:200])
    dimer = Structure(Lattice.cubic(3.0), ["Cu", "Cu"], [[0, 0, 0], [0.1, 0, 0]])
    dimer.to(str(trained / "POSCAR_close"), fmt="poscar")
    result = zoo("predict", "run", "cut.cif", "NaCl.cif", "POSCAR_close", "--format", "csv", cwd=trained)
    assert [row["file"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["NaCl.cif"]
    refused(result, "2 of 3")
    assert "warning: cut.cif: " in result.stderr and "POSCAR_close: Cu" in result.stderr
    nothing = zoo("predict", "run", "cut.cif", "missing.cif", cwd=trained)
    assert nothing.stdout == ""
    refused(nothing, "2 of 2")


BAD = {
    "a misspelt key": (["run", "small.yaml", "training.max_epoch=3"], ["max_epoch", "'max_epochs'?"]),
    "a misspelt key in a table": (
        ["run", "small.yaml", "dataset={name: file, path: x.csv, targets: {total: {quantty: elastic}}}"],
        ["'targets.total.quantty'", "'quantity'?"],
    ),
    "one of several types": (
        ["run", "small.yaml", "encoder={name: sevennet, layer: two}"],
        ["'sevennet': layer: input"],
    ),
    "a value error": (["run", "small.yaml", "encoder={name: sevennet, layer: 9}"], ["'sevennet': layer"]),
    "no list": (["run", "small.yaml", "seeds=3"], ["seeds: "]),
    "a missing data file": (["data", "check", "nothere.csv"], ["nothere.csv: "]),
    "an unknown encoder": (["run", "small.yaml", "encoder.name=nequipp"], ["nequipp", "'nequip'?"]),
    "an unknown target": (["run", "small.yaml", "target=totl"], ["totl", "'total'?"]),
    "an unknown recipe": (["run", "dtnet_totl"], ["'dtnet_total'?"]),
    "an unknown command": (["runn", "small.yaml"], ["'run'?"]),
    "no recipe": (["run"], ["zoo run dtnet_total"]),
    "an unknown device": (["run", "small.yaml", "device=gpu"], ["device 'gpu'"]),
    "a pair that does not fit": (
        ["run", "small.yaml", "encoder.l_max=1"],
        ["'dtnet'", "2e"],
    ),
    "a folder that is not empty": (["run", "small.yaml", "--out", "run"], ["is not empty", "--resume"]),
    "nothing to resume": (["run", "--resume", "nowhere"], ["nowhere", "recipe.yaml"]),
    "no such file": (["predict", "run", "missing.cif"], ["missing.cif", "no such file"]),
    "a name that no file can have": (["run", "small.yaml", "--out", "x" * 300], ["xxx... is longer"]),
    "a broken CIF": (["predict", "run", "broken.cif"], ["broken.cif"]),
    "partial occupancies": (["predict", "run", "partial.cif"], ["partial.cif", "partly occupied"]),
    "overlapping atoms": (["predict", "run", "overlap.cif"], ["Cu", "0.5 Å apart"]),
    "no element": (["predict", "run", "dummy.cif"], ["dummy.cif", "no chemical element"]),
    "a folder of files": (["predict", "run", "run/figures"], ["run/figures: no file of crystals is in it"]),
    "no file": (["predict", "run"], ["name the files", "zoo predict run"]),
    "no such model": (["predict", "small-totl", "NaCl.cif"], ["no model", "'small-total'?"]),
    "no option": (["predict", "run", "NaCl.cif", "--fromat", "json"], ["--fromat", "--format"]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line(trained: Path, what: str) -> None:
    (trained / "broken.cif").write_text("data_x\n_cell_length_a nonsense\n")
    mixed = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    mixed.to(str(trained / "partial.cif"))
    close = Structure(Lattice.cubic(4), ["Cu"] * 3, [[0, 0, 0], [0.05, 0, 0], [0.5, 0.5, 0.5]])
    close.to(str(trained / "overlap.cif"))
    Structure(Lattice.cubic(4), ["X", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(trained / "dummy.cif"))
    arguments, words = BAD[what]
    refused(zoo(*arguments, cwd=trained), *words)


def test_a_refused_recipe_leaves_no_folder(trained: Path) -> None:
    before = list((trained / "runs").glob("*"))
    refused(zoo("run", "small.yaml", "encoder.layr=3", cwd=trained), "'layer'?")
    refused(zoo("run", "small.yaml", "sweep.grid.encoder.layr=[1,2]", cwd=trained), "layr")
    assert list((trained / "runs").glob("*")) == before


def test_a_tensor_that_is_not_3x3_is_named(trained: Path) -> None:
    content = {
        "good": {"structure": ROCK_SALT.as_dict(), "total": np.eye(3).tolist()},
        "bad": {"structure": ROCK_SALT.as_dict(), "total": [[1, 2], [3, 4]]},
    }
    (trained / "mine.json").write_text(json.dumps(content))
    dataset = "dataset={name: file, path: mine.json, targets: {total: {}}}"
    refused(zoo("run", "small.yaml", dataset, "--out", "tensor", cwd=trained), "bad", "3×3")


@pytest.mark.extended
def test_a_missing_extra_names_the_install(trained: Path) -> None:
    hide = "import sys; sys.modules['sevenn'] = None"
    arguments = ("run", "small.yaml", "encoder={name: sevennet, checkpoint: SevenNet-MF-0}", "--out", "extra")
    refused(in_process_of_its_own(hide, *arguments, cwd=trained), 'pip install "crystal-tensor-zoo[sevennet]"')


@pytest.mark.extended
def test_a_full_disk_is_told_and_named(trained: Path) -> None:
    """A limit on the size of files stands in for a disk that is full: both fail within a write."""
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    )
    arguments = ("run", "small.yaml", "tracking.enabled=false", "--out", "full")
    result = in_process_of_its_own(limit, *arguments, cwd=trained, ZOO_CACHE=str(trained / "cache"))
    refused(result, "no space left")


def test_a_server_that_is_down_loses_nothing(trained: Path) -> None:
    uri = "tracking.uri=http://127.0.0.1:9"
    result = zoo("run", "small.yaml", uri, "--out", "offline", cwd=trained)
    refused(result, "http://127.0.0.1:9", "zoo track offline")
    assert "MAE_ten" in result.stdout
    assert zoo("predict", "offline", "NaCl.cif", cwd=trained).returncode == 0
    later = zoo("track", "offline", "--uri", "sqlite:///later.db", cwd=trained)
    assert later.returncode == 0, later.stderr
    assert "models:/small-total/1" in later.stdout


def test_a_model_of_a_newer_format_or_a_missing_plugin_is_named(trained: Path) -> None:
    for change, words in (
        ({"format_version": 99}, ["format version 99", "pip install -U"]),
        ({"recipe": ("encoder", "name", "theirs")}, ["theirs", "not installed"]),
    ):
        shutil.rmtree(trained / "other", ignore_errors=True)
        shutil.copytree(trained / "run" / "model", trained / "other")
        path = trained / "other" / "model.json"
        content = json.loads(path.read_text())
        if "format_version" in change:
            content |= change
        else:
            content["recipe"]["encoder"]["name"] = "theirs"
        path.write_text(json.dumps(content))
        accept(path)
        refused(zoo("predict", "other", "NaCl.cif", cwd=trained), *words)


def test_a_recipe_can_be_copied_and_run(trained: Path) -> None:
    text = zoo("recipes", "dtnet_total", cwd=trained).stdout
    assert yaml.safe_load(text)["name"] == "dtnet_total"
    assert "#" in text
    assert "dtnet_total" in zoo("recipes", cwd=trained).stdout


@pytest.mark.extended
def test_ctrl_c_says_how_to_go_on(trained: Path) -> None:
    """In the third epoch the user interrupts; the resumed run ends as any other."""
    interrupted = (
        "from zoo.training import trainer as t; T = t.Trainer; old = T._step\n"
        "def step(self, engine, batch):\n"
        "    if engine.state.epoch == 3: raise KeyboardInterrupt\n"
        "    return old(self, engine, batch)\n"
        "T._step = step\n"
        "pass"
    )
    arguments = ("run", "small.yaml", "training.max_epochs=4", "--out", "interrupted")
    result = in_process_of_its_own(interrupted, *arguments, cwd=trained)
    assert result.returncode == 130
    assert "--resume interrupted" in result.stderr
    assert "Traceback" not in result.stderr
    again = zoo("run", "--resume", "interrupted", cwd=trained)
    assert again.returncode == 0, again.stderr
    assert json.loads((trained / "interrupted" / "metrics.json").read_text())["epochs"] == [4]


def test_a_table_in_a_notebook_is_not_cut(tmp_path: Path) -> None:
    """Jupyter asks for colours by FORCE_COLOR, and names a backend of matplotlib that zoo may not have."""
    jupyter = {"FORCE_COLOR": "1", "MPLBACKEND": "module://nobody.has_this_backend"}
    result = in_process_of_its_own("import os; os.environ.pop('COLUMNS', None)", "list", cwd=tmp_path, **jupyter)
    assert result.returncode == 0, result.stderr
    assert "…" not in result.stdout
    draws = "import zoo.cli.main as m; m.group = lambda **_: __import__('matplotlib')"  # as each command that draws
    drawn = in_process_of_its_own(draws, cwd=tmp_path, **jupyter)
    assert drawn.returncode == 0, drawn.stderr
