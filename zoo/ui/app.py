"""The page as a Dash application: what happens when something is dropped, chosen or clicked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import dash
import numpy as np
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, no_update

from zoo.errors import ZooError
from zoo.ui.about import about
from zoo.ui.layout import layout
from zoo.ui.models import Models, as_json
from zoo.ui.panel import Said, comparable, heading, number, panel
from zoo.ui.scene import SURFACE_COLOURS, per_angstrom, scene
from zoo.ui.surface import Surface, caption, surface_of
from zoo.ui.uploads import MAX_ATOMS, Crystal, crystals_of

LARGEST_REQUEST = 64_000_000  # bytes: base64 of as many files as `assets/page.js` lets through
LOCAL = ("127.0.0.1", "localhost", "[::1]")

Files = Sequence[Mapping[str, Any]] | None


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
        Output("crystal", "options"), Output("crystal", "value"), Output("choice", "hidden"), Input("files", "data")
    )
    def offer_crystals(files: Files) -> tuple[list[dict[str, Any]], int | None, bool]:
        names = [str(file.get("name")) for file in files or ()]
        return [{"label": name, "value": n} for n, name in enumerate(names)], 0 if names else None, len(names) < 2

    @app.callback(
        Output("scene", "data"),
        Output("panel", "children"),
        Output("heading", "children"),
        Output("message", "children"),
        Output("save", "disabled"),
        Output("save-other", "hidden"),
        Input("crystal", "value"),
        Input("files", "data"),
        Input("model", "value"),
        Input("other", "value"),
        Input("coverage", "value"),
        Input("symprec", "value"),
    )
    def answer(
        chosen: int | None, files: Files, model: str | None, other: str | None, coverage: float, symprec: float | None
    ) -> tuple[Any, ...]:
        crystals = crystals_of(files)
        if not crystals:
            return (None, *_before(models, model, other), True, True)
        which = chosen if chosen is not None and chosen < len(crystals) else 0
        crystal = crystals[which]
        said, refused = [], [] if not isinstance(crystal.structure, ZooError) else [str(crystal.structure)]
        for name in dict.fromkeys([model, other]):
            if name is None or isinstance(crystal.structure, ZooError):
                continue
            try:
                # All of them at once, in batches; the others are then at hand when they are chosen.
                found = models.ask(name, crystals, symprec, coverage)[which]
                if isinstance(found, ZooError):
                    raise found
                said.append(Said(models.names[name], models.get(name).card, found))
            except ZooError as error:
                refused.append(str(error))
        top: Any = heading(said[0].answer, len(crystal.structure), crystal.name) if said else crystal.name  # type: ignore[arg-type]
        sentences = [_sentence(reason) for reason in dict.fromkeys(refused)]
        return _scene(crystal, said), panel(said) if said else [], top, sentences, False, other in (None, model)

    @app.callback(
        Output("saved", "data"),
        Input("save", "n_clicks"),
        Input("save-other", "n_clicks"),
        State("files", "data"),
        State("model", "value"),
        State("other", "value"),
        State("coverage", "value"),
        State("symprec", "value"),
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
    ) -> Any:
        crystals = crystals_of(files)
        if not crystals:
            return no_update
        name = other if ctx.triggered_id == "save-other" else model
        text = as_json(crystals, models.ask(name, crystals, symprec, coverage))
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
        ClientsideFunction("zoo", "show"),
        Output("picture", "figure"),
        Output("caption", "children"),
        Output("left", "className"),
        Input("scene", "data"),
        Input("shown", "value"),
    )


def _before(models: Models, *names: str | None) -> tuple[list[Any], str, list[Any]]:
    """Panel, heading and message while there is no crystal: what the models are, or why they cannot be asked."""
    known, refused = [], []
    for name in dict.fromkeys(name for name in names if name is not None):
        try:
            known.append(about(models.names.get(name, name), models.get(name).card))
        except ZooError as error:
            refused.append(_sentence(str(error)))
    return known, "No crystal yet", refused


def _sentence(words: str) -> Any:
    return dash.html.P(words, className="error")


def _scene(crystal: Crystal, said: Sequence[Said]) -> dict[str, Any] | None:
    """The figure and its caption, ready for the browser; None for a crystal that cannot be drawn."""
    structure = crystal.structure
    if isinstance(structure, ZooError) or len(structure) > MAX_ATOMS:
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
    figure = scene(structure, drawn)
    figure.update_layout(uirevision=f"{crystal.name} {structure.formula}")
    return {"figure": figure.to_dict(), "caption": words, "colours": SURFACE_COLOURS}


def _failed(error: Exception) -> None:
    """One sentence instead of a silent failure; what happened stands in the terminal."""
    if not isinstance(error, ZooError):
        logging.getLogger(__name__).error("the page could not answer", exc_info=error)
    words = str(error) if isinstance(error, ZooError) else f"this went wrong: {type(error).__name__}: {error}"
    dash.set_props("message", {"children": [_sentence(words)]})
