"""The zoo's checks: rotations and inversion with the graph rebuilt, supercells, point groups, gradients, precision."""

from my_plugin import MyPlugin

from zoo.testing import ConformanceTests, EncoderWithEnergy, Pair, PotentialTests


class TestWithBonds(ConformanceTests):
    """With a readout that reads scalars, vectors, tensors and bonds."""

    pair = Pair(MyPlugin, "dtnet", readout_hypers={"width": 8, "blocks": 1})


class TestWithoutBonds(ConformanceTests):
    """With one that reads the atoms alone."""

    pair = Pair(MyPlugin, "dtnet-simple", readout_hypers={"width": 8, "blocks": 1})


class TestAsPotential(PotentialTests):
    """With an energy on top: forces and stress are its derivatives."""

    model = EncoderWithEnergy(MyPlugin)
