"""One Ignite trainer for every model: AdamW, cosine annealing, clipping, early stopping, best and last checkpoints."""

from __future__ import annotations

import logging
import math
import pickle
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, EarlyStopping, ProgressBar, TerminateOnNan
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoo.config.sections import Optimisation
from zoo.errors import ZooError
from zoo.runtime.devices import one_thread
from zoo.runtime.distributed import is_first, lost_processes, sum_over_processes, wait
from zoo.storage.run_folder import SeedFolder, read_history
from zoo.training.batch_loss import data_parallel
from zoo.training.batches import Batch, Batches
from zoo.training.learner import Learner
from zoo.training.precision import Precision

EpochRow = dict[str, float]


def seed_everything(seed: int) -> None:
    """Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # for plugins that still use numpy's global generator
    torch.manual_seed(seed)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, tensors and numbers alone.

    Raises:
        ZooError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:  # torch writes checksums into it, and does not look at them
            damaged = file.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is not as it was written")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    except pickle.UnpicklingError:  # torch's words advise against safety
        raise ZooError(f"{path} is damaged; delete {path.parent} to train this seed anew") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        why = type(error).__name__ if "weights_only" in why else why  # of a TorchScript archive: the same advice
        raise ZooError(f"{path} is damaged; delete {path.parent} to train this seed anew ({why})") from None
    return content


class History:
    """Rows of the finished epochs, as the checkpoint keeps them.

    Attributes:
        rows: one an epoch.
    """

    def __init__(self) -> None:
        self.rows: list[EpochRow] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the rows of a checkpoint."""
        self.rows = [dict(row) for row in state["rows"]]


