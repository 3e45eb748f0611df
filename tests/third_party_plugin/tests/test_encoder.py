"""`moments`: the zoo's checks with two readouts, as a potential, and its moments against a plain sum."""

import numpy as np
import torch
from bond_polarisability import BondPolarisability, Moments
from pymatgen.core import Lattice, Structure

from zoo.testing import ConformanceTests, EncoderWithEnergy, Pair, PotentialTests

SMALL = {"channels": 8}


class TestWithItsOwnReadout(ConformanceTests):
    pair = Pair(Moments, BondPolarisability, SMALL, {"width": 8})


class TestWithDTNet(ConformanceTests):
    pair = Pair(Moments, "dtnet", SMALL, {"width": 8, "blocks": 1})


class TestAsPotential(PotentialTests):
    model = EncoderWithEnergy(Moments, SMALL)


def test_the_attention_of_a_full_shell_is_what_the_formula_says() -> None:
    """Caesium chloride, first shell alone: eight equal neighbours, so v = 0, t = 0 and every weight w / (1 + 8 w)."""
    pair = Pair(Moments, BondPolarisability, {"channels": 4, "cutoff": 3.9}, {"width": 4})
    crystal = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    batch = pair.batch([crystal])
    assert len(batch.src) == 16
    encoder = pair.model.encoder
    with torch.no_grad():
        envelope, radial, _ = encoder.edges(batch)
        element = encoder.element(batch.numbers)
        key = encoder.key(torch.cat([element[1], radial[0]]))
        w = envelope[0] * torch.sigmoid(encoder.query(element[0]) @ key / 2)
        s = 8 * w / (1 + 8 * w) * element[1] * encoder.radial(radial[0])
        power = torch.cat([element[0], s, torch.zeros(8, dtype=s.dtype)])
        expected = element[0] + encoder.scalar(power)
        got = encoder(batch).atoms
    np.testing.assert_allclose(got.scalars()[0], expected, atol=1e-12)
    assert got.vectors().abs().max() < 1e-12
    assert got.tensors().abs().max() < 1e-12
