"""Requirements of every acquisition: a finite score a candidate, of that candidate alone, the same each time."""

import numpy as np
from my_plugin import MyPlugin, MyPluginHypers

VALUES = np.random.default_rng(0).normal(loc=10, scale=2, size=(5, 20))  # of five members
KEYS = [f"c-{i}" for i in range(20)]
BEST = 11.0
ACQUISITION = MyPlugin(MyPluginHypers())


def test_a_score_a_candidate() -> None:
    """It may depend on no other one, for they are gone through in parts."""
    scores = ACQUISITION.scores(VALUES, BEST, KEYS, seed=0)
    assert scores.shape == (20,)
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 1
    one_by_one = [ACQUISITION.scores(VALUES[:, i : i + 1], BEST, KEYS[i : i + 1], seed=0)[0] for i in range(20)]
    np.testing.assert_allclose(scores, one_by_one)


def test_members_have_no_order() -> None:
    """The ensemble is a set."""
    again = ACQUISITION.scores(VALUES[::-1], BEST, KEYS, seed=0)
    np.testing.assert_allclose(again, ACQUISITION.scores(VALUES, BEST, KEYS, seed=0))


def test_members_that_agree_give_a_score() -> None:
    """Their spread is zero then."""
    assert np.isfinite(ACQUISITION.scores(np.full((5, 1), BEST), BEST, ["c-0"], seed=0)).all()


def test_its_score_is_known() -> None:
    """The hyperparameter does what its docstring says."""
    values = np.array([[12.0, 10.0], [14.0, 12.0]])  # means 13 and 11
    scores = ACQUISITION.scores(values, 11.0, ["high", "even"], seed=0)
    assert scores[0] > scores[1] == 0.5
    surpass = MyPlugin(MyPluginHypers(margin=2.0)).scores(values, 11.0, ["high", "even"], seed=0)
    assert surpass[0] == 0.5 > surpass[1]
