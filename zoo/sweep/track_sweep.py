"""Send a sweep to MLflow: one run for the sweep, and each cell as its child."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zoo import __version__
from zoo.config.recipe import Tracking
from zoo.errors import ZooError
from zoo.registry.connect import mlflow_errors
from zoo.sweep import table
from zoo.sweep.search import study_of
from zoo.sweep.sweep_config import Plan, read
from zoo.sweep.sweep_folder import SweepFolder
from zoo.tracking.run_labels import note, params_of
from zoo.tracking.run_metrics import metrics_of_run
from zoo.tracking.send import Sent, send
from zoo.tracking.tracked_runs import PARENT, TrackedRuns


def open_parent(name: str, folder: SweepFolder, tracking: Tracking) -> TrackedRuns:
    """Return the MLflow runs of a sweep: its own, the same for all processes; the first one makes it.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    with folder.locked():
        runs = TrackedRuns(tracking, folder)
        runs.opened(PARENT, name)
    runs.set_status("RUNNING")
    return runs


def send_sweep(folder: SweepFolder, tracking: Tracking) -> Sent:
    """Send all finished cells, and table and figure as they are now; nothing is sent twice.

    Raises:
        ZooError: the folder holds no sweep, or MLflow cannot be reached.
    """
    plan = read(str(folder.recipe))
    if not isinstance(plan, Plan):
        raise ZooError(f"{folder.recipe} has no sweep section")
    runs = open_parent(plan.base.name, folder, tracking)
    results = table.outcomes(study_of(plan, folder).cells(), folder, plan.sweep.compare)
    done = [result for result in results if result.content is not None]
    with mlflow_errors(runs.uri):
        for result in done:
            child = send(result.folder, tracking.model_copy(update={"register_model": False}), runs.parent).run_id
            for name, text in result.cell.labels.items():
                runs.client.set_tag(child, f"zoo.sweep.{name}", text)
        params = {f"sweep.{name}": text for name, text in plan.varied.items()} | params_of(plan.base)
        counts = Counter(result.status for result in results)
        numbers: dict[str, float] = {f"cells_{status}": counts[status] for status in ("done", "failed")}
        tags = {"zoo.version": __version__, "zoo.recipe": plan.base.name}
        best = best_of(results)
        if best is not None and best.content is not None:
            numbers |= metrics_of_run(best.content)
            tags["zoo.sweep.best"] = best.cell.slug
        words = folder.markdown.read_text(encoding="utf-8") if folder.markdown.is_file() else ""
        again = "Again by `zoo run sweep.yaml`, with the file of that name among the artifacts."
        runs.log(runs.parent, params, numbers, tags | note(plan.base.description, words, again))
        for path in (folder.recipe, folder.table, folder.seeds, folder.markdown, folder.figure):
            if path.is_file():
                runs.client.log_artifact(runs.parent, str(path))
    runs.set_status("FINISHED")
    return Sent(runs.shown_uri, runs.parent, below=f"{len(done)} cells")


def best_of(results: Sequence[table.Outcome]) -> table.Outcome | None:
    """The cell with the lowest validation error; None if targets or datasets differ, as their errors do not compare."""
    if len({(result.cell.recipe.dataset.name, result.cell.recipe.target) for result in results}) != 1:
        return None
    done = [result for result in results if result.content is not None]
    return min(done, key=lambda r: r.content["val"][r.metric]["mean"], default=None)  # type: ignore[index]
