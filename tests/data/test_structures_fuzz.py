"""Whatever it is given, the input reader gives a Structure or a ZooError in one line: no other error, no hang."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser

from zoo.data.structure_files import structure_from_file
from zoo.data.structures import structure_from_cif, structure_from_dict
from zoo.errors import ZooError

MOST = 200  # atoms
CPU_SECONDS = 10  # for one answer, which takes less than a tenth: of this process, however busy the machine is
LIMIT = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

TEMPLATE = """data_{name}
_cell_length_a {a}
_cell_length_b {b}
_cell_length_c {c}
_cell_angle_alpha {alpha}
_cell_angle_beta {beta}
_cell_angle_gamma {gamma}
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{sites}
"""
NUMBERS = st.one_of(
    st.sampled_from(
        ["5.64", "90", "0", "-1", "1e9", "1e400", "nan", "inf", "?", ".", "5.64(3)", "1/3", "()", "''", "9" * 400]
    ),
    st.floats().map(str),
    st.text(max_size=5),
)
SYMMETRY = st.one_of(
    st.sampled_from(
        [
            "",
            "_symmetry_space_group_name_H-M 'F m -3 m'",
            "_symmetry_space_group_name_H-M 'P 99'",
            "_symmetry_Int_Tables_number 225",
            "_symmetry_Int_Tables_number 1e30",
            "_symmetry_cell_setting from_dict",
            "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,y/0,z'",
            "loop_\n_symmetry_equiv_pos_as_xyz\n" + "'x,y,z'\n" * 1000,
            "_space_group_magn.transform_BNS_Pp_abc 'a,b,9**9**9**9;0,0,0'\n_space_group_magn.number_BNS 1.1",
            "loop_\n",
            ";",
        ]
    ),
    st.text(max_size=30),
)
SITES = st.one_of(
    st.sampled_from(
        ["Na Na 0 0 0 1\nCl Cl 0.5 0.5 0.5 1", "Xx Xx 0 0 0 1", "Na Na 0 0 0 0.5", "Na Na 0 0 0 1 2", "Na"]
    ),
    st.lists(NUMBERS, max_size=18).map(" ".join),
)


def answered(read: Any, content: Any) -> Structure | None:
    """The structure, None where it is refused as it should be."""
    start = time.process_time()
    try:
        structure = read(content, MOST)
    except ZooError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 700
        return None
    finally:
        assert time.process_time() - start < CPU_SECONDS
    assert isinstance(structure, Structure) and 0 < len(structure) <= MOST
    assert np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()
    return structure


@LIMIT
@given(text=st.text())
def test_any_text_as_a_cif(text: str) -> None:
    answered(structure_from_cif, text)
    answered(structure_from_cif, f"data_x\n{text}")


@LIMIT
@given(st.data())
def test_a_cif_of_any_numbers(data: st.DataObject) -> None:
    fields = {name: data.draw(NUMBERS) for name in ("a", "b", "c", "alpha", "beta", "gamma")}
    fields |= {"a": "5.64", "b": "5.64", "c": "5.64"} if data.draw(st.booleans()) else {}
    fields |= {"alpha": "90", "beta": "90", "gamma": "90"} if data.draw(st.booleans()) else {}
    text = TEMPLATE.format(name=data.draw(NUMBERS), symmetry=data.draw(SYMMETRY), sites=data.draw(SITES), **fields)
    answered(structure_from_cif, text)


@LIMIT
@given(st.data())
def test_a_good_cif_with_a_piece_replaced(data: st.DataObject) -> None:
    good = TEMPLATE.format(
        name="x", a=4, b=4, c=5.64, alpha=90, beta=90, gamma=90,
        symmetry="_symmetry_space_group_name_H-M 'P 4/m m m'", sites="Na Na 0 0 0 1\nCl Cl 0.5 0.5 0.5 1",
    )  # fmt: skip
    assert answered(structure_from_cif, good) is not None
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(start + 40, len(good))))
    answered(structure_from_cif, good[:start] + data.draw(st.text(max_size=20)) + good[end:])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@LIMIT
@given(content=JSON)
def test_any_json_as_a_dict(content: Any) -> None:
    answered(structure_from_dict, content)


@LIMIT
@given(st.data())
def test_a_good_dict_with_a_value_replaced(data: st.DataObject) -> None:
    structure = Structure(Lattice.orthorhombic(3, 4, 5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    content = json.loads(json.dumps(structure.as_dict()))
    assert answered(structure_from_dict, content) == structure
    place: Any = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 3)):
            place = place[key]
            continue
        place[key] = data.draw(JSON)
        break
    answered(structure_from_dict, content)


@LIMIT
@given(content=st.binary(max_size=200))
def test_any_bytes_as_files(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("fuzz.cif", "POSCAR_fuzz"):
        (folder / name).write_bytes(content)
        answered(lambda path, _: structure_from_file(path), folder / name)


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 1_000_000 + "x",
        " \n" * 500_000 + "data_x",
        "data_x\n" + " 'a" * 300_000,
        "data_x\n_a '" + "b'c " * 200_000,
        "data_x\n;" + "\n;" * 500_000,
        "data_x\nloop_\n" + "_a\n" * 200_000 + "1\n" * 200_000,
        "data_" * 200_000,
        "data_x\n" + "# \n" * 300_000,
        "data_x\n_cell_length_a " + "(" * 500_000,
    ],
    ids=["empty lines", "blanks", "open quotes", "quotes", "semicolons", "columns", "blocks", "comments", "brackets"],
)
def test_a_cif_that_is_made_to_take_long(text: str) -> None:
    assert answered(structure_from_cif, text) is None


def sites(count: int) -> str:
    random = np.random.default_rng(0).random((count, 3))
    return "\n".join(f"Na Na {x:.5f} {y:.5f} {z:.5f} 1" for x, y, z in random)


def cell(symmetry: str, count: int) -> str:
    return TEMPLATE.format(
        name="x", a=50, b=50, c=50, alpha=90, beta=90, gamma=90, symmetry=symmetry, sites=sites(count)
    )


@pytest.mark.parametrize(
    ("symmetry", "count", "words"),
    [
        ("", 10_000, "10,000 atoms.* 200"),
        ("_symmetry_Int_Tables_number 225", 2, "384 atoms.* 200"),
        ("_symmetry_Int_Tables_number 225", 100, "19,200 images.* 100 sites"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\n" + "'x,y,z'\n" * 193, 1, "193 symmetry operations"),
        ("_space_group_magn.number_BNS 1.1\n_space_group_magn.name_BNS P1", 1, "magnetic space group"),
    ],
)
def test_atoms_are_counted_before_they_are_made(
    symmetry: str, count: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(CifParser, "parse_structures", lambda *arguments, **more: made.append(arguments))
    with pytest.raises(ZooError, match=words):
        structure_from_cif(cell(symmetry, count), MOST)
    assert not made


def test_a_space_group_that_is_not_known() -> None:
    with pytest.raises(ZooError, match="space group"):
        structure_from_cif(cell("_symmetry_space_group_name_H-M 'Q 9 9'", 1), MOST)


@pytest.mark.parametrize("number", [1, 2, 14, 62, 129, 166, 194, 216, 225, 227])
def test_the_count_is_that_of_the_structure(number: int) -> None:
    """On general and special positions: what has one atom more than the limit is refused, and only that."""
    places = [[0.0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0.5, 0, 0], [0.13, 0.13, 0.13], [0.11, 0.23, 0.37]]
    for place in places:
        text = cell(f"_symmetry_Int_Tables_number {number}", 0).rstrip() + "\nNa Na {} {} {} 1\n".format(*place)
        atoms = len(structure_from_cif(text))
        assert len(structure_from_cif(text, atoms)) == atoms
        if atoms > 1:
            with pytest.raises(ZooError, match=f"{atoms} atoms in the cell"):
                structure_from_cif(text, atoms - 1)


@pytest.mark.parametrize("symbol", ["Pq", "Foo", "?", ".", "Xx", "1", "Zz2"])
def test_a_site_of_no_element_is_not_taken_for_another(symbol: str) -> None:
    """pymatgen makes P of Pq and F of Foo, and leaves out `?`."""
    text = cell("", 1) + f"{symbol} {symbol} 0.5 0.5 0.5 1\n"
    with pytest.raises(ZooError, match="no chemical element"):
        structure_from_cif(text)


@pytest.mark.parametrize("symbol", ["Na1+", "NA", "na", "Cl1-", "O2-", "O", "D"])
def test_symbols_with_charges_and_in_capitals_are_read(symbol: str) -> None:
    assert len(structure_from_cif(cell("", 1) + f"x {symbol} 0.5 0.5 0.5 1\n")) == 2


def test_a_cif_runs_no_code(tmp_path: Path) -> None:
    """CVE-2024-23346: pymatgen evaluated the transformation of a magnetic space group; the one installed must not."""
    proof = tmp_path / "proof"
    call = f"().__class__.__mro__[1].__subclasses__() and open({str(proof)!r}, 'w') and a"
    for payload in (f"a,b,{call};0,0,0", f"{call},b,c;0,0,0", "a,b,9**9**9**9;0,0,0"):
        text = cell(
            f'_space_group_magn.transform_BNS_Pp_abc "{payload}"\n_space_group_magn.number_BNS 62.448\n'
            "_space_group_magn.name_BNS \"P n' m a'\"",
            1,
        )
        with pytest.raises(ZooError, match="magnetic space group"):
            structure_from_cif(text)  # would not come back if it computed the last one
        if "**" not in payload:
            with contextlib.suppress(Exception):
                CifParser.from_str(text).parse_structures()
    assert not proof.exists()
