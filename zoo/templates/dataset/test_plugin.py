"""The zoo's checks: keys, order, shapes, index symmetry, and that tensor and structure are in one frame."""

from my_plugin import MyPlugin, MyPluginHypers

from zoo.testing import DatasetTests


class TestMyPlugin(DatasetTests):
    """As a recipe that names the dataset alone reads it."""

    dataset = MyPlugin


def test_a_recipe_chooses() -> None:
    """The hyperparameter does what its docstring says."""
    keys = [record.key for record in MyPlugin(MyPluginHypers(halogens=("F",))).records()]
    assert keys == ["LiF", "NaF", "KF", "RbF"]
