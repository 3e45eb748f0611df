"""Put the results of finished runs into one small CSV, or into the Markdown table of the README.

    python scripts/collect_results.py runs/dtnet_total runs/best_total ... > docs/results/petousis2017.csv
    python scripts/collect_results.py --markdown runs/dtnet_total runs/best_total ...
    python scripts/collect_results.py runs/elastic > docs/results/elastic2015.csv
    python scripts/collect_results.py evaluation.json ... > docs/results/other_origin.csv

A folder is a run's; a .json file is what `zoo evaluate --format json` printed.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

METRICS = ("mae_ten", "mae_mean_diag", "mae_diag", "mae_off_diag", "frobenius", "within_25", "within_10", "n")
ELASTIC = ("mae_bulk_modulus", "mae_shear_modulus", "n_bulk_modulus_undefined")
ELASTIC += ("frobenius_0e", "frobenius_2e", "frobenius_4e")


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """A row a crystal system, and one each for the validation part and for predicting the mean.

    Of a joint target the total has the recipe's name, the other parts theirs after it.
    """
    name = yaml.safe_load((folder / "recipe.yaml").read_text())["name"]
    content = json.loads((folder / "metrics.json").read_text())
    yield from _rows(name, content, len(content["seeds"]))
    for part, own in content.get("parts", {}).items():
        yield from _rows(f"{name}: {part}", own, len(content["seeds"]))


def _rows(name: str, content: dict[str, Any], seeds: int) -> Iterator[dict[str, Any]]:
    parts = {
        "all": content["test"],
        **content["per_crystal_system"],
        "validation, all": content["val"],
        "predicting the mean, all": content["test_mean_baseline"],
    }
    for part, values in parts.items():
        row: dict[str, Any] = {"recipe": name, "crystals": part, "seeds": seeds}
        for metric in (*METRICS, *(name for name in ELASTIC if name in content["test"])):
            entry = values.get(metric) or {}
            for kind in ("mean", "std"):
                number = entry.get(kind)
                row[f"{metric}_{kind}"] = "" if number is None else f"{number:.4g}"
        row["mae_ten_each"] = " ".join(f"{value:.3f}" for value in values["mae_ten"]["each"] if value is not None)
        yield row


def evaluation_rows(path: Path) -> Iterator[dict[str, Any]]:
    """A row a crystal system, for the model and for predicting the mean."""
    content = json.loads(path.read_text())
    for label, part in (("model", content["errors"]), ("predicting the mean", content["mean_baseline"])):
        for crystals, values in part.items():
            row = {"model": Path(content["model"]).name, "below": content["below"] or "", "what": label}
            yield {**row, "crystals": crystals} | {m: "" if values[m] is None else f"{values[m]:.4g}" for m in METRICS}


def markdown(folders: list[Path]) -> str:
    """MAE_ten of the three targets, a row a family of recipes."""
    table: dict[str, dict[str, str]] = {}
    for folder in folders:
        content = json.loads((folder / "metrics.json").read_text())
        name = yaml.safe_load((folder / "recipe.yaml").read_text())["name"]
        family = name.removesuffix(f"_{content['target']}")
        for label, entry in (
            (f"`{family}_*`", content["test"]),
            ("predicting the mean", content["test_mean_baseline"]),
        ):
            value = entry["mae_ten"]
            spread = "" if value["std"] is None else f" ± {value['std']:.3f}"
            table.setdefault(label, {})[content["target"]] = f"{value['mean']:.3f}{spread}"
    table["predicting the mean"] = table.pop("predicting the mean")
    targets = ("electronic", "ionic", "total")
    lines = [f"| | {' | '.join(targets)} |", "|---|" + "---|" * len(targets)]
    lines += [f"| {label} | {' | '.join(cells.get(t, '–') for t in targets)} |" for label, cells in table.items()]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print what was asked for."""
    folders = [Path(argument) for argument in arguments if argument != "--markdown"]
    if "--markdown" in arguments:
        print(markdown(folders))
        return
    table = [row for path in folders for row in (evaluation_rows(path) if path.suffix == ".json" else rows(path))]
    writer = csv.DictWriter(sys.stdout, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)


if __name__ == "__main__":
    main(sys.argv[1:])
