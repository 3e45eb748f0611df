"""Who trains which cell: after a failure, a stop, and beside other processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from stand_in import stand_in

from zoo.config import recipe
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json
from zoo.sweep import sweep_config, table
from zoo.sweep.cells import Cell, expand
from zoo.sweep.search import Search
from zoo.sweep.study import Grid
from zoo.sweep.sweep_folder import SweepFolder

GRID = {"grid": {"training.learning_rate": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}
SEARCH = {
    "optuna": {
        "trials": 8,
        "search": {
            "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "training.batch_size": {"low": 4, "high": 64, "step": 4},
            "size": {"choices": {"small": {"readout": {"width": 4}}, "large": {"readout": {"width": 16}}}},
        },
    }
}


def trained(folder: SweepFolder) -> list[str]:
    return (folder.path / "trained.log").read_text().split()


def states(plan: sweep_config.Plan, folder: SweepFolder) -> list[tuple[str, str]]:
    """Slug and state of each trial of a grid, in the order in which they were enqueued."""
    return [(trial.user_attrs["zoo_cell"], trial.state.name) for trial in Grid(plan, folder).trials]


def run_it(plan: sweep_config.Plan, folder: SweepFolder, train: Any, said: list[str] | None = None) -> None:
    Grid(plan, folder).run(train, lambda: None, (said if said is not None else []).append)


def test_a_failed_cell_does_not_stop_the_others_and_is_tried_again(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")
    errors = [RuntimeError("out of\nmemory"), MemoryError()]

    def failing(cell: Cell, run: Any, on_epoch: Any) -> dict:
        if cell.slug.endswith(("0.2", "0.4")) and errors:
            raise errors.pop(0)
        return stand_in(cell, run, on_epoch)

    said: list[str] = []
    run_it(plan, folder, failing, said)
    found = table.outcomes(expand(plan), folder)
    assert [one.status for one in found] == ["done", "failed", "done", "failed", "done", "done"]
    assert [one.reason for one in found if one.reason] == ["RuntimeError: out of memory", "MemoryError"]
    assert "failed    RuntimeError: out of memory" in said
    assert "Traceback" in read_json(folder.cell("learning_rate-0.2").failed)["traceback"]
    text = table.markdown(found)
    assert "learning_rate-0.2 failed: RuntimeError: out of memory" in text

    run_it(plan, folder, failing)
    assert all(one.status == "done" for one in table.outcomes(expand(plan), folder))
    assert not folder.cell("learning_rate-0.2").failed.exists()
    numbers = Counter(states(plan, folder))
    assert {slug: numbers[slug, "FAIL"] for slug in ("learning_rate-0.2", "learning_rate-0.4")} == dict.fromkeys(
        ("learning_rate-0.2", "learning_rate-0.4"), 1
    )
    assert all(numbers[cell.slug, "COMPLETE"] == 1 for cell in expand(plan)), "one result for each cell"
    assert max(Counter(trained(folder)).values()) == 1, "a finished cell is trained again"


def test_ctrl_c_is_no_failure_and_the_rest_comes_later(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")

    def stopped(cell: Cell, run: Any, on_epoch: Any) -> dict:
        if cell.slug.endswith("0.3"):
            raise KeyboardInterrupt
        return stand_in(cell, run, on_epoch)

    with pytest.raises(KeyboardInterrupt):
        run_it(plan, folder, stopped)
    status = [one.status for one in table.outcomes(expand(plan), folder)]
    assert status == ["done", "done", *["not finished"] * 4]
    run_it(plan, folder, stand_in)
    assert sorted(trained(folder)) == sorted(cell.slug for cell in expand(plan))


def with_recipe(cell: Cell, run: Any, on_epoch: Any) -> dict:
    """As a real training, it writes the recipe first."""
    run.recipe.write_text(recipe.dump(cell.recipe))
    return stand_in(cell, run, on_epoch)


def test_cells_of_another_recipe_are_not_mixed_with_new_ones(plan_of, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "out")
    run_it(plan_of(GRID), folder, with_recipe)
    folder.cell("learning_rate-0.6").run.result.unlink()
    before = trained(folder)
    with pytest.raises(ZooError, match=r"learning_rate-0\.1 .*another recipe"):
        run_it(plan_of(GRID, "training.max_epochs=99"), folder, with_recipe)
    assert trained(folder) == before
    assert not folder.cell("learning_rate-0.1").failed.exists()
    # Where it is sent, and more cells beside those there are, change no result.
    more = {"grid": {"training.learning_rate": [*GRID["grid"]["training.learning_rate"], 0.7]}}
    run_it(plan_of(more, "tracking.experiment=other"), folder, with_recipe)
    assert trained(folder) == [*before, "learning_rate-0.6", "learning_rate-0.7"]


def _grid(plan: sweep_config.Plan, folder: SweepFolder) -> None:
    run_it(plan, folder, stand_in)


def _search(plan: sweep_config.Plan, folder: SweepFolder) -> None:
    Search(plan, folder).run(stand_in, lambda: None, lambda line: None)


def two_processes(target: Any, *arguments: Any) -> None:
    # Daemons: one that hangs ends with the test session instead of keeping it.
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=target, args=arguments, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0


def test_two_processes_share_a_grid_and_train_no_cell_twice(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")
    two_processes(_grid, plan, folder)
    assert sorted(trained(folder)) == sorted(cell.slug for cell in expand(plan))
    assert states(plan, folder) == [(cell.slug, "COMPLETE") for cell in expand(plan)], "one result for each cell"


def test_a_cell_in_other_hands_is_left_alone(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")
    said: list[str] = []
    with folder.cell("learning_rate-0.2").claimed() as mine:
        assert mine
        run_it(plan, folder, stand_in, said)
    assert "learning_rate-0.2" not in trained(folder)
    assert len(trained(folder)) == 5
    assert said[-1].startswith("1 of 6")


def _hanging(plan: sweep_config.Plan, folder: SweepFolder) -> None:
    """Hangs in the third cell, after its first epoch."""

    def train(cell: Cell, run: Any, on_epoch: Any) -> dict:
        if cell.slug != "learning_rate-0.3":
            return stand_in(cell, run, on_epoch)
        (folder.path / "hanging").touch()
        time.sleep(3600)
        raise AssertionError

    run_it(plan, folder, train)


def test_a_killed_process_loses_its_trial_and_no_cell(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")
    worker = multiprocessing.get_context("fork").Process(target=_hanging, args=(plan, folder), daemon=True)
    worker.start()
    while not (folder.path / "hanging").exists():
        assert worker.is_alive()
        time.sleep(0.01)
    said: list[str] = []
    run_it(plan, folder, stand_in, said)
    assert said[-1].startswith("1 of 6"), "the cell of a living process is left alone"
    assert "learning_rate-0.3" not in trained(folder)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    run_it(plan, folder, stand_in)
    numbers = Counter(states(plan, folder))
    assert numbers["learning_rate-0.3", "FAIL"] == 1
    assert sum(numbers.values()) == 7, "each cell is enqueued once, the killed one once more"
    assert all(numbers[cell.slug, "COMPLETE"] == 1 for cell in expand(plan)), "one result for each cell"
    assert sorted(trained(folder)) == sorted(cell.slug for cell in expand(plan))


def test_a_cell_that_was_killed_after_its_result_is_not_trained_again(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")

    def train(cell: Cell, run: Any, on_epoch: Any) -> dict:
        content = stand_in(cell, run, on_epoch)
        if cell.slug == "learning_rate-0.2":
            raise KeyboardInterrupt
        return content

    with pytest.raises(KeyboardInterrupt):
        run_it(plan, folder, train)
    run_it(plan, folder, stand_in)
    assert max(Counter(trained(folder)).values()) == 1
    assert sorted(s for s, state in states(plan, folder) if state == "COMPLETE") == [c.slug for c in expand(plan)]


def test_a_finished_grid_gets_no_trial_more(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")
    run_it(plan, folder, stand_in)
    for _ in range(2):
        run_it(plan, folder, stand_in)
        assert states(plan, folder) == [(cell.slug, "COMPLETE") for cell in expand(plan)]
    assert len(trained(folder)) == 6


def test_values_are_json_texts_in_the_study(plan_of, tmp_path: Path) -> None:
    grid = {
        "encoder": [{"name": "nequip", "layers": 1}], "model": {"a": {}, "b": {}},
        "training.batch_size": [8, 16], "split.train": [None, 4],
    }  # fmt: skip
    plan, folder = plan_of({"grid": grid}), SweepFolder(tmp_path / "out")
    run_it(plan, folder, stand_in)
    params = [{key: json.loads(text) for key, text in trial.params.items()} for trial in Grid(plan, folder).trials]
    assert params[1] == {
        "encoder": {"name": "nequip", "layers": 1}, "model": "a", "training.batch_size": 8, "split.train": 4,
    }  # fmt: skip
    assert len(params) == 8


def test_a_grid_from_before_the_study_is_continued(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(GRID), SweepFolder(tmp_path / "out")
    for cell in expand(plan)[:4]:
        place = folder.cell(cell.slug)
        place.path.mkdir(parents=True)
        place.begin(cell)
        if cell.slug.endswith(("0.1", "0.2")):
            stand_in(cell, place.run, lambda seed, row: None)
    folder.cell("learning_rate-0.3").fail(RuntimeError("out of memory"))
    status = [one.status for one in table.outcomes(expand(plan), folder)]
    assert status == ["done", "done", "failed", *["not finished"] * 3]
    assert not folder.journal.exists(), "reading leaves an old folder as it is"
    run_it(plan, folder, stand_in)
    assert trained(folder) == [cell.slug for cell in expand(plan)]
    assert states(plan, folder) == [(cell.slug, "COMPLETE") for cell in expand(plan)]


def test_two_processes_share_a_study(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(SEARCH), SweepFolder(tmp_path / "out")
    two_processes(_search, plan, folder)
    assert sorted(trained(folder)) == [f"trial-{number:03d}" for number in range(1, 9)]
    search = Search(plan, folder)
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE"] * 8
    rates = [cell.recipe.training.learning_rate for cell in search.cells()]
    assert len(set(rates)) == 8, "two processes asked for the same numbers"
    assert search.study.best_value == pytest.approx(min(rates), abs=1e-9)
    for cell in search.cells():
        assert cell.recipe.training.batch_size % 4 == 0
        assert cell.recipe.readout.settings["width"] == {"small": 4, "large": 16}[cell.labels["size"]]


def test_a_stopped_search_ends_as_one_that_was_not(plan_of, tmp_path: Path) -> None:
    plan, whole, parts = plan_of(SEARCH), SweepFolder(tmp_path / "whole"), SweepFolder(tmp_path / "parts")
    _search(plan, whole)
    calls = []

    def train(cell: Cell, run: Any, on_epoch: Any) -> dict:
        calls.append(cell.slug)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return stand_in(cell, run, on_epoch)

    with pytest.raises(KeyboardInterrupt):
        Search(plan, parts).run(train, lambda: None, lambda line: None)
    Search(plan, parts).run(train, lambda: None, lambda line: None)
    assert calls[2] == calls[3] == "trial-003"
    assert [c.recipe for c in Search(plan, parts).cells()] == [c.recipe for c in Search(plan, whole).cells()]


def test_a_failed_trial_counts_and_the_search_goes_on(plan_of, tmp_path: Path) -> None:
    plan, folder = plan_of(SEARCH), SweepFolder(tmp_path / "out")

    def failing(cell: Cell, run: Any, on_epoch: Any) -> dict:
        if cell.slug == "trial-002":
            raise ValueError("the loss became nan")
        return stand_in(cell, run, on_epoch)

    search = Search(plan, folder)
    search.run(failing, lambda: None, lambda line: None)
    assert Counter(trial.state.name for trial in search.study.trials) == {"COMPLETE": 7, "FAIL": 1}
    assert folder.cell("trial-002").failure["reason"] == "ValueError: the loss became nan"


def test_a_lost_journal_tells_no_old_result_to_a_new_study(plan_of, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "out")
    Search(plan_of(SEARCH), folder).run(with_recipe, lambda: None, lambda line: None)
    (folder.path / "study.journal").unlink()
    again = Search(plan_of(SEARCH, "sweep.optuna.seed=5"), folder)
    with pytest.raises(ZooError, match=r"trial-001 .*another recipe"):
        again.run(with_recipe, lambda: None, lambda line: None)
    assert not [trial for trial in again.study.trials if trial.value is not None]


@pytest.mark.parametrize(
    "change",
    [
        "training.max_epochs=99",
        "sweep.optuna.search.training.learning_rate={low: 1.0e-3, high: 1.0e-1}",
        "sweep.optuna.search.size={choices: {small: {readout: {width: 8}}, large: {readout: {width: 16}}}}",
    ],
)
def test_a_study_of_another_recipe_is_not_joined(plan_of, tmp_path: Path, change: str) -> None:
    shared = f"sweep.optuna.storage=sqlite:///{tmp_path}/study.db"
    Search(plan_of(SEARCH, shared), SweepFolder(tmp_path / "a"))
    with pytest.raises(ZooError, match=r"study 'small' .*search space"):
        Search(plan_of(SEARCH, shared, change), SweepFolder(tmp_path / "b"))
    Search(plan_of(SEARCH, shared, change, "sweep.optuna.study=other"), SweepFolder(tmp_path / "b"))
    Search(plan_of(SEARCH, shared, "device=cpu", "sweep.optuna.trials=50"), SweepFolder(tmp_path / "c"))


def test_the_overrides_of_the_best_trial_make_its_recipe(plan_of, tmp_path: Path) -> None:
    plan = plan_of(SEARCH, "sweep.optuna.trials=3")
    search = Search(plan, SweepFolder(tmp_path / "out"))
    search.run(stand_in, lambda: None, lambda line: None)
    assert search.best is not None
    overrides = tuple(shlex.split(search.best.partition(": ")[2]))
    best = min((cell.recipe for cell in search.cells()), key=lambda made: made.training.learning_rate)
    again = recipe.read(str(tmp_path / "mine.yaml"), overrides)
    assert (again.training, again.readout) == (best.training, best.readout)
