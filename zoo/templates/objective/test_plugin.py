"""Requirements of every objective: a number a crystal, of that crystal alone, however it is turned."""

import numpy as np
from my_plugin import MyPlugin, MyPluginHypers

from zoo.api import TensorTarget

RANDOM = np.random.default_rng(0)
HALVES = RANDOM.normal(size=(20, 3, 3))
TENSORS = 3 * np.eye(3) + HALVES + HALVES.swapaxes(1, 2)
PROPERTIES = [{"band_gap": gap} for gap in RANDOM.uniform(2, 6, 20)]
OBJECTIVE = MyPlugin(MyPluginHypers())


def test_a_number_a_crystal() -> None:
    """It may depend on no other one, for they are gone through in parts."""
    values = OBJECTIVE.values(TENSORS, PROPERTIES)
    assert values.shape == (20,)
    assert np.isfinite(values).all()
    assert len(set(values)) > 1
    one_by_one = [OBJECTIVE.values(TENSORS[i : i + 1], PROPERTIES[i : i + 1])[0] for i in range(20)]
    np.testing.assert_allclose(values, one_by_one)


def test_a_crystal_may_be_turned() -> None:
    """Its tensor turns with it; its value stays."""
    turn = np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
    np.testing.assert_allclose(
        OBJECTIVE.values(turn @ TENSORS @ turn.T, PROPERTIES), OBJECTIVE.values(TENSORS, PROPERTIES), atol=1e-10
    )


def test_what_it_is_of() -> None:
    """Other tensors are refused with a reason before anything is predicted."""
    assert MyPlugin.cannot_use(TensorTarget("total", quantity="dielectric")) is None
    assert "ij=ji" in str(MyPlugin.cannot_use(TensorTarget("elastic", formula="ijkl=jikl=klij", quantity="elastic")))
    assert set(MyPlugin.properties) <= set(PROPERTIES[0])


def test_its_value_is_known() -> None:
    """The hyperparameter does what its docstring says."""
    tensors = np.array([np.diag([5.0, 3.0, 4.0])] * 2)
    np.testing.assert_array_equal(OBJECTIVE.values(tensors, [{"band_gap": 3.0}, {"band_gap": 1.0}]), [3.0, np.nan])
    anything = MyPlugin(MyPluginHypers(least_gap=0))
    np.testing.assert_array_equal(anything.values(tensors, [{"band_gap": 3.0}, {"band_gap": 1.0}]), [3.0, 3.0])
