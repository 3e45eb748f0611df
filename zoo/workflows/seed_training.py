"""Training of one seed's model: its history, checkpoints and their checksums in the folder of the seed."""

from __future__ import annotations

from collections.abc import Callable

from zoo.config.recipe import Recipe
from zoo.model.tensor_model import TensorModel
from zoo.runtime.distributed import is_first
from zoo.storage import checksums
from zoo.storage.run_folder import SeedFolder, append_row, restart_history
from zoo.training.batches import Batches
from zoo.training.tensor_learner import TensorLearner
from zoo.training.trainer import EpochRow, Trainer


def fit(
    config: Recipe,
    model: TensorModel,
    train: Batches,
    val: Batches | None,
    seed: int,
    place: SeedFolder,
    title: str,
    on_epoch: Callable[[int, EpochRow], None] | None,
) -> list[EpochRow]:
    """Train a model, from the last checkpoint in the seed's folder where there is one, and return its epochs.

    The model has the weights of the best epoch then. History and checkpoints are in the folder, with checksums. In
    several processes all call this alike; the first one writes.

    Args:
        config: the recipe.
        model: of random weights, where it is to be trained.
        train: batches to train on.
        val: those that choose the best epoch; None: nothing is validated, and the last epoch is the best.
        seed: of the order of the batches, and of dropout.
        place: the seed's folder.
        title: of the progress bar.
        on_epoch: told of every epoch, (seed, row).

    Raises:
        ZooError: the loss or the validation error became NaN or infinite, or a checkpoint is damaged.
    """

    def keep(row: EpochRow) -> None:
        append_row(place.history, row)
        if on_epoch is not None:
            on_epoch(seed, row)

    learner = TensorLearner(model, config.training.labels.model_dump(), config.encoder.learning_rate)
    trainer = Trainer(learner, train, val, config.training, seed, place.path, keep, title)
    if is_first():
        restart_history(place, trainer.history.rows)
    trainer.run()
    if is_first():
        checksums.seal(place.path, [path.name for path in (place.history, place.best, place.last)])
    return trainer.history.rows
