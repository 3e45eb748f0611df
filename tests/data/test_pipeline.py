import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure, SymmOp

from zoo.config.dataset_settings import Cleaning, FrameCheck
from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.target import TensorTarget
from zoo.data.duplicates import Identity, KnownCrystals
from zoo.data.pipeline import prepare
from zoo.errors import ZooError

TARGETS = {name: TensorTarget(name=name) for name in ("electronic", "total")}


def rock_salt(a=5.6, elements=("Na", "Cl")):
    return Structure(Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]), elements, [[0] * 3, [0.5] * 3])


def record(key, structure=None, total=None, properties=None, **targets):
    total = {} if total is None else {"total": np.asarray(total, dtype=float)}
    return Record(key, structure or rock_salt(), {**total, **targets}, properties or {})


class Given(Dataset):
    """The records that it is given."""

    Hypers = Hypers

    def __init__(self, *records, targets=TARGETS):
        super().__init__(Hypers())
        self._records, self._targets = records, targets

    def targets(self):
        return self._targets

    def records(self):
        return iter(self._records)


def prepared(*records, target="total", cleaning=None, deduplicate=False, frame=None, bad="stop", targets=TARGETS):
    return prepare(
        Given(*records, targets=targets), target, cleaning=cleaning, deduplicate=deduplicate, frame=frame,
        on_bad_record=bad,
    )  # fmt: skip


def keys(result):
    return result.crystals.keys


def test_sorted_by_key_as_text():
    assert keys(prepared(*[record(key, total=np.eye(3)) for key in ("mp-9", "mp-10", "a")])) == ["a", "mp-10", "mp-9"]


def test_cleaning_by_the_total_tensor():
    high = np.diag([1.0, 2.0, 100.5])
    low = np.array([[5, -10.5, 0], [-10.5, 5, 0], [0, 0, 5]])
    records = [
        record("edge", total=np.diag([-10.0, 0, 100]), electronic=np.eye(3)),
        record("high", total=high, electronic=np.eye(3)),
        record("low", total=low, electronic=np.eye(3)),
        record("alone", electronic=np.eye(3) * 200),
    ]
    result = prepared(*records, target="electronic", cleaning=Cleaning())
    assert keys(result) == ["edge"]
    assert {item.key: item.reason for item in result.left_out} == {
        "high": "an element of 'total' is 100.5, outside [-10, 100]",
        "low": "an element of 'total' is -10.5, outside [-10, 100]",
        "alone": "an element of 'electronic' is 200, outside [-10, 100]",
    }
    assert keys(prepared(*records, target="electronic")) == ["alone", "edge", "high", "low"]
    only = {"electronic": TARGETS["electronic"]}
    assert keys(prepared(records[1], target="electronic", cleaning=Cleaning(), targets=only)) == ["high"]


def test_a_bad_record_stops_all_and_is_named():
    records = [record("a", total=np.eye(3)), BadRecord("b", "its CIF is broken"), BadRecord("c", "too")]
    with pytest.raises(ZooError, match=r"record b: .*\(and 1 more.*on_bad_record: skip"):
        prepared(*records)


def test_a_bad_record_is_skipped_and_listed():
    records = [BadRecord("b", "its CIF is broken"), record("a", total=np.eye(3)), record("c", electronic=np.eye(3))]
    result = prepared(*records, bad="skip")
    assert keys(result) == ["a"]
    assert result.report == {
        "used": 1,
        "counts": {"read": 1, "target": 1, "clean": 0, "frame": 0, "duplicate": 0},
        "left_out": [
            {"key": "b", "stage": "read", "reason": "its CIF is broken"},
            {"key": "c", "stage": "target", "reason": "has no 'total'"},
        ],
        "frame": None,
    }


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (np.eye(2), r"'total'.* \(3, 3\).* \(2, 2\)"),
        (np.diag([1, np.nan, 1]), "'total' holds NaN"),
    ],
)
def test_what_a_dataset_can_get_wrong_is_a_bad_record(broken, reason):
    with pytest.raises(ZooError, match=f"record b: {reason}"):
        prepared(record("a", total=np.eye(3)), record("b", total=broken))


def test_the_same_key_twice():
    twice = [record("a", total=np.eye(3)), record("a", total=2 * np.eye(3))]
    with pytest.raises(ZooError, match="record a: a second"):
        prepared(*twice)
    result = prepared(*twice, bad="skip")
    assert keys(result) == ["a"]
    np.testing.assert_array_equal(result.crystals.tensor(0), np.eye(3))
    assert result.report["counts"]["read"] == 1


def test_every_record_is_accounted_for():
    skewed = np.diag([1.0, 2.0, 3.0])
    records = [
        record("1", total=np.eye(3)),
        record("2", total=np.eye(3)),
        record("3", rock_salt(6.5), total=skewed),
        record("4", rock_salt(7.5), total=1e3 * np.eye(3)),
        record("5", electronic=np.eye(3)),
        BadRecord("6", "broken"),
    ]
    result = prepared(*records, cleaning=Cleaning(), deduplicate=True, frame=FrameCheck(drop=True), bad="skip")
    assert keys(result) == ["1"]
    stages = [(item.key, item.stage) for item in result.left_out]
    assert stages == [("6", "read"), ("5", "target"), ("4", "clean"), ("3", "frame"), ("2", "duplicate")]
    assert result.report["counts"] == dict.fromkeys(("read", "target", "clean", "frame", "duplicate"), 1)
    json.dumps(result.report)


