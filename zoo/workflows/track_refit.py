"""A finished refit, sent to MLflow: its members' epochs, the errors of its folds, and a registered model."""

from __future__ import annotations

import dataclasses

from zoo.config import recipe
from zoo.config.recipe import Tracking
from zoo.errors import ZooError
from zoo.model import checkpoint
from zoo.registry.connect import mlflow_errors
from zoo.report import refit_card
from zoo.storage.run_folder import read_history, read_json
from zoo.tracking.run_inputs import inputs_of_refit
from zoo.tracking.run_labels import again, in_markdown
from zoo.tracking.run_metrics import metrics_of_refit
from zoo.tracking.run_start import send_start
from zoo.tracking.seed_runs import SeedRuns
from zoo.tracking.send import Sent, register, send_seed, send_whole
from zoo.workflows.refit import RefitFolder


def send_refit(folder: RefitFolder, tracking: Tracking) -> Sent:
    """Send it as a run is sent; what was sent before is not sent twice.

    Run and registered model are called RECIPE_refit: no validation crystals are left to compare it with its folds by,
    which may be registered under the recipe's own name.

    Raises:
        ZooError: it is not finished, or MLflow cannot be reached.
    """
    if not folder.finished:
        raise ZooError(f"{folder.path} is not finished; zoo refit --resume {folder.path}")
    config = recipe.read(str(folder.recipe))
    config = config.model_copy(update={"name": f"{config.name}_refit"})
    content, card = read_json(folder.result), checkpoint.read_card(folder.model)
    runs = SeedRuns(tracking, config, folder)
    if "sent" not in runs.state:
        main, folds = card.target.main.name, len(content["folds"])
        header = ("MAE_ten", "single models", "ensembles", "predicting the mean")
        title = f"Errors of the {folds} folds on their test parts, mean ± std; the model itself has none of its own"
        errors = in_markdown(header, *refit_card.error_rows(content, main), title=title)
        short = f"**{config.target}**, trained on all {content['n_train']} crystals after {folds} folds."
        begun = again(read_json(folder.provenance), None)
        with mlflow_errors(runs.uri):
            for seed in config.seeds:
                send_start(runs, folder, config, seed, lambda *_: inputs_of_refit(folder, config, card.seen))
                runs.log_epochs(seed, read_history(folder.seed(seed)))
                runs.once(f"seed {seed}", lambda seed=seed: send_seed(runs, folder, seed))  # type: ignore[misc]
            runs.once("inputs", lambda: runs.client.log_inputs(runs.parent, inputs_of_refit(folder, config, card.seen)))
            metrics = metrics_of_refit(content)
            runs.once("parent", lambda: send_whole(runs, folder, config, metrics, errors, begun, [folder.folds]))
            sent = Sent(runs.shown_uri, runs.parent)
            if tracking.register_model:
                sent = register(runs, folder, config, sent, short, errors)
        runs.finish(dataclasses.asdict(sent))
    return Sent(**runs.state["sent"])
