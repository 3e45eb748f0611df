import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure

from zoo.cli.data_command import data_command
from zoo.errors import ZooError


def zoo_data(*arguments):
    result = CliRunner().invoke(data_command, [str(argument) for argument in arguments])
    if isinstance(result.exception, ZooError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def mine(tmp_path):
    """A tetragonal crystal in its frame, one out of it, one without the tensor, and a broken one."""
    lattice = Lattice.tetragonal(4.6, 2.95)
    rutile = Structure.from_spacegroup(136, lattice, ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]).as_dict()
    records = {
        "right": {"structure": rutile, "total": np.diag([6.0, 6.0, 8.0]).tolist()},
        "wrong": {"structure": rutile, "total": np.diag([8.0, 6.0, 6.0]).tolist()},
        "other": {"structure": rutile, "electronic": np.eye(3).tolist()},
        "broken": {"structure": rutile, "total": [1, 2, 3]},
    }
    (tmp_path / "mine.json").write_text(json.dumps(records))
    return tmp_path / "mine.json"


def test_list():
    text = zoo_data("list").output
    for name in ("petousis2017", "dtnet-mp", "file"):
        assert name in text


def test_info():
    text = zoo_data("info", "petousis2017").output
    assert "records   1,056" in text
    assert "ionic (ij=ji, unit 1, ionic dielectric): 1,056 crystals" in text
    assert "CC0" in text


def test_info_names_what_cannot_be_read(mine):
    result = zoo_data("info", mine)
    assert "records   2, and 2" in result.output
    assert "broken: 'total' must be 3×3, it is 3" in result.stderr


def test_fetch_without_need():
    assert zoo_data("fetch", "petousis2017").output == "petousis2017 needs no download\n"


def test_check_as_table(mine):
    result = zoo_data("check", mine)
    text = result.output
    assert "tetragonal" in text and "rotation about it changes nothing" in text
    assert [line.split() for line in text.splitlines() if "TiO2" in line] == [["wrong", "TiO2", "tetragonal", "0.243"]]
    assert "data.frame.drop=true" in text
    assert "broken" in result.stderr


def test_check_as_json(mine):
    content = json.loads(zoo_data("check", mine, "--format", "json").stdout)
    (offender,) = content["offenders"]
    # A quarter turn about c takes diag(8, 6, 6) to diag(6, 8, 6).
    assert offender["key"] == "wrong"
    assert offender["residual"] == pytest.approx((8 / 136) ** 0.5)
    assert [row["crystal_system"] for row in content["summary"]] == ["tetragonal", "all"]
    assert content["summary"][0]["over"] == 1
    assert content["summary"][0]["zero_proves"].startswith("the orientation")
    assert {record["key"] for record in content["unreadable"]} == {"broken", "other"}


def test_check_as_csv(mine):
    rows = list(csv.DictReader(io.StringIO(zoo_data("check", mine, "--format", "csv").stdout)))
    assert [(row["key"], row["over"]) for row in rows] == [("right", "false"), ("wrong", "true")]
    assert float(rows[0]["residual"]) < 1e-9


def test_check_with_a_wider_tolerance(mine):
    text = zoo_data("check", mine, "--tolerance", "0.5").output
    assert "over 0.5" in text


def test_check_of_another_target(mine):
    content = json.loads(zoo_data("check", mine, "--target", "electronic", "--format", "json").stdout)
    assert content["target"] == "electronic" and content["summary"][-1]["count"] == 1


def test_check_of_a_recipe(mine, tmp_path):
    """Takes dataset and target from it."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"name: mine\ndataset: {{name: file, path: '{mine}', targets: {{electronic: {{}}, total: {{}}}}}}\n"
        "target: electronic\nencoder: {name: nequip}\nreadout: {name: dtnet}\n"
    )
    content = json.loads(zoo_data("check", recipe, "--format", "json").stdout)
    assert content["target"] == "electronic" and content["summary"][-1]["count"] == 1
    content = json.loads(zoo_data("check", recipe, "--target", "total", "--format", "json").stdout)
    assert content["without_target"] == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["petousis"], "Did you mean 'petousis2017'"),
        (["none.json"], "none.json: no such file"),
        (["petousis2017", "--target", "totl"], "Did you mean 'total'"),
        (["file"], "file itself"),
        (["petousis2017", "--tolerance", "0"], "greater than 0"),
        (["petousis2017", "--tolerance", "inf"], "--tolerance"),
        (["petousis2017", "--symprec", "nan"], "--symprec"),
    ],
)
def test_check_refuses(arguments, line):
    with pytest.raises(ZooError, match=line):
        zoo_data("check", *arguments)


def test_nothing_readable(tmp_path):
    (tmp_path / "a.json").write_text('{"a": {}}')
    with pytest.raises(ZooError, match="none of its 1 records is a crystal, or has a 'structure'"):
        zoo_data("check", tmp_path / "a.json")


def test_error_on_the_command_line_is_one_line(tmp_path):
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "data", "check", "petousis"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert run.returncode == 2 and run.stdout == ""
    assert len(run.stderr.splitlines()) == 1 and "petousis2017" in run.stderr
