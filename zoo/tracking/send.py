"""A finished run folder, sent to MLflow: parameters, metrics, artifacts, and a registered model."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from zoo import __version__
from zoo.config import plugins, recipe
from zoo.config.recipe import Recipe, Tracking
from zoo.errors import ZooError
from zoo.evaluation.metrics import primary
from zoo.registry.connect import CHALLENGER, CHAMPION, mlflow_errors, using
from zoo.report import model_card
from zoo.storage import checksums
from zoo.storage.run_folder import RunFolder, read_history, read_json
from zoo.tracking import served_model
from zoo.tracking.registered_labels import describe
from zoo.tracking.run_inputs import inputs_of_run
from zoo.tracking.run_labels import again, errors_in_markdown, note, tags_of_parts
from zoo.tracking.run_metrics import metrics_of_run, metrics_of_seed
from zoo.tracking.run_start import send_start
from zoo.tracking.seed_runs import SeedRuns

FEW = 100
"""Training crystals of a model that is remarked upon where it becomes the champion."""


@dataclass(frozen=True)
class Sent:
    """Place of a work folder in MLflow.

    Attributes:
        uri: tracking URI.
        run_id: of the run of the whole.
        below: what was sent below it, in words.
        model: name of the registered model, None where none was registered.
        version: of it.
        aliases: that the version has.
        remark: why a champion by default may be a poor one; empty where nothing speaks against it.
    """

    uri: str
    run_id: str
    model: str | None = None
    version: str | None = None
    aliases: Sequence[str] = ()
    below: str = ""
    remark: str = ""

    @property
    def line(self) -> str:
        """The place in one line."""
        below = f", {self.below} below it" if self.below else ""
        model = f", models:/{self.model}/{self.version} ({', '.join(self.aliases)})" if self.model else ""
        return f"{self.uri}, run {self.run_id}{below}{model}"


def send(folder: RunFolder, tracking: Tracking, above: str | None = None) -> Sent:
    """Send a finished run as `tracking` says, as a child of the run `above` where one is given.

    Raises:
        ZooError: the run is not finished, or MLflow cannot be reached.
    """
    config = recipe.read(str(folder.recipe))
    if not folder.finished:
        raise ZooError(f"{folder.path} is not finished; zoo run --resume {folder.path}")
    runs = SeedRuns(tracking, config, folder, above)
    if "sent" not in runs.state:
        content = read_json(folder.result)
        with mlflow_errors(runs.uri):
            for seed in config.seeds:
                send_start(runs, folder, config, seed)
                runs.log_epochs(seed, read_history(folder.seed(seed)))
                runs.once(f"seed {seed}", lambda seed=seed: send_seed(runs, folder, seed))  # type: ignore[misc]
            runs.once("parent", lambda: _send_parent(runs, folder, config, content))
            sent = Sent(runs.shown_uri, runs.parent)
            if tracking.register_model:
                short = model_card.in_short(config, content)
                sent = register(runs, folder, config, sent, short, errors_in_markdown(content))
                if CHAMPION in sent.aliases:
                    sent = dataclasses.replace(sent, remark=_against_it(content))
        runs.finish(dataclasses.asdict(sent))
    return Sent(**runs.state["sent"])


def send_seed(runs: SeedRuns, folder: RunFolder, seed: int) -> None:
    """Log parameters, errors and files of a seed. A member of a refit has neither split nor errors."""
    place = folder.seed(seed)
    result = read_json(place.result)
    run_id = runs.seed_run(seed)
    names = ("seed", "split_seed", "n_train", "n_auxiliary", "n_val", "n_test", "best_epoch", "epochs")
    params = {name: result[name] for name in names if name in result}
    runs.log(run_id, params, metrics_of_seed(result) if run_id != runs.parent and "test" in result else None)
    others = sorted(place.path.glob("predictions_*.csv"))
    for path in (place.history, place.split, place.predictions, *others, place.result, place.last, place.best):
        if path.is_file():  # checkpoints may have been deleted to save space
            checksums.verify(path)
            runs.client.log_artifact(run_id, str(path), place.path.name)


def _send_parent(runs: SeedRuns, folder: RunFolder, config: Recipe, content: dict[str, Any]) -> None:
    if len(config.seeds) > 1:
        runs.client.log_inputs(runs.parent, inputs_of_run(folder, config))
    begun = again(read_json(folder.provenance))
    send_whole(runs, folder, config, metrics_of_run(content), errors_in_markdown(content), begun)
    runs.client.log_dict(runs.parent, _error_table(content), "errors_per_crystal_system.json")


def send_whole(
    runs: SeedRuns,
    folder: RunFolder,
    config: Recipe,
    metrics: Mapping[str, float],
    errors: str,
    begun: str,
    more: Sequence[Path] = (),
) -> None:
    """Log to the run of the whole: metrics, description, files, card and figures.

    Args:
        runs, folder, config: of the training.
        metrics: as they are shown.
        errors: a table in Markdown.
        begun: how the training was begun, a sentence.
        more: files beside those that each training has.
    """
    card = folder.model / model_card.NAME
    page = f"Model card: {runs.link_to(model_card.NAME)}." if card.is_file() else None
    runs.log(runs.parent, metrics=metrics, tags=note(config.description, errors, page, begun))
    files = (folder.recipe, folder.provenance, folder.path / "data_report.json", folder.result)
    for path in (*files, *more, *([card] if page else [])):
        checksums.verify(path)
        runs.client.log_artifact(runs.parent, str(path))
    for figures in (folder.figures, *(path for path in sorted(folder.figures.glob("*")) if path.is_dir())):
        checksums.verify_all(figures)
    for path in sorted(folder.figures.rglob("*.png")):
        place = path.parent.relative_to(folder.path)
        runs.client.log_artifact(runs.parent, str(path), place.as_posix())


def _error_table(content: dict[str, Any]) -> dict[str, list[Any]]:
    """Columns and a row a crystal system, as MLflow shows a table."""
    columns = [(name, kind) for name in content["test"] for kind in ("mean", "std")]
    systems = {"all": content["test"], **content["per_crystal_system"]}
    return {
        "columns": ["crystal_system", *[f"{name}_{kind}" for name, kind in columns]],
        "data": [[s, *[v.get(name, {}).get(kind) for name, kind in columns]] for s, v in systems.items()],
    }


def register(runs: SeedRuns, folder: RunFolder, config: Recipe, sent: Sent, short: str, errors: str) -> Sent:
    """Log the model from code, register it, describe it by a line and a table of errors, point the aliases at it."""
    name = config.registered_name
    if "version" not in runs.state:
        checksums.verify_all(folder.model)
        logger = logging.getLogger("mlflow")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            with using(runs.uri), mlflow.start_run(run_id=runs.parent), redirect_stderr(io.StringIO()):
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(served_model.__file__)),
                    artifacts={"model": str(folder.model)},
                    pip_requirements=requirements(config),
                    **served_model.LOGGED,
                    registered_model_name=name,
                )
        finally:
            logger.setLevel(level)
        runs.state["version"] = str(info.registered_model_version)
        runs.remember()
    number = runs.state["version"]
    _describe(runs, folder, config, number, [short, errors])
    known = runs.client.get_registered_model(name).aliases
    # The first version has nobody to be compared with; a later one has to win first (`zoo promote`).
    alias = CHAMPION if str(known.get(CHAMPION, number)) == number else CHALLENGER
    runs.client.set_registered_model_alias(name, alias, number)
    return dataclasses.replace(sent, model=name, version=number, aliases=[alias])


def _against_it(content: Mapping[str, Any]) -> str:
    """Say what speaks against a model that answers because there is no other yet."""
    test, mean = (content[name][primary(content)]["mean"] for name in ("test", "test_mean_baseline"))
    reasons = []
    seen = int(np.min(content["n_train"]))  # a list where the seeds' parts differ in size
    if seen < FEW:
        reasons.append(f"it was trained on {seen} crystals, fewer than {FEW}")
    if test >= mean:
        reasons.append(f"its test error, {test:.3g}, is not below {mean:.3g}, that of predicting the mean")
    return " and ".join(reasons)


def _describe(runs: SeedRuns, folder: RunFolder, config: Recipe, version: str, paragraphs: list[str]) -> None:
    """Describe model and version: what they are, the version's errors, and where its card is."""
    name, tags = config.registered_name, tags_of_parts(config)
    if (folder.model / model_card.NAME).is_file():
        tags["zoo.card"] = f"models:/{name}/{version}/artifacts/model/{model_card.NAME}"
        paragraphs.append(f"Model card: {runs.link_to(model_card.NAME)}, beside the weights `{tags['zoo.card']}`.")
    use = f"`zoo predict {name} YOUR.cif` asks the champion, `zoo serve {name}` answers over HTTP."
    words = "\n\n".join(filter(None, [config.description, use]))
    describe(runs.client, name, version, words, "\n\n".join(paragraphs), tags)


def requirements(config: Recipe) -> list[str]:
    """List what a machine that serves the model must install: the zoo, the plugins' distributions, torch."""
    found = [f"crystal-tensor-zoo=={__version__}", f"torch=={version('torch').split('+')[0]}"]
    for kind in ("encoder", "readout"):
        point = plugins.available(kind)[config.plugins[kind]]
        extras = plugins.extras_of(point)
        distribution = point.dist
        if distribution is None:
            continue
        line = f"{distribution.name}{f'[{chr(44).join(extras)}]' if extras else ''}=={distribution.version}"
        if line not in found:
            found.append(line)
    return found
