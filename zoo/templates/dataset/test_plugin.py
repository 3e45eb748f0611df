"""The zoo's checks: keys, order, shapes, index symmetry, and that tensor and structure are in one frame."""

from my_plugin import MyPlugin, MyPluginHypers

from zoo.testing import DatasetTests


class TestMyPlugin(DatasetTests):
    """Checks of the dataset as a recipe reads it that gives its name alone."""

    dataset = MyPlugin


def test_a_recipe_chooses() -> None:
    """The hyperparameter does what its docstring says."""
    keys = [record.key for record in MyPlugin(MyPluginHypers(halogens=("F",))).records()]
    assert keys == ["LiF", "NaF", "KF", "RbF"]
