"""The folder of a screening: what became of each candidate, written down chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from zoo.discovery.screen_config import Screen, parse
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, write_json, write_text
from zoo.workflows.provenance import provenance

if TYPE_CHECKING:
    import pyarrow as pa

# What may change before a screening goes on: the model is known by its fingerprint.
_FREE = ("description", "device", "chunk", "workers", "model")


@dataclass(frozen=True)
class ScreenFolder:
    """Names of what is in the folder of a screening, and reading and writing of its parts.

    screen.yaml         the resolved recipe
    run.json            versions, command, and what it was begun with: recipe, fingerprint of the model, best so far
    parts/000000.parquet, ...   a row a candidate, in their order: what became of it
    top.csv, top/       the chosen ones
    figures/            PNG
    summary.json        counts and times: a screening with it is finished
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "screen.yaml"

    @property
    def provenance(self) -> Path:
        """With what it was begun."""
        return self.path / "run.json"

    @property
    def table(self) -> Path:
        """The chosen ones."""
        return self.path / "top.csv"

    @property
    def crystals(self) -> Path:
        """And their structures."""
        return self.path / "top"

    @property
    def figures(self) -> Path:
        """The pictures."""
        return self.path / "figures"

    @property
    def summary(self) -> Path:
        """Written last."""
        return self.path / "summary.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep two screenings from writing in one folder, which is made if it is not there.

        Raises:
            ZooError: another one does.
        """
        (self.path / "parts").mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", blocking=False):
                yield
        except Timeout:
            raise ZooError(f"another process is screening in {self.path}; choose another folder with --out") from None

    def begin(self, config: Screen, facts: Mapping[str, Any]) -> None:
        """Write down what the screening is begun with, or see that it goes on with the same.

        Args:
            config: the recipe.
            facts: what else must stay as it is.

        Raises:
            ZooError: something is not the same.
        """
        if not self.provenance.is_file():
            write_text(self.recipe, config.dump())
            write_json(
                self.provenance,
                {**provenance(config.plugins), "recipe": config.content, "facts": dict(facts), "resumed": []},
            )
            return
        begun = read_json(self.provenance)
        before = parse(begun["recipe"], str(self.provenance)).content
        changed = [key for key, value in config.content.items() if key not in _FREE and value != before[key]]
        if changed:
            raise ZooError(
                f"{self.path} was begun with another recipe ({', '.join(changed)} differ): go on with that one, or "
                "choose another folder with --out"
            )
        for name, value in facts.items():
            if begun["facts"].get(name) != value:
                raise ZooError(f"{self.path} was begun with another {name}: choose another folder with --out")
        now = provenance(config.plugins)
        begun["resumed"].append({key: now[key] for key in ("zoo", "git_commit", "command", "started")})
        write_json(self.provenance, begun)

    def parts(self) -> list[Path]:
        """List the parts that are there, in order.

        Raises:
            ZooError: one is missing.
        """
        parts = sorted((self.path / "parts").glob("*.parquet"))
        for path, expected in zip(parts, map(self._part, range(len(parts))), strict=True):
            if path != expected:
                raise ZooError(f"{expected} is missing, though {path.name} is there: bring it back, or start anew")
        return parts

    def _part(self, number: int) -> Path:
        return self.path / "parts" / f"{number:06d}.parquet"

    def add(self, number: int, table: pa.Table) -> None:
        """Write part `number`, whole or not at all, even where the power fails."""
        from pyarrow import parquet

        path = self._part(number)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as file:
            parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of one part after another.

        Raises:
            ZooError: a part is missing or damaged.
        """
        import pyarrow as pa
        from pyarrow import parquet

        for path in self.parts():
            try:
                with path.open("rb") as file:
                    yield parquet.read_table(file, columns=list(columns))
            except (pa.ArrowException, OSError) as error:
                raise ZooError(f"{path} is damaged ({error}): delete it and those after it, then go on") from None
