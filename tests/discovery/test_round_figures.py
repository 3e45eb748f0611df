"""The pictures of a discovery: what is drawn of rounds made of real labels, and of the smallest ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Circle
from matplotlib.text import Text
from pymatgen.core import Lattice, Structure

from zoo.contract.target import TensorTarget
from zoo.data.petousis2017 import Petousis2017
from zoo.discovery import screen_figures
from zoo.discovery.rounds import round_figures
from zoo.discovery.rounds.evaluated_candidates import EvaluatedCandidate
from zoo.discovery.rounds.round_results import for_reading
from zoo.evaluation.derived import polycrystalline

pytestmark = pytest.mark.extended

WORDS = "polycrystalline constant (dimensionless)"
RECORDS = list(Petousis2017(Petousis2017.Hypers()).records())
TENSORS = np.stack([record.targets["total"] for record in RECORDS])
VALUES = polycrystalline(TENSORS)
KNOWN = slice(0, 400)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    real = round_figures.save

    def save(figure: Figure, path: Path) -> Path:
        figures.append(figure)
        return real(figure, path)

    monkeypatch.setattr(round_figures, "save", save)
    return figures


def asked(rounds: int, top: int = 20) -> list[EvaluatedCandidate]:
    """Of real labels, predicted with 20 % of noise; every seventh calculation fails."""
    random = np.random.default_rng(0)
    found = []
    for number, i in enumerate(400 + random.permutation(600)[: rounds * top]):
        mean, ended = float(VALUES[i] * math.exp(0.2 * random.normal())), number % 7 != 3
        found.append(
            EvaluatedCandidate(
                number // top + 1,
                number % top + 1,
                RECORDS[i].key,
                RECORDS[i].structure.composition.reduced_formula,
                mean,
                0.1 * mean,
                mean,
                TENSORS[i],
                False,
                "done" if ended else "failed",
                tensor=TENSORS[i] if ended else None,
                value=float(VALUES[i]) if ended else math.nan,
                properties=RECORDS[i].properties,
            )
        )
    return found


def one(value: float = math.nan, number: int = 1, rank: int = 1, **changes: Any) -> EvaluatedCandidate:
    """A crystal with an isotropic tensor, or a failed one."""
    ended = not math.isnan(value)
    made = EvaluatedCandidate(
        number, rank, f"k-{number}-{rank}", "NaCl", 2.0, 0.5, 2.0, np.eye(3), None, "done" if ended else "failed"
    )
    return replace(made, **{"tensor": value * np.eye(3) if ended else None, "value": value, **changes})


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points_of(figure: Figure, label: str) -> np.ndarray:
    (found,) = (points for points in figure.axes[0].collections if points.get_label() == label)
    return np.asarray(found.get_offsets())


def assert_readable(figure: Figure) -> None:
    """Nothing is cut, and no words are on other words."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = []
    for axes in figure.axes:
        shown: list[Text] = (
            [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts] if axes.axison else [axes.title]
        )
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            shown += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes += [text.get_window_extent(renderer) for text in shown if text.get_text()]
    for legend in figure.legends:
        boxes.append(legend.get_window_extent(renderer))
        assert not any(boxes[-1].overlaps(axes.bbox) for axes in figure.axes)
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    for first, second in itertools.combinations(boxes, 2):
        assert not first.overlaps(second)


