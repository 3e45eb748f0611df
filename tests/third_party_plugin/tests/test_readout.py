"""`bond-polarisability`: the zoo's checks with an encoder of the zoo, and Long's formula."""

import numpy as np
import torch
from bond_polarisability import BondPolarisability, BondPolarisabilityHypers
from e3nn import o3

from zoo.api import CrystalBatch, Embedding, Features, Provides, TensorTarget, polynomial_envelope
from zoo.testing import ConformanceTests, Pair


class TestWithNequIP(ConformanceTests):
    pair = Pair("nequip", BondPolarisability, {"channels": 8}, {"width": 8})


def test_bonds_along_z_have_two_polarisabilities() -> None:
    """One atom and its two images along z, nothing else: diagonal, with α + 2 f α_T twice and α + 2 f α_L once."""
    provides = Provides(o3.Irreps("4x0e"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        readout = BondPolarisability(BondPolarisabilityHypers(width=8), provides, 4.0, TensorTarget("t")).double()
    batch = CrystalBatch(
        positions=torch.zeros(1, 3, dtype=torch.float64),
        numbers=torch.tensor([22]),
        cell=torch.diag(torch.tensor([9.0, 9.0, 2.5], dtype=torch.float64)).unsqueeze(0),
        crystal=torch.tensor([0]),
        src=torch.tensor([0, 0]),
        dst=torch.tensor([0, 0]),
        shift=torch.tensor([[0, 0, 1], [0, 0, -1]]),
    )
    scalars = torch.linspace(-1, 1, 4, dtype=torch.float64).unsqueeze(0)
    seen = []
    readout.bond.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        tensor = readout(Embedding(Features(o3.Irreps("4x0e"), scalars)), batch)[0]
        alpha = readout.atom(scalars).item()
    longitudinal, transverse = (
        2 * polynomial_envelope(torch.tensor(2.5, dtype=torch.float64), 4.0) * seen[0][0]
    ).tolist()
    assert abs(longitudinal - transverse) > 1e-3
    expected = np.diag([alpha + transverse, alpha + transverse, alpha + longitudinal])
    np.testing.assert_allclose(tensor, expected, atol=1e-12)


def test_it_says_what_it_cannot_make() -> None:
    assert BondPolarisability.cannot_make(TensorTarget("total")) is None
    assert "ijkl" in BondPolarisability.cannot_make(TensorTarget("elastic", "ijkl=jikl=klij"))
    assert "intensive" in BondPolarisability.cannot_make(TensorTarget("total", intensive=False))
