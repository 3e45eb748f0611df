"""Tabs of the page that explain an ionic tensor: modes at Γ with their shares, Born charges, the spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from dash import dcc, html
from dash.development.base_component import Component
from plotly import graph_objects
from plotly.subplots import make_subplots

from zoo.errors import ZooError
from zoo.inference.explanation import FIXED_CELL, Explanation
from zoo.inference.phonon_warnings import MUCH
from zoo.phonons.infrared import DAMPING, InfraredSpectrum
from zoo.phonons.mode_table import mode_lines
from zoo.report.phonon_figures import axis_words

ATOMS_SHOWN = 40
COLOURS = ("#2563a8", "#b3501a", "#2e7d4f")
DASHES = ("solid", "dash", "dot")


def modes_tab(model: str | None, why: Explanation) -> list[Component]:
    """Modes at Γ and Born charges of one model's explanation; `model` is its name where there are two."""
    header, lines = mode_lines(why.modes)
    atoms = "one atom" if len(why.cell) == 1 else f"{len(why.cell)} atoms"
    note = (
        f"Of the primitive cell, {atoms}; of the force constants as the model corrects them, in the last column what "
        f"the potential itself gives the same displacements. ε0 is {FIXED_CELL}. The tensor that these modes make "
        f"differs by {why.deviation:.2g} (Frobenius norm) from the answer."
    )
    table = _table(header[:-1], [line[:-1] for line in lines], "modes") if lines else html.P("No optic modes.")
    return [_section(_title("Modes at Γ", model), table, note), _charges(model, why)]


def spectrum_tab(model: str | None, why: Explanation) -> list[Component]:
    """The infrared spectrum of one model's explanation, or why there is none."""
    title = _title("Infrared spectrum", model)
    return [_spectrum(title, why)]


def _title(words: str, model: str | None) -> str:
    return f"{words}, {model}" if model else words


def _spectrum(title: str, why: Explanation) -> Component:
    if why.imaginary_share > MUCH:
        share = f"{100 * why.imaginary_share:.0f} %"
        return _section(title, html.P(f"None: {share} of ε0 is along modes that are imaginary in the potential."))
    try:
        spectrum = why.spectrum()
    except ZooError as error:
        return _section(title, html.P(f"None: {error}."))
    note = f"At normal incidence, the field along a principal axis; a damping of {DAMPING:g} cm⁻¹ for all modes."
    config: Any = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage", "zoom2d", "resetScale2d"]]}
    return _section(title, dcc.Graph(figure=figure(spectrum), config=config, className="spectrum"), note)


def figure(spectrum: InfraredSpectrum) -> graph_objects.Figure:
    """Absorption above, reflectivity below, against the wavenumber, for each principal axis that differs."""
    made = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for turn, number in enumerate(spectrum.distinct_axes()):
        axis, words = spectrum.axes[number], axis_words(spectrum, number)
        at = spectrum.wavenumbers.astype(np.float32)
        style = {"color": COLOURS[turn], "dash": DASHES[turn], "width": 1.5}
        shared: dict[str, Any] = {
            "x": at,
            "name": words,
            "line": style,
            "legendgroup": words,
        }
        made.add_scatter(y=(spectrum.absorption(axis) / 1e4).astype(np.float32), row=1, col=1, **shared)
        reflected = (100 * spectrum.reflectivity(axis)).astype(np.float32)
        made.add_scatter(y=reflected, row=2, col=1, showlegend=False, **shared)
    made.update_yaxes(title_text="absorption, 10⁴ cm⁻¹", row=1, col=1)
    made.update_yaxes(title_text="reflectivity, %", range=[0, 100], row=2, col=1)
    made.update_xaxes(title_text="wavenumber, cm⁻¹", row=2, col=1)
    made.update_layout(
        height=440,
        margin={"l": 60, "r": 10, "t": 10, "b": 45},
        template="plotly_white",
        legend={"orientation": "h", "y": 1.08},
    )
    return made


def _charges(model: str | None, why: Explanation) -> Component:
    header = ("Atom", "", *(f"{a}{b}" for a in "xyz" for b in "xyz"))
    lines = [
        (str(number), element, *(_signed(value) for value in np.ravel(born)))
        for number, (element, born) in enumerate(zip(why.elements, why.born, strict=True), 1)
    ]
    more = f" The first {ATOMS_SHOWN} of {len(lines)} atoms; the JSON has all." if len(lines) > ATOMS_SHOWN else ""
    note = f"In e, polarisation along the first axis by displacement along the second.{more}"
    return _section(_title("Born charges", model), _table(header, lines[:ATOMS_SHOWN], "charges"), note)


def _signed(value: float) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}".replace("-", "−")


def _table(header: Sequence[str], lines: Sequence[Sequence[str]], kind: str) -> Component:
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in header]))
    rows = [html.Tr([html.Td(cell, className="value") for cell in line]) for line in lines]
    return html.Div(html.Table([head, html.Tbody(rows)], className=kind), className="wide")


def _section(title: str, content: Component, note: str = "") -> Component:
    return html.Section([html.H2(title), content, *([html.P(note, className="note")] if note else [])])
