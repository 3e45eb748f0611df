"""Figures of real tensors and of the smallest inputs: their size, their words, nothing on top of anything."""

import gc
import itertools
import struct
import weakref

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import from_voigt, moduli
from zoo.data.petousis2017 import Petousis2017
from zoo.data.symmetry import CRYSTAL_SYSTEMS, crystal_system
from zoo.data.tensors import DIELECTRIC
from zoo.evaluation import metrics
from zoo.evaluation.predictions import Predictions, once_each
from zoo.report import plots

TARGETS = ("electronic", "ionic", "total")
PARITY = (plots.parity_components, plots.parity_polycrystalline, plots.parity_eigenvalues)
BY_TENSOR = (*PARITY, plots.error_by_crystal_system)
PIXELS = {
    "parity_components": (2100, 920),
    "parity_polycrystalline": (1240, 920),
    "parity_eigenvalues": (2960, 920),
    "error_by_crystal_system": (1440, 800),
    "learning_curve": (1280, 840),
}
HISTORY = [
    {"epoch": e, "train_loss": 5 / e, "val_mae_ten": 1.2 + abs(e - 30) / 10, "lr": 1e-3 * (1 - e / 40)}
    for e in range(1, 41)
]


@pytest.fixture(scope="module")
def crystals():
    """Every tenth of the embedded table: predicted (truth and 10 % of noise), true, crystal systems, by target."""
    records = list(Petousis2017(Petousis2017.Hypers()).records())[::10]
    systems = [crystal_system(record) for record in records]
    rng = np.random.default_rng(0)
    found = {}
    for name in TARGETS:
        true = np.stack([record.targets[name] for record in records])
        factor = np.exp(0.1 * rng.normal(size=(len(true), 3, 3)))
        predicted = true * (factor + factor.transpose(0, 2, 1)) / 2
        predicted[0] = -true[0]  # models that are not positive by construction do that
        found[name] = (predicted, true, systems)
    return found


@pytest.fixture
def kept(monkeypatch):
    """The figures that are saved."""
    figures = []
    monkeypatch.setattr(plots, "_save", recorder(figures))
    return figures


def recorder(figures: list[Figure]):
    real = plots._save

    def save(figure: Figure, path):
        figures.append(figure)
        return real(figure, path)

    return save


@pytest.fixture(scope="module")
def drawn(crystals, tmp_path_factory):
    """(plot, target) -> path and figure."""
    folder, figures, paths = tmp_path_factory.mktemp("figures"), [], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_save", recorder(figures))
        for plot, target in itertools.product(BY_TENSOR, TARGETS):
            paths[plot, target] = plot(*crystals[target], DIELECTRIC[target], folder / f"{plot.__name__}_{target}.png")
    return {key: (path, figure) for (key, path), figure in zip(paths.items(), figures, strict=True)}