def test_frame_offenders_are_reported_and_kept_unless_dropped():
    records = [record("good", total=np.eye(3)), record("wrong", rock_salt(6.5), total=np.diag([1.0, 2, 3]))]
    reported = prepared(*records, frame=FrameCheck())
    assert keys(reported) == ["good", "wrong"]
    (found,) = reported.report["frame"]["over_tolerance"]
    assert (found["key"], found["formula"], found["crystal_system"]) == ("wrong", "NaCl", "cubic")
    assert found["residual"] == pytest.approx((8 / 14) ** 0.5)  # diag(1, 2, 3) -> diag(3, 2, 1)
    dropped = prepared(*records, frame=FrameCheck(drop=True))
    assert keys(dropped) == ["good"]
    assert dropped.report["frame"]["over_tolerance"] == [found]


def test_tensors_of_atoms_pass_without_frame_check():
    born = {"born": TensorTarget(name="born", formula="ij", per_atom=True)}
    result = prepared(record("a", born=np.zeros((2, 3, 3))), target="born", frame=FrameCheck(), targets=born)
    assert keys(result) == ["a"] and result.report["frame"] is None
    with pytest.raises(ZooError, match=r"shape \(2, 3, 3\)"):
        prepared(record("a", born=np.zeros((3, 3))), target="born", targets=born)


def test_nothing_left_says_where_it_went():
    with pytest.raises(ZooError, match=r"'total' is left \(clean: 1; the first: a"):
        prepared(record("a", total=1e3 * np.eye(3)), cleaning=Cleaning())
    with pytest.raises(ZooError, match="empty"):
        prepared()


def test_unknown_target_names_the_nearest():
    with pytest.raises(ZooError, match=r"'totl'.* 'total'"):
        prepared(target="totl")


def test_of_duplicates_the_lowest_key_stays():
    turned = rock_salt(5.62)
    turned.apply_operation(SymmOp.from_axis_angle_and_translation((1, 2, 3), 40))
    conventional = rock_salt(5.61).make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]], in_place=False)
    result = prepared(
        record("mp-9", total=np.eye(3)),
        record("mp-10", turned, total=np.eye(3)),
        record("mp-8", conventional, total=np.eye(3)),
        deduplicate=True,
    )
    assert keys(result) == ["mp-10"]
    assert {item.key: item.reason for item in result.left_out} == {
        "mp-8": "the same crystal as mp-10",
        "mp-9": "the same crystal as mp-10",
    }


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (rock_salt(5.6 * 1.0066), True),  # 2 % in volume is 0.66 % in length
        (rock_salt(5.6 * 1.0069), False),
        (rock_salt(5.6, ("K", "Cl")), False),
        (Structure(Lattice.cubic(5.6 / 4 ** (1 / 3)), ["Na", "Cl"], [[0] * 3, [0.5] * 3]), False),  # CsCl structure
    ],
)
def test_duplicates_by_formula_space_group_and_volume(other, same):
    known = KnownCrystals([Identity.of(record("a"))])
    assert known.same_as(Identity.of(record("b", other))) == ("a" if same else None)


def test_recorded_space_groups_count():
    known = KnownCrystals([Identity.of(record("a", properties={"space_group": 225}))])
    assert known.same_as(Identity.of(record("b", properties={"space_group": 225}))) == "a"
    assert known.same_as(Identity.of(record("b", properties={"space_group": 216}))) is None
    yes = KnownCrystals([Identity.of(record("a", properties={"space_group": 1}))])
    assert yes.same_as(Identity.of(record("b", properties={"space_group": True}))) is None


def test_a_crystal_without_a_space_group_equals_none():
    twins = Structure(Lattice.cubic(4), ["H", "H"], [[0] * 3, [0] * 3])  # spglib refuses two atoms in one place
    known = KnownCrystals([Identity.of(record("a", twins))])
    assert known.same_as(Identity.of(record("b", twins))) is None


def test_settings_refuse_nonsense():
    for settings in ({"min": 5, "max": 5}, {"minimum": 0}):
        with pytest.raises(ValueError):
            Cleaning(**settings)
    for settings in ({"tolerance": 0}, {"symprec": -1}, {"dropp": True}):
        with pytest.raises(ValueError):
            FrameCheck(**settings)


def test_a_joint_record_of_charges_alone_has_no_frame_to_check():
    charges = np.stack([np.eye(3), -np.eye(3)])
    result = prepared(record("charged", born=charges), target="dielectric", frame=FrameCheck(), cleaning=Cleaning())
    assert keys(result) == ["charged"] and result.violations == []


def test_labels_beside_a_joint_target_fit_the_atoms():
    records = [record("good", total=np.eye(3)), record("bad", total=np.eye(3), born=np.eye(3))]
    result = prepared(*records, target="dielectric", bad="skip")
    assert keys(result) == ["good"]
    assert [item.reason for item in result.left_out] == ["'born' must be of shape (2, 3, 3), it is (3, 3)"]
