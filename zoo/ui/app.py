"""The page as a Dash application: what happens when something is dropped, chosen or clicked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import dash
import numpy as np
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update

from zoo.errors import ZooError
from zoo.ui.about import about
from zoo.ui.layout import layout
from zoo.ui.models import Models, as_json
from zoo.ui.panel import Said, comparable, content, heading, keys, number, tabs
from zoo.ui.scene import MOST_ATOMS, per_angstrom, scene, surfaces_of
from zoo.ui.surface import Surface, caption, surface_of
from zoo.ui.uploads import MAX_ATOMS, Crystal, crystals_of

LARGEST_REQUEST = 64_000_000  # bytes: base64 of as many files as `assets/page.js` lets through
LOCAL = ("127.0.0.1", "localhost", "[::1]")
OPEN = 3  # refused files up to which their reasons are shown without a click

File = Mapping[str, Any]
Files = Sequence[File] | None


def create_app(models: Models, first: str | None = None, second: str | None = None, local: bool = True) -> Dash:
    """The application.

    Args:
        models: on offer.
        first: name of the model that is asked at first.
        second: of the one that it is compared with.
        local: answer only requests that call this machine by a local name, so that no page of another site, which has
            its name point here, can ask.
    """
    app = Dash(__name__, title="zoo", update_title="", on_error=_failed)
    app.server.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    if local:
        app.server.config["TRUSTED_HOSTS"] = list(LOCAL)
    app.layout = layout(models.names, first, second)
    _on_the_browser(app)

    @app.callback(
        Output("crystal", "options"),
        Output("crystal", "value"),
        Output("choice", "hidden"),
        Output("read", "children"),
        Input("files", "data"),
    )
    def read(files: Files) -> tuple[list[dict[str, Any]], int | None, bool, list[Any]]:
        crystals = crystals_of(files)
        good = [n for n, crystal in enumerate(crystals) if not isinstance(crystal.structure, ZooError)]
        options = [{"label": crystals[n].name, "value": n} for n in good]
        return options, good[0] if good else None, len(good) < 2, _read(crystals)

    # An answer waits for it, as it reads the value: no model is asked for a level that only the one before it knows.
    @app.callback(
        Output("functional", "options"),
        Output("functional", "value"),
        Output("functional", "placeholder"),
        Output("functional", "disabled"),
        Input("model", "value"),
        State("functional", "value"),
    )
    def levels(model: str | None, functional: str | None) -> tuple[list[str], str | None, str, bool]:
        return _levels(models, model, functional)

    # The numbers do not wait for the picture, nor it for them.
    @app.callback(
        Output("scene", "data"), Output("legend", "children"), Input("chosen", "data"), Input("cells", "value")
    )
    def draw(chosen: File | None, cells: int) -> tuple[dict[str, Any] | None, list[Any]]:
        structure = _structure(chosen)
        if structure is None or len(structure) > MAX_ATOMS:
            return None, []
        most = next((n for n in range(cells, 1, -1) if len(structure) * n**3 <= MOST_ATOMS), 1)
        drawn = scene(structure, most)
        legend: list[Any] = [
            html.Span([html.I(style={"background": one["colour"]}), one["symbol"]], className="element")
            for one in drawn["elements"]
        ]
        if most < cells:
            legend.append(html.Span(f"{most}×{most}×{most} cells: at most {MOST_ATOMS:,} atoms are drawn"))
        return drawn, legend

    @app.callback(
        Output("surfaces", "data"),
        Output("tabs", "children"),
        Output("tabs", "value"),
        Output("content", "children"),
        Output("heading", "children"),
        Output("keys", "children"),
        Output("message", "children"),
        Output("save", "disabled"),
        Output("save-other", "hidden"),
        Input("chosen", "data"),
        Input("model", "value"),
        Input("other", "value"),
        Input("coverage", "value"),
        Input("symprec", "value"),
        Input("functional", "value"),
        Input("tabs", "value"),
    )
    def answer(
        chosen: File | None,
        model: str | None,
        other: str | None,
        coverage: float,
        symprec: float | None,
        functional: str | None,
        opened: str,
    ) -> tuple[Any, ...]:
        structure = _structure(chosen)
        if chosen is None or structure is None:
            return (None, [], opened, *_before(models, model, other), True, True)
        crystal = Crystal(str(chosen.get("name")), structure)
        said, refused = [], []
        for name in dict.fromkeys([model, other]):
            if name is None:
                continue
            try:
                (found,) = models.ask(name, [crystal], symprec, coverage, functional)
                if isinstance(found, ZooError):
                    raise found
                said.append(Said(models.names[name], models.get(name).card, found))
            except ZooError as error:
                refused.append(str(error))
        top: Any = heading(said[0].answer, len(structure), crystal.name) if said else crystal.name
        labels = tabs(said)
        # Which tab is open stays when another crystal is chosen, where it is there for that one, too. Only what is on
        # it is written and sent: the answers are kept, so another tab is there at once.
        opened = opened if opened in labels else "answer"
        written = [dcc.Tab(label=label, value=name, className="one-tab") for name, label in labels.items()]
        sentences = [_sentence(reason) for reason in dict.fromkeys(refused)]
        return (
            _surfaces(structure, said),
            written,
            opened,
            content(opened, said, structure),
            top,
            keys(said),
            sentences,
            False,
            other in (None, model),
        )

    @app.callback(
        Output("saved", "data"),
        Input("save", "n_clicks"),
        Input("save-other", "n_clicks"),
        State("files", "data"),
        State("model", "value"),
        State("other", "value"),
        State("coverage", "value"),
        State("symprec", "value"),
        State("functional", "value"),
        prevent_initial_call=True,
    )
    def save(
        _: int,
        __: int,
        files: Files,
        model: str,
        other: str,
        coverage: float,
        symprec: float | None,
        functional: str | None,
    ) -> Any:
        crystals = crystals_of(files)
        if not crystals:
            return no_update
        name = other if ctx.triggered_id == "save-other" else model
        text = as_json(crystals, models.ask(name, crystals, symprec, coverage, functional))
        stem = PurePath(crystals[0].name).stem if len(crystals) == 1 else "answers"
        return dcc.send_string(text, f"{stem}.json", type="application/json")

    return app


def _on_the_browser(app: Dash) -> None:
    """Register the callbacks that need no model and run in the browser, see assets/page.js."""
    app.clientside_callback(
        ClientsideFunction("zoo", "take"),
        Output("files", "data"),
        Output("upload", "contents"),
        Input("upload", "contents"),
        Input("show-example", "n_clicks"),
        State("upload", "filename"),
        State("example", "data"),
        State("limits", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("zoo", "choose"),
        Output("chosen", "data"),
        Input("crystal", "value"),
        Input("files", "data"),
    )
    app.clientside_callback(
        ClientsideFunction("zoo", "show"),
        Output("caption", "children"),
        Output("left", "className"),
        Input("scene", "data"),
        Input("surfaces", "data"),
        Input("shown", "value"),
    )
    app.clientside_callback(
        ClientsideFunction("zoo", "look"),
        Output("picture", "title"),
        *(Input(name, "n_clicks") for name in ("along-a", "along-b", "along-c", "reset", "save-picture")),
        prevent_initial_call=True,
    )


def _structure(chosen: File | None) -> Any:
    """The crystal of a file, None where there is none; those that cannot be read are not on offer."""
    (crystal,) = crystals_of([chosen]) if chosen else (None,)
    return None if crystal is None or isinstance(crystal.structure, ZooError) else crystal.structure


def _read(crystals: Sequence[Crystal]) -> list[Any]:
    """Say how many files were read, and why the others were not; nothing where the only one was."""
    refused = [str(crystal.structure) for crystal in crystals if isinstance(crystal.structure, ZooError)]
    if len(crystals) < 2 and not refused:
        return []
    counted = f"{len(crystals) - len(refused)} of {len(crystals)} read"
    if not refused:
        return [html.P(counted, className="note")]
    reasons = html.Ul([html.Li(reason) for reason in refused])
    return [html.Details([html.Summary(counted), reasons], open=len(refused) <= OPEN, className="refused")]


def _before(models: Models, *names: str | None) -> tuple[list[Any], str, list[Any], list[Any]]:
    """Say, while there is no crystal, what the models are, or why they cannot be asked."""
    known, refused = [], []
    for name in dict.fromkeys(name for name in names if name is not None):
        try:
            known.append(about(models.names.get(name, name), models.get(name).card))
        except ZooError as error:
            refused.append(_sentence(str(error)))
    return known, "No crystal yet", [], refused


def _levels(models: Models, model: str | None, chosen: str | None) -> tuple[list[str], str | None, str, bool]:
    """The levels of theory of a model, which of them is chosen, what is said where none is, and whether none can be."""
    try:
        known = [] if model is None else list(models.get(model).levels)
    except ZooError:  # the answer says why
        known = []
    default = f"{known[0]}, the model's own" if known else "this model does not tell them apart"
    return known, chosen if chosen in known else None, default, not known


def _sentence(words: str) -> Any:
    return dash.html.P(words, className="error")


def _surfaces(structure: Any, said: Sequence[Said]) -> dict[str, Any] | None:
    """The surfaces and their caption, ready for the browser; None where no model has answered."""
    if not said:
        return None
    drawn: list[Surface] = []
    words = ""
    for one in said:
        surface = surface_of(np.asarray(one.answer.tensor, dtype=np.float64), one.answer.target)
        if one is said[0]:
            words = caption(one.answer.target, surface)
        if surface is not None and comparable(said[0].answer.target, one.answer.target):
            drawn.append(surface)
    length = per_angstrom(structure, drawn)
    if length:
        unit = "" if said[0].answer.target.unit == "1" else f" {said[0].answer.target.unit}"
        words += f" 1 Å of the picture stands for {number(length, 2)}{unit}."
    if len(drawn) == 2:
        words += f" Blue: {said[0].model}; orange: {said[1].model}."
    return {"surfaces": surfaces_of(structure, drawn), "caption": words}


def _failed(error: Exception) -> None:
    """One sentence instead of a silent failure; what happened stands in the terminal."""
    if not isinstance(error, ZooError):
        logging.getLogger(__name__).error("the page could not answer", exc_info=error)
    words = str(error) if isinstance(error, ZooError) else f"this went wrong: {type(error).__name__}: {error}"
    dash.set_props("message", {"children": [_sentence(words)]})