@pytest.mark.parametrize("rounds", [1, 3, 12])
def test_pictures_of_real_labels_are_readable(rounds: int, drawn: list[Figure], tmp_path: Path) -> None:
    some, settings = asked(rounds), dict(matplotlib.rcParams)
    start = float(VALUES[KNOWN].max())
    runs = {name: [round_figures.best_so_far(some, start)] * 3 for name in (*round_figures.COLOURS, "a stranger's")}
    counts = {name: [np.arange(len(each)) / 20 for each in some_runs] for name, some_runs in runs.items()}
    borders = round_figures.borders_of(some)
    best = [
        (f"{RECORDS[i].structure.composition.reduced_formula}, 1\n{i}", RECORDS[i].structure) for i in range(rounds)
    ]
    paths = [
        round_figures.progress({"ucb": runs["ucb"][:1]}, tmp_path / "0.png", WORDS, start, some, borders),
        round_figures.progress(runs, tmp_path / "1.png", WORDS, start, borders=borders),
        round_figures.found(counts, tmp_path / "2.png", 20, borders),
        round_figures.parity(some, tmp_path / "3.png", WORDS),
        round_figures.crystals(best, tmp_path / "4.png"),
    ]  # fmt: skip
    assert paths == [tmp_path / f"{i}.png" for i in range(5)]
    assert len(drawn) == 5
    for figure, path in zip(drawn, paths, strict=True):
        assert_readable(figure)
        assert path is not None and imread(path)[..., :3].std() > 0.05
    assert dict(matplotlib.rcParams) == settings


