"""Texts of a frame come back from ASE as they were."""

from __future__ import annotations

import io

import ase.io
import numpy as np
import pytest
import springs

from zoo.data.extxyz_frames import extxyz, labelled_frame
from zoo.graphs.crystal import Crystal

PLAIN = ("mp-149", "Na -> K", "Ångström", "a=b")
NUMBERS = ("0012", "T", "1.5e3", "1 2 3", "")
MARKS = ('a "b" c', "back\\slash", "{a}", "_JSON 1", "two\nlines", "tab\tand \\n")


@pytest.mark.parametrize("text", PLAIN + NUMBERS + MARKS)
def test_a_text_comes_back(text: str) -> None:
    crystal = Crystal.of(springs.salt())
    stress = np.arange(9.0).reshape(3, 3)
    stress = stress + stress.T
    frame = labelled_frame(crystal, {"key": text, "after": 3}, -1.25, np.ones((2, 3)), stress)
    again = ase.io.read(io.StringIO(extxyz([frame])), format="extxyz")
    assert again.info == {"key": text, "after": 3}
    assert again.get_potential_energy() == -1.25
    assert np.allclose(again.get_stress(voigt=False), stress)
