"""Layout of the page before any prediction."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from zoo.evaluation.calibration import LEVELS
from zoo.ui.scene import CELLS
from zoo.ui.uploads import MAX_BYTES, MAX_FILES

EXAMPLE = "molybdite.cif"
SHOWN = {
    "surface": "tensor surface",
    "atoms": "atoms",
    "bonds": "bonds",
    "beyond": "bonded atoms outside",
    "cell": "cell",
    "polyhedra": "polyhedra",
}
AT_FIRST = ["surface", "atoms", "bonds", "beyond", "cell"]


def layout(names: dict[str, str], first: str | None, second: str | None) -> Component:
    """The page: controls above, the picture on the left, the numbers on the right.

    Args:
        names: of the models on offer, see `zoo.ui.models.Models`.
        first: the model that is asked.
        second: the one that it is compared with.
    """
    options = [{"label": label, "value": name} for name, label in names.items()]
    return html.Div(
        [
            dcc.Store(id="files", data=[]),
            dcc.Store(id="example", data=_example()),
            dcc.Store(id="limits", data={"bytes": MAX_BYTES, "files": MAX_FILES}),
            dcc.Store(id="chosen"),
            dcc.Store(id="scene"),
            dcc.Store(id="surfaces"),
            dcc.Download(id="saved"),
            html.Header([html.H1("zoo"), html.P("Tensors of crystals, from the models on this machine.")]),
            html.Div([_drop(), _models(options, first, second), _settings()], className="controls"),
            html.Div(id="read", role="status"),
            html.Div(id="message", role="alert"),
            _headline(),
            html.Main([_picture(), _answer()]),
        ],
        className="page",
    )


def _example() -> dict[str, str]:
    raw = (files("zoo.ui") / "examples" / EXAMPLE).read_bytes()
    return {"name": EXAMPLE, "content": f"data:text/plain;base64,{base64.b64encode(raw).decode()}"}


def _field(label: str, control: Component, target: str, grow: bool = False) -> Component:
    return html.Div([html.Label(label, htmlFor=target), control], className="field grow" if grow else "field")


def _drop() -> Component:
    drop = dcc.Upload(
        html.Div(
            [html.Strong("Drop crystal files here"), html.Span("CIF, POSCAR and others; or click to choose them")]
        ),
        id="upload",
        multiple=True,
        className="drop",
        className_active="drop active",
        style_active={},
        style_reject={},
    )
    example = html.Button("Show an example: molybdite, MoO₃", id="show-example", type="button", className="plain")
    return html.Div([drop, example], className="give", role="group", title="Crystals")


def _models(options: list[dict[str, str]], first: str | None, second: str | None) -> Component:
    shared: dict[str, Any] = {"options": options, "searchable": len(options) > 8}
    return html.Div(
        [
            _field("Model", dcc.Dropdown(id="model", value=first, clearable=False, **shared), "model"),
            _field(
                "Compare with",
                dcc.Dropdown(id="other", value=second, placeholder="no other model", **shared),
                "other",
            ),
        ],
        className="models",
    )


def _settings() -> Component:
    levels = [{"label": f"{100 * level:.0f} %", "value": level} for level in LEVELS]
    coverage = dcc.Dropdown(id="coverage", options=levels, value=0.9, clearable=False, searchable=False)
    symprec = dcc.Input(
        id="symprec",
        type="number",
        step="any",
        debounce=True,
        placeholder="off",
        autoComplete="off",
    )
    functional = dcc.Dropdown(id="functional", options=[], disabled=True, searchable=False)
    return html.Div(
        [
            _field("Intervals", coverage, "coverage"),
            _field("Level of theory", functional, "functional"),
            _field("Project on the symmetry found within, Å", symprec, "symprec"),
        ],
        className="settings",
    )


def _picture() -> Component:
    more: Any = {"aria-label": "The crystal and the surface of its tensor", "tabIndex": "0", "role": "img"}
    canvas = html.Canvas(id="picture", **more)
    buttons = {
        "along-a": ("a", "Look along a"),
        "along-b": ("b", "Look along b"),
        "along-c": ("c", "Look along c"),
        "reset": ("Reset", "As at first; so does a double click"),
        "save-picture": ("PNG", "Save the picture"),
    }
    cells = dcc.RadioItems(
        id="cells", options=[{"label": f"{n}×{n}×{n}", "value": n} for n in CELLS], value=1, inline=True
    )
    return html.Div(
        [
            html.Div(
                _field("Crystal", dcc.Dropdown(id="crystal", clearable=False, options=[]), "crystal"),
                id="choice",
                hidden=True,
            ),
            html.Div(
                [
                    canvas,
                    html.Div(id="tip", hidden=True),
                    html.Div(
                        [
                            html.Button(label, id=name, type="button", title=title, className="plain small")
                            for name, (label, title) in buttons.items()
                        ],
                        className="views",
                    ),
                    html.Div(id="legend", className="legend"),
                    html.P(
                        "Nothing to draw: drop a crystal above, or show the example.", id="empty", className="empty"
                    ),
                ],
                className="frame",
            ),
            html.Div(
                [
                    dcc.Checklist(
                        id="shown",
                        options=[{"label": label, "value": name} for name, label in SHOWN.items()],
                        value=AT_FIRST,
                        inline=True,
                    ),
                    html.Div([html.Span("cells"), cells], className="cells"),
                ],
                className="shown",
            ),
            html.P(id="caption", className="note"),
        ],
        id="left",
        className="left nothing",
    )


def _headline() -> Component:
    save = html.Button("Download JSON", id="save", type="button", disabled=True)
    save_other = html.Button(
        "Download JSON of the second", id="save-other", type="button", hidden=True, className="plain"
    )
    return html.Div(
        [html.H2(id="heading"), html.Div(id="keys"), html.Div([save_other, save], className="buttons")],
        className="top",
        role="status",
    )


def _answer() -> Component:
    panel = html.Div([dcc.Tabs([], id="tabs", value="answer", mobile_breakpoint=0), html.Div(id="content")], id="panel")
    return html.Div(
        dcc.Loading(panel, delay_show=300, type="dot", color="#2563a8"),
        className="right",
    )