def test_counts_of_few_crystals_have_plain_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Matplotlib labels 2×10⁰, 3×10⁰, 4×10⁰, ... where a logarithmic axis is shorter than a decade."""
    figures: list[Figure] = []
    means, chosen = np.array([1.0, 2.0, 2.0, 2.0, 2.0, 3.0]), np.arange(6) == 5
    monkeypatch.setattr(screen_figures, "_means", lambda folder, places: [(means, chosen)])
    monkeypatch.setattr(screen_figures, "save", lambda figure, path: figures.append(figure))
    config: Any = SimpleNamespace(
        acquisition=SimpleNamespace(name="ucb"), objective=SimpleNamespace(name="polycrystalline")
    )
    folder: Any = SimpleNamespace(figures=tmp_path)
    screen_figures.histogram(config, folder, TensorTarget("total", "ij=ji"), 6, [5])
    FigureCanvasAgg(figures[0]).draw()
    axis = figures[0].axes[0].yaxis
    assert {label.get_text() for label in axis.get_ticklabels(minor=True)} == {""}
    assert {"1", "2", "5"} <= {label.get_text() for label in axis.get_ticklabels()}


@pytest.mark.parametrize(
    ("cell", "shown"),
    [("12.3457", "12.35"), ("38215.7", "38216"), ("0.00123457", "0.001235"), ("12345", "12345"), ("",) * 2],
)
def test_numbers_of_rounds_are_shown_with_few_digits(cell: str, shown: str) -> None:
    assert for_reading(cell) == shown


def test_best_so_far_counts_calls() -> None:
    some = [
        one(3.0, 2, 1),
        one(rank=1),
        one(2.0, rank=2),
        one(1.0, rank=3),
        one(rank=4, status="waiting"),
        one(7.0, 2, 2, status="done"),
    ]
    np.testing.assert_array_equal(round_figures.best_so_far(some, 1.5), [1.5, 1.5, 2, 2, 3, 7])  # by round and rank
    np.testing.assert_array_equal(round_figures.best_so_far(some, None), [np.nan, np.nan, 2, 2, 3, 7])
    np.testing.assert_array_equal(round_figures.best_so_far(some, 9.0), [9] * 6)
    np.testing.assert_array_equal(round_figures.best_so_far([], 1.5), [1.5])
    assert round_figures.borders_of(some) == [3]
    assert round_figures.borders_of(asked(3)) == [20, 40]
    assert round_figures.borders_of([]) == round_figures.borders_of([one(1.0)]) == []


def test_progress_of_one_run(drawn: list[Figure], tmp_path: Path) -> None:
    some = asked(3)
    curve = round_figures.best_so_far(some, 10.0)
    round_figures.progress({"greedy": [curve]}, tmp_path / "p.png", WORDS, 10.0, some, round_figures.borders_of(some))
    (axes,) = drawn[0].axes
    (line,) = (line for line in axes.lines if line.get_label() == "greedy")
    np.testing.assert_array_equal(line.get_xydata(), np.stack([np.arange(61), curve], axis=1))
    assert line.get_drawstyle() == "steps-post" and line.get_color() == "#D55E00"
    values = np.array([each.value for each in some])
    results = points_of(drawn[0], "result of a call")
    ended = np.isfinite(values)
    np.testing.assert_array_equal(results[ended], np.stack([np.arange(1, 61), values], axis=1)[ended])
    (lost,) = (line for line in axes.lines if line.get_label() == "no result")
    np.testing.assert_array_equal(lost.get_xdata(), np.arange(1, 61)[~ended])
    assert legend_of(drawn[0]) == ["greedy", "result of a call", "no result", "best at the start"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("calls of the oracle", WORDS)
    assert axes.get_xlim()[0] == 0 and 60 < axes.get_xlim()[1] < 63
    assert [line.get_xdata()[0] for line in axes.lines if line.get_color() == "#bbbbbb"] == [20, 40]
    assert [text.get_text().strip() for text in axes.texts] == ["round", "1", "2", "3"]
    assert drawn[0].legends[0].get_title().get_text() == ""


def test_progress_of_several_runs_is_their_mean_as_far_as_all_have_come(drawn: list[Figure], tmp_path: Path) -> None:
    runs = [np.array([np.nan, 1.0, 2.0, 5.0]), np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 3.0])]
    round_figures.progress({"ucb": runs, "mine": runs[1:2], "random": []}, tmp_path / "p.png", WORDS)
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(lines["ucb"].get_ydata(), [np.nan, 2, 3])
    np.testing.assert_allclose(lines["mine"].get_ydata(), runs[1])
    assert lines["mine"].get_color() not in round_figures.COLOURS.values()
    (band,) = axes.collections
    low, high = band.get_datalim(axes.transData).intervaly
    assert (low, high) == (pytest.approx(1.0), pytest.approx(4.0))  # 2 ± 1 and 3 ± 1
    assert to_hex(band.get_facecolor()[0]) == round_figures.COLOURS["ucb"].lower()
    assert drawn[0].legends[0].get_title().get_text() == "mean and standard deviation of 1 to 3 runs"
    assert not [line for line in axes.lines if line.get_linestyle() == ":"]  # no start is given


def test_acquisitions_have_their_colours_in_any_order(drawn: list[Figure], tmp_path: Path) -> None:
    names = [*round_figures.COLOURS, "one", "other"]
    for order in (names, names[::-1]):
        round_figures.progress({name: [np.arange(3.0)] for name in order}, tmp_path / "p.png", WORDS)
    first, second = ({line.get_label(): line.get_color() for line in figure.axes[0].lines} for figure in drawn)
    assert len({first[name] for name in names}) == 6
    assert all(first[name] == second[name] == colour for name, colour in round_figures.COLOURS.items())
    assert round_figures.COLOURS["random"] == "#777777"


@pytest.mark.parametrize("runs", [{}, {"ucb": []}, {"ucb": [np.array([3.0])]}, {"ucb": [np.full(4, np.nan)]}])
def test_no_calls_or_no_values_are_no_picture(runs: dict, tmp_path: Path) -> None:
    assert round_figures.progress(runs, tmp_path / "p.png", WORDS, 1.0) is None
    assert round_figures.found(runs, tmp_path / "p.png", 20) is None
    assert not list(tmp_path.iterdir())


def test_the_only_value_is_seen(drawn: list[Figure], tmp_path: Path) -> None:
    round_figures.progress({"ucb": [round_figures.best_so_far([one(4.0)], None)]}, tmp_path / "p.png", WORDS)
    (line,) = drawn[0].axes[0].lines
    assert line.get_marker() == "o" and line.get_xydata()[line.get_markevery()].tolist() == [[1.0, 4.0]]


def test_found_of_the_best(drawn: list[Figure], tmp_path: Path) -> None:
    round_figures.found({"ucb": [np.array([0, 1, 2]), np.array([0, 0, 1])]}, tmp_path / "p.png", 8, [1])
    (axes,) = drawn[0].axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0, 0.5, 1.5])
    assert axes.get_ylim() == (0, pytest.approx(8.32))
    assert axes.get_ylabel() == "found of the 8 best crystals"
    assert "all 8" in legend_of(drawn[0])


def test_parity(drawn: list[Figure], tmp_path: Path) -> None:
    some = asked(3)
    round_figures.parity(some, tmp_path / "p.png", WORDS)
    (axes,) = drawn[0].axes
    texts = legend_of(drawn[0])
    everything = []
    for number in (1, 2, 3):
        here = np.array([(e.value, e.mean) for e in some if e.round == number and e.status == "done"])
        label = f"{number}: MAE {np.abs(here[:, 0] - here[:, 1]).mean():.3g}, n = 17"
        assert texts[number - 1] == label
        np.testing.assert_array_equal(points_of(drawn[0], label), here)
        everything.append(here)
    off = np.abs(np.diff(np.concatenate(everything)))
    assert texts[3:] == [f"all: MAE {off.mean():.3g}, n = 51", "no result: 9"]
    assert axes.get_xlim() == axes.get_ylim() and axes.get_xscale() == axes.get_yscale() == "log"
    low, high = axes.get_xlim()
    assert low < np.concatenate(everything).min() and np.concatenate(everything).max() < high
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f"calculated {WORDS}", f"predicted {WORDS}")
    bars = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([np.ptp(bar[:, 1]) / bar[:, 1].mean() for bar in bars], 0.2)  # ± 10 %


def test_parity_of_the_smallest(drawn: list[Figure], tmp_path: Path) -> None:
    """One point; a negative value; no standard deviation; nothing."""
    round_figures.parity([one(2.0)], tmp_path / "p.png", WORDS)
    round_figures.parity(
        [one(-3.0, std=math.nan), one(8.0, rank=2), one(rank=3, status="waiting")], tmp_path / "p.png", WORDS
    )
    for figure, low, high in zip(drawn, (2, -3), (2, 8), strict=True):
        assert_readable(figure)
        (axes,) = figure.axes
        assert axes.get_xscale() == "linear" and axes.get_xlim() == axes.get_ylim()
        assert axes.get_xlim()[0] < low and high < axes.get_xlim()[1]
    assert legend_of(drawn[0]) == ["1: MAE 0, n = 1"]
    assert legend_of(drawn[1]) == ["1: MAE 5.5, n = 2"]
    assert round_figures.parity([], tmp_path / "none.png", WORDS) is None
    assert round_figures.parity([one(), replace(one(2.0), value=math.nan)], tmp_path / "none.png", WORDS) is None


SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(4.0), ["Ba", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
)


def test_crystals(drawn: list[Figure], tmp_path: Path) -> None:
    best = [("BaTiO3, 30\nkey_$1$", PEROVSKITE), ("salt\nno $", SALT.get_primitive_structure())]
    round_figures.crystals(best, tmp_path / "p.png")
    first, second = drawn[0].axes
    assert first.get_title() == "BaTiO₃, 30\nkey_$1$" and second.get_title() == "salt\nno $"
    for axes, atoms in ((first, 5), (second, 8)):  # conventional cells
        assert len([patch for patch in axes.patches if isinstance(patch, Circle)]) == atoms


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (4, (2, 3)), (12, (3, 3))])
def test_up_to_nine_crystals(count: int, grid: tuple[int, int], drawn: list[Figure], tmp_path: Path) -> None:
    titles = [f"{i}" for i in range(count)]
    round_figures.crystals([(title, RECORDS[int(title)].structure) for title in titles], tmp_path / "p.png")
    assert [axes.get_title() for axes in drawn[0].axes if axes.patches] == titles[:9]
    assert drawn[0].axes[0].get_gridspec().get_geometry() == grid
    assert_readable(drawn[0])
    assert round_figures.crystals([], tmp_path / "none.png") is None