def size(path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


def has_colour(image: np.ndarray, colour: str) -> bool:
    return bool((np.abs(image - to_rgb(colour)).max(axis=-1) < 0.01).sum() > 20)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("plot", BY_TENSOR, ids=lambda plot: plot.__name__)
def test_picture_of_real_tensors(plot, target, drawn):
    path, _ = drawn[plot, target]
    assert path.name == f"{plot.__name__}_{target}.png"
    assert size(path) == PIXELS[plot.__name__]
    assert imread(path)[..., :3].std() > 0.05


def test_only_the_systems_that_occur_have_their_colour(crystals, drawn, tmp_path):
    predicted, true, systems = crystals["total"]
    chosen = np.isin(systems, ["cubic", "trigonal"])
    path = tmp_path / "figure.png"
    plots.parity_polycrystalline(
        predicted[chosen], true[chosen], np.array(systems)[chosen].tolist(), DIELECTRIC["total"], path
    )
    for picture, expected in ((path, {"cubic", "trigonal"}), (drawn[PARITY[1], "total"][0], set(systems))):
        image = imread(picture)[..., :3]
        coloured = {system for system in CRYSTAL_SYSTEMS if has_colour(image, plots.COLOURS[system])}
        assert coloured - {"triclinic"} == expected - {"triclinic"}  # triclinic is black, as the words are


def test_markers_and_colours_tell_all_systems_apart():
    assert len(set(plots.COLOURS.values())) == len(set(plots.MARKERS.values())) == len(CRYSTAL_SYSTEMS)


@pytest.mark.parametrize("target", TARGETS)
def test_words_on_parity_plots(target, crystals, drawn):
    predicted, true, systems = crystals[target]
    figures = [drawn[plot, target][1] for plot in PARITY]
    found = metrics.tensor_metrics(predicted, true, DIELECTRIC[target])
    titles = [axes.get_title() for figure in figures for axes in figure.axes]
    n = len(true)
    assert [title.splitlines()[-1] for title in titles[:3]] == [
        f"MAE {found[f'mae_{name}']:.3g}, n = {count}"
        for name, count in (("diag", 3 * n), ("off_diag", 3 * n), ("mean_diag", n))
    ]
    each = [float(title.split("MAE ")[1].split(",")[0]) for title in titles[3:]]
    assert np.mean(each) == pytest.approx(found["mae_eigenvalues"], rel=5e-3)
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend == [f"{s} ({systems.count(s)})" for s in CRYSTAL_SYSTEMS if s in systems]
    symbol = {"electronic": r"\varepsilon^{\infty}", "ionic": r"\varepsilon^{0}", "total": r"\varepsilon"}[target]
    assert figures[0].axes[0].get_xlabel() == f"DFPT ${symbol}_{{ij}}$ (dimensionless)"
    assert figures[0].axes[0].get_ylabel() == f"predicted ${symbol}_{{ij}}$ (dimensionless)"


def test_unit_of_other_tensors(crystals, kept, tmp_path):
    plots.parity_polycrystalline(*crystals["total"], TensorTarget("zpe", unit="C/m²"), tmp_path / "figure.png")
    assert kept[0].axes[0].get_xlabel() == r"true $T_{\mathrm{poly}}$ (C/m²)"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("plot", BY_TENSOR, ids=lambda plot: plot.__name__)
def test_nothing_overlaps_or_is_cut(plot, target, drawn):
    figure = drawn[plot, target][1]
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            assert len(ticks) >= 3
            boxes = [label.get_window_extent(renderer) for label in [*ticks, axis.label] if label.get_text()]
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other)
            for box in [*boxes, axes.title.get_window_extent(renderer)]:
                assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert box.x1 <= figure.bbox.width
        assert not any(box.overlaps(axes.bbox) for axes in figure.axes)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("plot", "panels_points"), zip(PARITY, (6, 1, 3), strict=True))
def test_every_point_lies_within_equal_square_axes(plot, panels_points, target, crystals, drawn):
    shown = 0
    for axes in drawn[plot, target][1].axes:
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.bbox.width == pytest.approx(axes.bbox.height)
        low, high = axes.get_xlim()
        for points in axes.collections:
            shown += len(points.get_offsets())
            assert (points.get_offsets() > low).all() and (points.get_offsets() < high).all()
    assert shown == len(crystals[target][1]) * panels_points


def test_bars_are_the_summary(crystals, drawn):
    predicted, true, systems = crystals["total"]
    found = metrics.summarise(predicted, true, systems, DIELECTRIC["total"])
    axes = drawn[plots.error_by_crystal_system, "total"][1].axes[0]
    heights = {CRYSTAL_SYSTEMS[round(bar.get_x() + bar.get_width() / 2)]: bar.get_height() for bar in axes.patches}
    many = {s for s in CRYSTAL_SYSTEMS if systems.count(s) >= plots.FEW}
    assert heights == {s: pytest.approx(found[s]["mae_ten"]) for s in many}
    assert axes.get_title().startswith(f"total: MAE {found['all']['mae_ten']:.3g} over")
    assert axes.get_xticklabels()[6].get_text() == f"cubic\n({systems.count('cubic')})"


def test_a_system_of_few_crystals_is_drawn_as_points(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure) or path)
    true = np.stack([np.eye(3)] * 9)
    predicted = true * np.linspace(1, 3, 9)[:, None, None]
    systems = ["triclinic"] * 3 + ["cubic"] * 6
    plots.error_by_crystal_system(predicted, true, systems, DIELECTRIC["total"], tmp_path / "x.png")
    axes = figures[0].axes[0]
    assert len(axes.patches) == 1 and len(axes.containers) == 2, "one bar with its whisker, of the cubic ones"
    (points,) = (line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata()) == 3)
    np.testing.assert_allclose(points.get_ydata(), np.abs(predicted - true)[:3].sum(axis=(1, 2)) / 6)


def test_a_crystal_that_several_seeds_tested_counts_once():
    def part(keys, value):
        return Predictions(keys, ["cubic"] * len(keys), np.full((len(keys), 3, 3), value), np.zeros((len(keys), 3, 3)))

    found = once_each([part(["a", "b"], 1.0), part(["b", "c"], 3.0)])
    assert found.keys == ["a", "b", "c"] and found.systems == ["cubic"] * 3
    np.testing.assert_array_equal(found.predicted[:, 0, 0], [1.0, 2.0, 3.0])


ELASTICITY = TensorTarget("elasticity", "ijkl=jikl=klij", unit="GPa", quantity="elastic")
BORN = TensorTarget("born", "ij", unit="e", per_atom=True)


