"""The folder of a screening: what became of each candidate, written down chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.storage.work_folder import WorkFolder

if TYPE_CHECKING:
    import pyarrow as pa

LATER = frozenset({"warnings"})
"""Columns that parts which an earlier zoo wrote have not."""


@dataclass(frozen=True)
class ScreenFolder(WorkFolder):
    """Names of what is in the folder of a screening, and reading and writing of its parts.

    screen.yaml         the resolved recipe
    run.json            versions, command, and what it was begun with: recipe, fingerprint of the model, best so far
    parts/000000.parquet, ...   a row a candidate, in their order: what became of it
    top.csv, top/       the chosen ones
    figures/            PNG
    summary.json        counts and times: a screening with it is finished
    """

    KIND = "screening"
    RECIPE = "screen.yaml"
    RESULT = "summary.json"

    @property
    def table(self) -> Path:
        """The chosen ones."""
        return self.path / "top.csv"

    @property
    def crystals(self) -> Path:
        """And their structures."""
        return self.path / "top"

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
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as file:
            parquet.write_table(table, file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of one part after another; of `LATER` those that it has.

        Raises:
            ZooError: a part is missing or damaged.
        """
        import pyarrow as pa
        from pyarrow import parquet

        for path in self.parts():
            try:
                with path.open("rb") as file:
                    held = parquet.read_schema(file).names
                    read = [name for name in columns if name in held or name not in LATER]
                    file.seek(0)
                    yield parquet.read_table(file, columns=read, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                why = " ".join(str(error).split())  # of several lines, where Arrow cannot read a page's header
                raise ZooError(f"{path} is damaged ({why}): delete it and those after it, then go on") from None