def schedule(optimizer: torch.optim.Optimizer, epochs: int, warm_up: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate by epoch: it rises linearly over `warm_up` epochs, then falls to zero along a cosine."""
    if not warm_up:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (warm_up + 1), total_iters=warm_up)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, epochs - warm_up))
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warm_up])


class Replacing(DiskSaver):
    """Puts a checkpoint in the place of the one of the same name, in one step.

    Ignite removes the old one first: a kill, or a full disk, between the two would leave none.
    """

    def remove(self, filename: str) -> None:
        """Nothing: the new file takes its place."""


class Trainer:
    """Trains what a learner says on batches, writing `last.pt` and `best.pt` into a folder.

    A kill at any point loses at most the epoch under way: `run` goes on from `last.pt`, and since the order of the
    batches and dropout's random numbers depend on the seed and the epoch alone, the result is the same as without it.
    In several processes all have the same weights, and the checkpoints are those of one: dropout differs, nothing else.
    """

    def __init__(
        self,
        learner: Learner,
        train: Batches,
        val: Batches | None,
        settings: Optimisation,
        seed: int,
        folder: Path,
        on_epoch: Callable[[EpochRow], None],
        title: str = "training",
        warm_up: int = 0,
    ) -> None:
        """Take up the state of the last checkpoint, where there is one.

        Args:
            learner: what is trained.
            train: the batches of an epoch.
            val: those that choose the best epoch; None: nothing is validated, and the last epoch is the best.
            settings: of the optimisation.
            seed: of the order of the batches, and of dropout.
            folder: of the checkpoints.
            on_epoch: told of every epoch.
            title: of the progress bar.
            warm_up: epochs over which the learning rate first rises, before it falls along the cosine.
        """
        self.learner = learner
        self.val = val
        self.settings = settings
        self.folder = folder
        self.learned = learner.learned
        self.parameters = list(self.learned.parameters())  # looked up once: a small model's step is short
        self.optimizer = torch.optim.AdamW(
            learner.groups(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.scheduler = schedule(self.optimizer, settings.max_epochs, warm_up)
        self.precision = Precision(settings.precision, learner.model, train.device)
        self.loss_of = data_parallel(learner.loss_of)
        self.average = None
        if settings.weight_average is not None:
            decay = 1 - settings.weight_average
            self.average = AveragedModel(self.learned, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.engine = Engine(self._step)
        # An error is told once, by whoever called.
        self.engine.logger.setLevel(logging.CRITICAL)
        self.train = train
        self.seed = seed
        self.history = History()
        self._loss_sum = 0.0
        self._val_error = math.inf
        self._attach(on_epoch, title)
        self._resume()

    def _step(self, engine: Engine, batch: Batch | None) -> float:
        if not self.learner.model.training:  # goes through all modules of the encoder, too
            self.learner.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        scaler = self.precision.scaler
        with self.precision(), lost_processes():
            loss = self.loss_of(batch)
            # DistributedDataParallel takes the mean of the processes' gradients: the sum is meant.
            scaler.scale(loss * idist.get_world_size()).backward(inputs=self.learner.leaves)
        total = sum_over_processes(loss.detach().clone()).item()
        scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip)
        scaler.step(self.optimizer)
        scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.learned)
        return total

    def _attach(self, on_epoch: Callable[[EpochRow], None], title: str) -> None:
        engine, settings = self.engine, self.settings
        self.stopper = EarlyStopping(settings.patience, lambda _: -self._val_error, engine)
        self.stopper.logger.setLevel(logging.WARNING)  # that it stopped is seen from the number of epochs
        engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())

        @engine.on(Events.EPOCH_STARTED)
        def begin(engine: Engine) -> None:
            self.train.epoch = engine.state.epoch
            # In each process another dropout: they compute different crystals.
            seed_everything(self.seed * 1_000_003 + engine.state.epoch + idist.get_rank() * 1_000_000_007)
            self._loss_sum = 0.0

        @engine.on(Events.ITERATION_COMPLETED)
        def add_up(engine: Engine) -> None:
            self._loss_sum += float(engine.state.output)  # type: ignore[arg-type]

        @engine.on(Events.EPOCH_COMPLETED)
        def validate(engine: Engine) -> None:
            rate = self.optimizer.param_groups[0]["lr"]
            self.scheduler.step()
            if self.val is None:
                errors, error = {}, -float(engine.state.epoch)
            else:
                with self._averaged():
                    self.learner.model.eval()
                    errors = self.learner.validate(self.val)
                error = errors[self.learner.compared]
            if not math.isfinite(error):  # it would compare with nothing: best.pt would stay at this epoch for ever
                raise ZooError(
                    f"the validation error became {error} in epoch {engine.state.epoch}; lower training.learning_rate"
                )
            self._val_error = error
            train_loss = self._loss_sum / len(self.train)
            engine.state.metrics["train"] = train_loss
            if errors:
                engine.state.metrics["val"] = error
            row = {"epoch": engine.state.epoch, "train_loss": train_loss, **errors, "lr": rate}
            self.history.rows.append(row)
            if is_first():
                on_epoch(row)

        engine.add_event_handler(Events.EPOCH_COMPLETED, self.stopper)
        keeper: dict[str, Any] = {"model": self.average.module if self.average is not None else self.learned}
        self.best = Checkpoint(
            keeper,
            self._saver(),
            score_function=lambda _: -self._val_error,
            filename_pattern="best.pt",
            n_saved=1,
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.best)
        self.state: dict[str, Any] = {
            "model": self.learned,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "trainer": engine,
            "stopper": self.stopper,
            "best": self.best,
            "history": self.history,
        }
        if self.average is not None:
            self.state["average"] = self.average
        if self.precision.scaler.is_enabled():
            self.state["scaler"] = self.precision.scaler
        # Last of the handlers: what it saves must include what the others did in this epoch.
        engine.add_event_handler(
            Events.EPOCH_COMPLETED, Checkpoint(self.state, self._saver(), filename_pattern="last.pt", n_saved=1)
        )
        if not is_first():
            return
        bar_format = "{desc} {n_fmt}/{total_fmt} epochs|{bar}|{postfix} [{elapsed}<{remaining}]"
        bar = ProgressBar(persist=True, bar_format=bar_format, desc=title, disable=None)
        bar.attach(
            engine,
            metric_names=["train"] if self.val is None else ["train", "val"],
            event_name=Events.EPOCH_COMPLETED,
            closing_event_name=Events.COMPLETED,
        )

    def _saver(self) -> DiskSaver:
        return Replacing(self.folder, create_dir=True, require_empty=False)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with the averaged weights in place of its own, where an average is kept."""
        if self.average is None:
            yield
            return
        own = {name: value.clone() for name, value in self.learned.state_dict().items()}
        self.learned.load_state_dict(self.average.module.state_dict())
        try:
            yield
        finally:
            self.learned.load_state_dict(own)

    @property
    def epoch(self) -> int:
        """Epochs that the last checkpoint has behind it; 0 before the first."""
        return self.engine.state.epoch

    def _resume(self) -> None:
        last = self.folder / "last.pt"
        if last.is_file():
            content = read_checkpoint(last)
            Checkpoint.load_objects({name: part for name, part in self.state.items() if name in content}, content)
            if "history" not in content:  # a checkpoint of before: the rows are in the file alone
                rows = read_history(SeedFolder(self.folder))
                self.history.rows = [row for row in rows if row["epoch"] <= self.epoch]

    def run(self) -> None:
        """Train to the end, from the last checkpoint where there is one; leaves the best weights in the model.

        Raises:
            ZooError: the loss became NaN or infinite, or another process has ended.
        """
        wait()  # until all have read the last checkpoint, which is about to be replaced
        done = self.epoch >= self.settings.max_epochs or self.stopper.counter >= self.settings.patience
        if not done:
            with one_thread() if self.learner.one_thread else nullcontext():
                self.engine.run(self.train, max_epochs=self.settings.max_epochs)
            if not math.isfinite(self._loss_sum):
                raise ZooError(f"the loss became {self._loss_sum} in epoch {self.epoch}; lower training.learning_rate")
        wait()  # until the best one is written
        self.learned.load_state_dict(read_checkpoint(self.folder / "best.pt"))
        self.learner.model.eval()