def test_each_kind_of_tensor_has_its_plots():
    assert set(plots.plots_of(DIELECTRIC["total"])) == set(BY_TENSOR)
    assert plots.parity_moduli in plots.plots_of(ELASTICITY)
    assert plots.plots_of(BORN) == [plots.parity_components, plots.error_by_crystal_system]


@pytest.mark.parametrize("n", [0, 1, 30])
def test_stiffnesses(n, kept, tmp_path):
    """Those that are not positive definite have no moduli, and are not shown."""
    root = np.random.default_rng(0).normal(size=(n, 6, 6))
    true = from_voigt(100 * np.eye(6) + root @ root.transpose(0, 2, 1))
    predicted = 0.9 * true
    predicted[:1] *= -1
    systems = ["cubic"] * n
    for plot in plots.plots_of(ELASTICITY):
        plot(predicted, true, systems, ELASTICITY, tmp_path / f"{plot.__name__}.png")
    components, bars, of_moduli = kept
    assert components.axes[0].get_xlabel() == "true $C_{ijkl}$ (GPa)"
    if n > 1:
        assert sum(len(points.get_offsets()) for points in components.axes[0].collections) == 21 * n
        bulk, shear = (axes.collections[0].get_offsets() for axes in of_moduli.axes)
        np.testing.assert_allclose(bulk[:, 0], moduli(true)["bulk_modulus"][1:])
        np.testing.assert_allclose(shear[:, 1], 0.9 * moduli(true)["shear_modulus"][1:])
        assert bars.axes[0].get_ylabel() == "MAE of $C_{ijkl}$ (GPa)"


def test_matrices_of_no_symmetry(kept, tmp_path):
    true = np.random.default_rng(0).normal(size=(7, 3, 3))
    for plot in plots.plots_of(BORN):
        plot(true, true, ["cubic"] * 7, BORN, tmp_path / f"{plot.__name__}.png")
    assert "MAE 0, n = 63" in kept[0].axes[0].get_title()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("plot", BY_TENSOR, ids=lambda plot: plot.__name__)
def test_none_and_one(plot, n, kept, tmp_path):
    tensors = np.zeros((n, 3, 3)) + 12.3 * np.eye(3)
    path = plot(0.9 * tensors, tensors, ["cubic"] * n, DIELECTRIC["total"], tmp_path / "figure.png")
    assert size(path) == PIXELS[plot.__name__]
    assert all(("no crystals" in axes.get_title()) == (n == 0) for axes in kept[0].axes)


def test_tensors_that_are_all_zero(tmp_path):
    for plot in (plots.parity_polycrystalline, plots.error_by_crystal_system):
        path = plot(
            np.zeros((3, 3, 3)), np.zeros((3, 3, 3)), ["cubic"] * 3, DIELECTRIC["ionic"], tmp_path / "figure.png"
        )
        assert size(path) == PIXELS[plot.__name__]


@pytest.mark.parametrize("epochs", [0, 1, 2, 40])
def test_learning_curve(epochs, kept, tmp_path):
    path = plots.learning_curve(HISTORY[:epochs], tmp_path / "figure.png")
    assert size(path) == PIXELS["learning_curve"]
    if epochs:
        words = [text.get_text() for text in kept[0].legends[0].get_texts()]
        best = min(epochs, 30)
        assert words[2].startswith(f"best: {HISTORY[best - 1]['val_mae_ten']:.3g} ") and words[2].endswith(f" {best}")


def test_learning_curve_shows_what_the_history_holds(kept, tmp_path):
    plots.learning_curve(HISTORY, tmp_path / "figure.png", unit="e")
    errors, rate = kept[0].axes
    lines = {line.get_label(): line.get_ydata() for line in errors.lines}
    np.testing.assert_allclose(lines["training (loss)"], [row["train_loss"] for row in HISTORY])
    np.testing.assert_allclose(lines["validation"], [row["val_mae_ten"] for row in HISTORY])
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [row["lr"] for row in HISTORY])
    assert errors.get_yscale() == "log"  # from 5 down to 0.125
    assert errors.get_ylabel().endswith("(e)")


def test_nothing_global_is_left_behind(crystals, monkeypatch, tmp_path):
    figures, real = [], plots._save

    def save(figure: Figure, path):
        figures.append(weakref.ref(figure))
        return real(figure, path)

    monkeypatch.setattr(plots, "_save", save)
    settings = dict(matplotlib.rcParams)
    plots.parity_polycrystalline(*crystals["total"], DIELECTRIC["total"], tmp_path / "figure.png")
    plots.learning_curve(HISTORY, tmp_path / "figure.png")
    gc.collect()
    assert [figure() for figure in figures] == [None, None]
    assert dict(matplotlib.rcParams) == settings
