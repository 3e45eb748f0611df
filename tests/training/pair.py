"""What each of the two processes of test_processes.py does: `torchrun --nproc-per-node 2 pair.py FOLDER`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from ignite.engine import Events

from zoo.config import recipe
from zoo.errors import ZooError
from zoo.runtime.distributed import is_first, joined, wait
from zoo.storage.run_folder import RunFolder
from zoo.training.trainer import Trainer
from zoo.workflows.train import run


def train(folder: Path, name: str, on_epoch=None) -> dict:
    config = recipe.parse(yaml.safe_load((folder / f"{name}.yaml").read_text()), name)
    return run(config, RunFolder(folder / "two" / name), lambda line: None, on_epoch)


@contextmanager
def recorded_gradients(path: Path) -> Iterator[None]:
    """Write the gradients of the first three steps, before they are clipped, into a file."""
    steps: list[list[torch.Tensor | None]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def recording(parameters: list[torch.Tensor], norm: float) -> torch.Tensor:
        steps.append([None if p.grad is None else p.grad.clone() for p in parameters])
        return clip(parameters, norm)

    torch.nn.utils.clip_grad_norm_ = recording
    try:
        yield
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
    torch.save(steps[:3], path)


class Stopped(BaseException):
    """Raised to end both processes after an epoch, like a kill: no handler of the zoo catches it."""


@contextmanager
def stopped_after_two_epochs() -> Iterator[None]:
    """End the training in every process when the checkpoint of epoch 2 is written."""
    attach = Trainer._attach

    def attached(self: Trainer, *arguments: Any) -> None:
        attach(self, *arguments)

        @self.engine.on(Events.EPOCH_COMPLETED(once=2))
        def stop() -> None:
            raise Stopped

    Trainer._attach = attached  # type: ignore[method-assign]
    try:
        yield
    except Stopped:
        return
    finally:
        Trainer._attach = attach  # type: ignore[method-assign]
    raise AssertionError("it was not stopped")


def written_below(folder: Path) -> list[str]:
    """Of the files below `folder`, those that this process opens to write from now on."""
    paths: list[str] = []

    def heard(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str) and str(arguments[0]).startswith(str(folder)):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                paths.append(arguments[0])
        elif event in ("os.rename", "os.remove") and str(arguments[0]).startswith(str(folder)):
            paths.append(str(arguments[0]))

    sys.addaudithook(heard)
    return paths


def end_at_two(seed: int, row: dict) -> None:
    if row["epoch"] == 2:
        os._exit(1)


def main(folder: Path) -> None:
    rank = os.environ["RANK"]
    written = written_below(folder / "two")
    with joined("cpu"):
        answers = {"begun_by_one": train(folder, "begun_by_one")}
        with stopped_after_two_epochs():
            train(folder, "stopped")
        answers["stopped"] = train(folder, "stopped")
        for name in ("whole", "edges"):
            with recorded_gradients(folder / f"gradients_{name}_{rank}.pt"):
                answers[name] = train(folder, name)
        diverged = ""
        try:
            train(folder, "diverges")
        except ZooError as error:
            diverged = str(error)
        told = {"metrics": answers, "diverged": diverged, "written": written}
        (folder / f"told_{rank}.json").write_text(json.dumps(told))
        wait()
        if not is_first():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the others as soon as one is gone
        try:
            train(folder, "ended", end_at_two)
        except ZooError as error:
            (folder / "left_alone.txt").write_text(str(error))
            os._exit(2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
