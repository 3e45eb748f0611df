"""The numbers of table and figure."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from stand_in import stand_in, write

from zoo.cli.sweep_command import write_results
from zoo.storage.run_folder import write_json
from zoo.sweep import figure, table
from zoo.sweep.cells import expand
from zoo.sweep.study import Grid
from zoo.sweep.sweep_folder import SweepFolder
from zoo.sweep.track_sweep import best_of


@pytest.fixture
def compared(plan_of, tmp_path: Path):
    """Two cells with three seeds each: the noise of the splits is large, the difference is not."""
    plan = plan_of(
        {"grid": {"readout.name": ["dtnet", "dtnet-simple"]}, "compare": {"readout.name": "dtnet-simple"}},
        seeds=[0, 1, 2],
    )
    folder = SweepFolder(tmp_path / "out")
    for cell, errors in zip(expand(plan), ([1.0, 5.0, 2.9], [1.1, 5.3, 3.1]), strict=True):
        place = folder.cell(cell.slug)
        place.path.mkdir(parents=True)
        place.begin(cell)
        stand_in(cell, place.run, lambda seed, row: None)
        write(place.run, cell.recipe.seeds, errors)
    return plan, folder


def test_differences_are_paired_by_seed(compared) -> None:
    plan, folder = compared
    bonds, baseline = table.outcomes(expand(plan), folder, plan.sweep.compare)
    difference = bonds.differences["mae_ten"]
    assert difference["each"] == pytest.approx([-0.1, -0.3, -0.2])
    assert difference["mean"] == pytest.approx(-0.2)
    assert difference["std"] == pytest.approx(0.1)  # ddof = 1; the cells' own is 2.0
    assert not baseline.differences
    text = table.markdown([bonds, baseline], plan.sweep.compare)
    assert "-0.200 ± 0.100 (-6 %)" in text
    assert "| difference to dtnet-simple |" in text


def test_cells_that_were_tested_on_other_crystals_are_not_compared(compared) -> None:
    plan, folder = compared
    write_json(folder.cell("dtnet").run.seed(1).split, {"train": [], "val": [], "test": ["other"]})
    assert not table.outcomes(expand(plan), folder, plan.sweep.compare)[0].differences


def test_the_csv_files_hold_every_number(compared, tmp_path: Path) -> None:
    plan, folder = compared
    found = table.outcomes(expand(plan), folder, plan.sweep.compare)
    table.write_csv(folder.table, table.cell_frame(found))
    table.write_csv(folder.seeds, table.seed_frame(found))
    rows = list(csv.DictReader(folder.table.open()))
    assert [(row["readout.name"], row["crystal_system"]) for row in rows] == [
        ("dtnet", "all"), ("dtnet", "cubic"), ("dtnet-simple", "all"), ("dtnet-simple", "cubic"),
    ]  # fmt: skip
    assert float(rows[0]["mae_ten_mean"]) == pytest.approx(np.mean([1.0, 5.0, 2.9]), abs=1e-5)
    assert float(rows[0]["mae_ten_std"]) == pytest.approx(np.std([1.0, 5.0, 2.9], ddof=1), abs=1e-5)
    assert float(rows[0]["difference_mae_ten_mean"]) == pytest.approx(-0.2)
    assert rows[2]["difference_mae_ten_mean"] == ""
    seeds = [row for row in csv.DictReader(folder.seeds.open()) if row["crystal_system"] == "all"]
    assert [float(row["mae_ten"]) for row in seeds] == [1.0, 5.0, 2.9, 1.1, 5.3, 3.1]
    assert [row["seed"] for row in seeds] == ["0", "1", "2"] * 2


@pytest.mark.parametrize(
    ("errors", "improving"),
    [
        ([*np.linspace(2, 1, 40)], True),
        ([*np.linspace(2, 1, 20), *np.full(20, 1.1)], False),
        ([1.0, *np.full(31, 1.5), *np.full(4, 1.4), *np.full(4, 1.2)], True),
        ([1.0, *np.full(31, 1.5), *np.full(8, 1.4)], False),
        ([1.0], True),
    ],
)
def test_what_still_improves(errors: list[float], improving: bool) -> None:
    history = [{"epoch": k + 1.0, "val_mae_ten": error} for k, error in enumerate(errors)]
    assert table.still_improving(history) is improving


@pytest.mark.parametrize(
    "grid",
    [
        {"split.train": [4, 8, 16], "target": ["total", "ionic"]},
        {"model": {"a": {}, "b": {}}, "target": ["total"], "readout.blocks": [1, 2]},
    ],
    ids=["lines", "points"],
)
def test_a_figure_shows_every_cell(plan_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: dict) -> None:
    plan, folder = plan_of({"grid": grid}, seeds=[0, 1]), SweepFolder(tmp_path / "out")
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, format: drawn.append(self))
    for k, cell in enumerate(expand(plan)):
        folder.cell(cell.slug).begin(cell)
        stand_in(cell, folder.cell(cell.slug).run, lambda seed, row: None)
        write(folder.cell(cell.slug).run, (0, 1), [1.0 + k, 1.5 + k])
    figure.draw_grid(table.outcomes(expand(plan), folder), plan.axes, folder.figure)
    means = sorted(
        float(value)
        for axes in drawn[0].axes
        for line in axes.get_lines()
        if line.get_marker() in figure.MARKERS and line.get_markersize() == 6
        for value in np.atleast_1d(line.get_ydata())
    )
    assert means == pytest.approx([1.25 + k for k in range(len(expand(plan)))])
    assert [axes.get_title() for axes in drawn[0].axes] == grid["target"]


def test_a_number_is_told_with_its_key(plan_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "2" alone says nothing; the name of a plugin does."""
    plan, folder = plan_of({"grid": {"readout.width": [8, 16], "target": ["total"]}}), SweepFolder(tmp_path / "out")
    cells, drawn = expand(plan), []
    assert [cell.title for cell in cells] == ["readout.width 8, total", "readout.width 16, total"]
    monkeypatch.setattr(Figure, "savefig", lambda self, path, format: drawn.append(self))
    for cell in cells:
        folder.cell(cell.slug).begin(cell)
        stand_in(cell, folder.cell(cell.slug).run, lambda seed, row: None)
    figure.draw_grid(table.outcomes(cells, folder), plan.axes, folder.figure)
    assert drawn[0].axes[0].get_xlabel() == "readout.width"


def test_the_best_cell_is_one_of_the_same_target(compared, plan_of) -> None:
    plan, folder = compared
    found = table.outcomes(expand(plan), folder)
    best = best_of(found)
    assert best is not None and best.cell.slug == "dtnet"
    other = expand(plan_of({"grid": {"target": ["ionic"]}}))
    assert best_of([*found, *table.outcomes(other, folder)]) is None


def test_results_are_read_by_who_may_write_the_table(compared, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, folder = compared
    read, free = table.outcomes, []

    def watched(*arguments) -> list[table.Outcome]:
        try:
            with FileLock(folder.path / ".lock", blocking=False):
                free.append(True)
        except Timeout:
            free.append(False)
        return read(*arguments)

    monkeypatch.setattr(table, "outcomes", watched)
    write_results(Grid(plan, folder))
    assert free == [False]


def test_a_markdown_table_lines_up() -> None:
    lines = table.markdown_table(pd.DataFrame({"a": ["x|y", "z"], "bb": ["1", "10.5"]}), 1).splitlines()
    assert lines == ["| a    |   bb |", "| ---- | ---: |", "| x\\|y |    1 |", "| z    | 10.5 |"]
