"""Works that are made hundreds of times go without figures, and without reading the same weights again.

No file is written in another way, or in another order: a figure is one pixel, in its file.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock


def pixel(path: Path) -> Path:
    """Write a figure of one pixel."""
    from PIL import Image

    Image.new("RGB", (1, 1)).save(path, "PNG")
    return path


def _of_run(config: Any, target: Any, folder: Any) -> None:
    folder.figures.mkdir(exist_ok=True)
    for name in ("parity.png", *(f"learning_curve_{seed}.png" for seed in config.seeds)):
        pixel(folder.figures / name)


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Do without them, in a process of its own."""
    from zoo.discovery import screen_figures
    from zoo.discovery.rounds import round_figures
    from zoo.report import plots
    from zoo.workflows import finish

    def second(_: Any, path: Path, *__: Any) -> Path:
        return pixel(path)

    with contextlib.ExitStack() as stack:
        for module, name, instead in (
            (finish, "draw", _of_run),
            (plots, "calibration", second),
            (round_figures, "progress", second),
            (round_figures, "parity", second),
            (round_figures, "crystals", second),
            (screen_figures, "histogram", lambda _, folder, *__: pixel(folder.figures / "histogram.png")),
            (screen_figures, "merit", lambda folder, *__: pixel(folder.figures / "merit.png")),
        ):
            stack.enter_context(mock.patch.object(module, name, instead))
        yield


@functools.cache
def warm() -> None:
    """Let this process know what each of its children would find out again, and compute nothing: plugins, weights."""
    import zoo_sevennet.checkpoint as checkpoint
    from zoo.config import plugins
    from zoo.report import model_card
    from zoo.workflows import provenance

    provenance.installed()
    model_card.compiled_template()
    for kind in plugins.GROUPS:
        plugins.available(kind)
    checkpoint.read = functools.cache(checkpoint.read)
