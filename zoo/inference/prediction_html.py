"""Show answers in a notebook: warnings, ellipsoids, matrices and numbers; several answers as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.inference.ellipsoid_svg import ellipsoid
from zoo.inference.prediction_text import LABELS, header, matrix, number, of_each, symbol, with_interval

_MATRIX = "font-family:monospace;margin:6px 0;line-height:1.35;white-space:pre"
_CARD = "padding:8px 14px;border:1px solid rgba(128,128,128,.35);border-radius:6px"
_WARNING = "margin:4px 0;padding:4px 10px;border-left:4px solid #d68910;background:rgba(243,156,18,.15)"
_LEFT = "text-align:left;padding:1px 6px"
_SMALL = "font-size:smaller;opacity:.75"


def card_of(content: Mapping[str, Any], targets: Sequence[TensorTarget]) -> str:
    """Return one answer as HTML that needs no style sheet and no script.

    Args:
        content: `Prediction.as_dict`.
        targets: its tensors, of which the last is the main one.
    """
    each = of_each(content, targets)
    pieces = [f"<div><b>{_formula(content['formula'])}</b>, {escape(content['crystal_system'])}</div>"]
    pieces += [
        f"<div style='{_WARNING}'><b>⚠ {escape(kind)}</b>: {escape(warning)}</div>"
        for kind, warning in zip(content["warning_kinds"], content["warnings"], strict=True)
    ]
    largest = max((np.abs(one["eigenvalues"]).max() for one in each if "eigenvalues" in one), default=1.0)
    cards = [_card(one, target, largest) for one, target in zip(each, targets, strict=True)]
    pieces.append(f"<div style='display:flex;flex-wrap:wrap;gap:10px;margin:6px 0'>{''.join(cards)}</div>")
    notes = _about_intervals(content)
    if "eigenvalues" in content:
        same = " at one scale" if len(targets) > 1 else ""
        notes.append(f"Ellipsoids: r = T·n over all unit vectors n{same}; lines: principal axes.")
    pieces.append(f"<div style='{_SMALL}'>{' '.join(notes)}</div>")
    return f"<div>{''.join(pieces)}</div>"


def table_of(
    contents: Sequence[Mapping[str, Any]], targets: Sequence[TensorTarget], names: Sequence[str | None] = ()
) -> str:
    """Return several answers as a table: constants, refractive index, anisotropy, and kinds of warnings.

    Args:
        contents: `Prediction.as_dict` of each.
        targets: the tensors of each, of which the last is the main one.
        names: paths of those that come from files, of all or of none.
    """
    columns = [
        (k, name, f"{symbol(target)} {LABELS[name]}" if len(targets) > 1 else LABELS[name])
        for k, (one, target) in enumerate(zip(of_each(contents[0], targets), targets, strict=True))
        for name in LABELS
        if name in one and name != "eigenvalues" and (name != "anisotropy" or target == targets[-1])
    ]
    titles = [*(["file"] if names else []), "formula", "crystal system", *(title for *_, title in columns), "warnings"]
    rows = []
    for index, content in enumerate(contents):
        path = str(names[index] or "") if names else ""
        cells = [f"<span title='{escape(path)}'>{escape(Path(path).name)}</span>"] if names else []
        cells += [_formula(content["formula"]), escape(content["crystal_system"])]
        each = of_each(content, targets)
        for k, name, _ in columns:
            words = escape(with_interval(each[k], name)) if name in each[k] else ""
            cells.append(f"<span style='white-space:nowrap'>{words}</span>")
        cells.append("".join(f"<div>⚠ {escape(kind)}</div>" for kind in dict.fromkeys(content["warning_kinds"])))
        rows.append("".join(f"<td style='{_LEFT}'>{cell}</td>" for cell in cells))
    head = "".join(f"<th style='{_LEFT}'>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    note = f"<div style='{_SMALL}'>{''.join(_about_intervals(contents[0]))}</div>"
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}</div>"


def _card(content: Mapping[str, Any], target: TensorTarget, largest: float) -> str:
    """Return one tensor: what it is, ellipsoid, matrix, numbers."""
    pieces = [f"<div><b>{escape(header(target))}</b></div>"]
    tensor = np.array(content["tensor"])
    if "eigenvalues" in content:
        pieces.append(ellipsoid(tensor, largest))
    if target.per_atom:
        lines = [f"atom {k}\n" + "\n".join(matrix(one, target)) for k, one in enumerate(tensor)]
    else:
        lines = matrix(tensor, target)
    pieces.append(f"<div style='{_MATRIX}'>{escape(chr(10).join(lines))}</div>")
    numbers = {
        label: "  ".join(map(number, content[name])) if name == "eigenvalues" else with_interval(content, name)
        for name, label in LABELS.items()
        if name in content
    }
    if "axes" in content:
        axes = [f"({', '.join(f'{round(x, 2) + 0.0:g}' for x in axis)})" for axis in content["axes"]]
        numbers["principal axes"] = " ".join(axes)
    rows = "".join(
        f"<tr><td style='{_LEFT}'>{escape(label)}</td><td style='{_LEFT}'>{escape(words)}</td></tr>"
        for label, words in numbers.items()
    )
    return f"<div style='{_CARD}'>{''.join(pieces)}<table>{rows}</table></div>"


def _about_intervals(content: Mapping[str, Any]) -> list[str]:
    share = content["coverage"]
    return [] if share is None else [f"In brackets: {100 * share:.0f} % intervals."]


def _formula(plain: str) -> str:
    """`TiO2` with its 2 set low."""
    return re.sub(r"(?<=[A-Za-z)\]])(\d+\.?\d*)", r"<sub>\1</sub>", escape(plain))
