"""Equivariant features of many crystals in Parquet or npz files, with what a reader must know of them beside them.

Two tables, and a third one on request; a column is a fixed-shape array a row, or a number or text:

    atoms       crystal, file, key, atom, number, symbol, position, and the features
    crystals    crystal, file, key, formula, n_atoms, cell, and the mean of the features over the atoms
    bonds       crystal, src, dst, shift, vector, and the features

Parquet holds each table in a file of its own, npz all in one, the columns named `atoms_position`, ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from zoo import __version__
from zoo.contract.plugin import Provides
from zoo.errors import ZooError, clear_disk_errors
from zoo.inference.feature_arrays import blocks_of

FORMAT = 1  # of the files: count up when they change
SUFFIXES = (".parquet", ".npz")

Table = dict[str, np.ndarray | list[str]]
# What there is to say of the columns that are no features.
COLUMNS: dict[str, dict[str, dict[str, Any]]] = {
    "atoms": {
        "crystal": {"what": "row in the table crystals, from 0"},
        "file": {"what": "as named on the command line"},
        "key": {"what": "name of the crystal in a file of many, else the name of the file without its ending"},
        "atom": {"what": "place in the crystal, from 0"},
        "number": {"what": "atomic number"},
        "symbol": {"what": "of the element"},
        "position": {"what": "Cartesian", "unit": "Å", "axes": ["xyz"]},
    },
    "crystals": {
        "crystal": {"what": "number of the row, from 0"},
        "file": {"what": "as named on the command line"},
        "key": {"what": "name of the crystal in a file of many, else the name of the file without its ending"},
        "formula": {"what": "reduced"},
        "n_atoms": {"what": "in the cell"},
        "cell": {"what": "lattice vectors as rows", "unit": "Å", "axes": ["lattice vector", "xyz"]},
    },
    "bonds": {
        "crystal": {"what": "row in the table crystals, from 0"},
        "src": {"what": "atom of the crystal, from 0, whose image is meant"},
        "dst": {"what": "atom of the crystal, from 0"},
        "shift": {"what": "lattice vectors by which src is moved", "axes": ["lattice vector"]},
        "vector": {"what": "from dst to the image of src", "unit": "Å", "axes": ["xyz"]},
    },
}


def places(out: Path, bonds: bool) -> dict[str, Path]:
    """Return the file of each table: x.parquet, x.crystals.parquet and, with bonds, x.bonds.parquet; one file for npz.

    Raises:
        ZooError: another suffix, no such folder, or a file of that name is there.
    """
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise ZooError(f"--out {out}: the file must end in {' or '.join(SUFFIXES)}")
    if not out.absolute().parent.is_dir():
        raise ZooError(f"--out {out}: there is no folder {out.parent}")
    tables = {"atoms": out}
    for table in ("crystals", "bonds") if bonds else ("crystals",):
        tables[table] = out if suffix == ".npz" else out.with_name(f"{out.stem}.{table}{out.suffix}")
    for path in tables.values():
        if path.exists():
            raise ZooError(f"{path} is there already: delete it, or name another file with --out")
    return tables


def description(provides: Provides, bonds: bool, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the content of a file beside its tables, in plain JSON values.

    Args:
        provides: irreps of the features.
        bonds: whether there are bonds.
        metadata: description of the encoder and the origin of its weights.
    """
    irreps = {"atoms": provides.atoms, "crystals": provides.atoms}
    if bonds and provides.bonds is not None:
        irreps["bonds"] = provides.bonds
    tables: dict[str, Any] = {}
    for table, given in irreps.items():
        features = {
            block.name: {
                "what": "mean over the atoms" if table == "crystals" else "features",
                "unit": "1",
                "irreps": f"{block.channels}x{block.irrep}",
                "shape": list(block.shape),
                "axes": list(block.axes),
            }
            for block in blocks_of(given)
        }
        tables[table] = {"irreps": str(given), "columns": {**COLUMNS[table], **features}}
    return {
        "format": FORMAT,
        "zoo": __version__,
        **metadata,
        "frame": "Cartesian axes of each file's lattice vectors; of a CIF: c along z, a in the xz plane",
        "conventions": "vectors (1o) turn and reflect as positions do, tensors (2e) are symmetric and traceless; "
        "components of other irreps are in e3nn's order",
        "tables": tables,
    }


class FeaturesFile:
    """Files that are written table by table and are there when the block ends well; after an error there are none.

    Raises:
        ZooError: no space, or no permission.
    """

    def __init__(self, out: Path, tables: Mapping[str, Path], metadata: Mapping[str, Any]) -> None:
        self._npz = out.suffix.lower() == ".npz"
        self._folder = out.absolute().parent
        self._partial = {path: path.with_name(f"{path.name}.partial") for path in tables.values()}
        self._metadata = json.dumps(metadata, ensure_ascii=False)
        self._files: dict[str, BinaryIO] = {}
        self._tables = tables
        self._stack = ExitStack()
        self._writers: dict[str, Any] = {}
        self._kept: dict[str, list[Table]] = {}

    def __enter__(self) -> Self:
        opened: dict[Path, BinaryIO] = {}
        try:
            with clear_disk_errors(self._folder):
                for path, partial in self._partial.items():
                    opened[path] = self._stack.enter_context(partial.open("wb"))
        except BaseException:
            self._stack.close()
            self._remove()
            raise
        self._files = {table: opened[path] for table, path in self._tables.items()}
        return self

    def write(self, tables: Mapping[str, Table]) -> None:
        """Add rows, in Parquet as one row group; for npz they are kept in memory."""
        with clear_disk_errors(self._folder):
            for name, columns in tables.items():
                if self._npz:
                    self._kept.setdefault(name, []).append(columns)
                else:
                    self._write_row_group(name, columns)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with clear_disk_errors(self._folder), self._stack:
                if kind is None:
                    self._finish()
            if kind is None:
                for path, partial in self._partial.items():
                    partial.replace(path)
        finally:
            for writer in self._writers.values():
                writer.is_open = False  # else it would write on into a closed file, when it is collected
            self._remove()

    def _finish(self) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._kept:
            arrays: dict[str, Any] = {f"{name}_{key}": value for name, key, value in self._joined()}
            np.savez(self._files["atoms"], metadata=np.array(self._metadata), **arrays)

    def _remove(self) -> None:
        for partial in self._partial.values():
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _joined(self) -> Iterator[tuple[str, str, np.ndarray]]:
        for name, tables in self._kept.items():
            for key in tables[0]:
                yield name, key, np.concatenate([np.asarray(table[key]) for table in tables])

    def _write_row_group(self, name: str, columns: Table) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({key: _arrow(values) for key, values in columns.items()})
        if name not in self._writers:
            plain = [key for key, values in columns.items() if isinstance(values, list) or values.ndim == 1]
            self._writers[name] = parquet.ParquetWriter(
                self._files[name],
                table.schema.with_metadata({"zoo": self._metadata}),
                compression="zstd",
                write_page_checksum=True,
                use_dictionary=[key for key in plain if isinstance(columns[key], list)],
                write_statistics=plain,
            )
        self._writers[name].write_table(table.replace_schema_metadata({"zoo": self._metadata}), len(table) or None)


def _arrow(values: np.ndarray | list[str]) -> Any:
    """Convert to Arrow: (n,) as it is, (n, ...) as fixed-shape tensors, which other readers see as flat lists."""
    import pyarrow as pa

    if isinstance(values, list) or values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    shape = values.shape[1:]
    kind = pa.fixed_shape_tensor(flat.type, shape)
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape))))
