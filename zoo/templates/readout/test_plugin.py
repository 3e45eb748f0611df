"""The zoo's checks: rotations and inversion with the graph rebuilt, supercells, point groups, gradients, precision."""

from my_plugin import MyPlugin

from zoo.testing import ConformanceTests, Pair


class TestWithNequIP(ConformanceTests):
    """On an encoder that is trained with it."""

    pair = Pair("nequip", MyPlugin, encoder_hypers={"channels": 8}, readout_hypers={"width": 8})
