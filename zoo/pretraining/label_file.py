"""The file of labels: written some crystals at a time, so that labelling goes on where it was stopped.

Beside `x.extxyz` there is `x.extxyz.json`, which says how it was made and how far it is; until it is finished, the
frames are in `x.extxyz.partial`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.data.crystal_files import NamedCrystal
from zoo.errors import ZooError, clear_disk_errors
from zoo.pretraining.label import Labelled, Labelling, labels

FORMAT = 2  # count up when the same settings give other structures


@dataclass
class Progress:
    """The progress of the labelling of a source.

    Attributes:
        crystals: number of crystals of the source that were gone through, those without any structure included.
        digest: identifies them.
        structures: number of structures in the file.
        atoms: number of atoms in them.
        size: bytes of the file.
        left_out: structures that were left out, by the reason.
        refused: for each crystal of which nothing was made, the reason, which names it.
        finished: whether the source has no more.
    """

    crystals: int = 0
    digest: str = ""
    structures: int = 0
    atoms: int = 0
    size: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    finished: bool = False

    def add(self, part: Labelled) -> None:
        """Count what was written."""
        self.crystals += part.crystals
        self.digest = part.digest
        self.structures += part.structures
        self.atoms += part.atoms
        self.size += len(part.text.encode())
        self.left_out = dict(Counter(self.left_out) + part.left_out)
        self.refused += part.refused


class LabelFile:
    """A file of labels, which is begun, gone on with, or finished already.

    Attributes:
        path: of the file.
        progress: how far it is.

    Raises:
        ZooError: its name does not end in .extxyz, or there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".extxyz":
            raise ZooError(f"--out {path}: the labels are written as extended XYZ, name the file .extxyz")
        if not path.absolute().parent.is_dir():
            raise ZooError(f"--out {path}: there is no folder {path.parent}")
        self.path = path
        self.progress = Progress()
        self._partial = path.with_name(f"{path.name}.partial")
        self._facts = path.with_name(f"{path.name}.json")
        self._settings: dict[str, Any] = {}

    @contextmanager
    def open(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Find out how far the file is, and keep other processes from writing it.

        Args:
            settings: what the labels depend on, plain JSON values.

        Raises:
            ZooError: the file was made with other settings, or not by this command, or is damaged; or another process
                is writing it.
        """
        self._settings = {"format": FORMAT, **settings}
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), blocking=False)
        with clear_disk_errors(self.path.absolute().parent):
            try:
                with lock:
                    self._find()
                    yield
            except Timeout:
                raise ZooError(f"another process is writing {self.path}; name another file with --out") from None

    def _find(self) -> None:
        other = "name another file with --out"
        if not self._facts.exists():
            if self.path.exists():
                raise ZooError(f"{self.path} is there already, and was not made by zoo label: {other}")
            return
        try:
            content = json.loads(self._facts.read_text(encoding="utf-8"))
            settings, progress = content["settings"], Progress(**content["progress"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise ZooError(f"{self._facts} is damaged: delete it and {self.path} to begin anew, or {other}") from None
        for name, value in self._settings.items():
            if settings.get(name) != value:
                raise ZooError(
                    f"{self.path} was made with {name} {settings.get(name)}, not {value}: {other}, or delete it and "
                    f"{self._facts.name}"
                )
        if not progress.finished and not self._partial.exists() and self.path.exists():
            self.path.replace(self._partial)  # stopped in the moment when it was finished
        place = self.path if progress.finished else self._partial
        there = place.stat().st_size if place.exists() else 0
        if there < progress.size or (progress.finished and there > progress.size):
            raise ZooError(f"{place} is damaged: delete it and {self._facts.name} to begin anew, or {other}")
        self.progress = progress

    def write(self, parts: Iterable[Labelled], done: Callable[[Progress], object]) -> None:
        """Append all parts, each as a whole, and finish the file.

        Args:
            parts: those after what is in the file.
            done: called after each.

        Raises:
            ZooError: the file was finished, and there are more crystals now; or nothing was written at all.
        """
        if self.progress.finished:
            if next(iter(parts), None) is not None:
                raise ZooError(f"{self.path} is finished, but the source holds more crystals now: label it anew")
            return
        with self._partial.open("r+b" if self._partial.exists() else "w+b") as file:
            file.truncate(self.progress.size)
            file.seek(self.progress.size)
            for part in parts:
                file.write(part.text.encode())
                file.flush()
                os.fsync(file.fileno())  # before it is said to be there
                self.progress.add(part)
                self._note()
                done(self.progress)
        if not self.progress.structures:
            self._partial.unlink()
            self._facts.unlink(missing_ok=True)
            raise ZooError(f"no structure is left to be labelled: {self._why_nothing()}")
        self._partial.replace(self.path)
        self.progress.finished = True
        self._note()

    def _why_nothing(self) -> str:
        if self.progress.refused:
            return self.progress.refused[0]
        found = ", ".join(f"{reason} in {count:,}" for reason, count in self.progress.left_out.items())
        return found or "the source holds no crystals"

    def _note(self) -> None:
        content = {"settings": self._settings, "progress": dataclasses.asdict(self.progress)}
        partial = self._facts.with_name(f"{self._facts.name}.partial")
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self._facts)


def write_labels(
    file: LabelFile, how: Labelling, crystals: Iterable[NamedCrystal], done: Callable[[Progress], object]
) -> Progress:
    """Label what is not labelled yet of the crystals of a source, into an open file.

    Args:
        file: open.
        how: potential, number and seed.
        crystals: all of the source, in the same order each time.
        done: called after each part with how far it is.

    Raises:
        ZooError: the source has changed since the file was begun; nothing is left to be labelled; no space.
    """
    file.write(labels(how, crystals, file.progress.crystals, file.progress.digest), done)
    return file.progress
