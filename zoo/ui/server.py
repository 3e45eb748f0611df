"""From the command line to a page that is served."""

from __future__ import annotations

import errno
import logging
import socket
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from pymatgen.core import Lattice, Structure
from werkzeug.serving import make_server

from zoo.errors import ZooError
from zoo.registry import box
from zoo.ui.app import create_app
from zoo.ui.models import Models, champion_of, registered_models
from zoo.ui.uploads import Crystal


@dataclass(frozen=True)
class Offer:
    """Models and settings that the page offers.

    Attributes:
        models: those named, and those of the registry.
        first: name of the model that is asked at first.
        second: of the one that it is compared with.
    """

    models: Models
    first: str
    second: str | None = None


def offered(model: str | None, compare: str | None, device: str) -> Offer:
    """The models named, loaded, those that come with the zoo and those of the registry, loaded when they are chosen.

    Where none is named, the one in the box is asked.

    Raises:
        ZooError: a named model cannot be loaded.
    """
    found = {name: f"{name} (comes with the zoo)" for name in box.names()}
    with suppress(ZooError):  # no registry, or it is out of reach
        found |= registered_models()
    first = _as_registered(box.DEFAULT if model is None else model, found)
    second = None if compare is None else _as_registered(compare, found)
    named = [name for name in (first, second) if name is not None]
    labels = {name: found.get(name) or (Path(name).resolve().name if Path(name).is_dir() else name) for name in named}
    if len(set(labels.values())) < len(labels):  # two folders of one name
        labels = {name: name for name in named}
    models = Models(labels | {name: label for name, label in found.items() if name not in labels}, device)
    for name in (model, compare):
        if name is not None:
            models.get(_as_registered(name, found))
    return Offer(models, first, second)


def _as_registered(name: str, found: Mapping[str, str]) -> str:
    """A plain name, as `zoo predict` takes it, is a registered model's champion; others stay as they are."""
    champion = champion_of(name)
    return champion if not Path(name).is_dir() and champion in found else name


def serve(offer: Offer, host: str, port: int, browser: bool, tell: Callable[[str], None]) -> None:
    """Serve the page until the user stops it.

    Args:
        offer: what it offers.
        host: to bind to.
        port: to bind to, 0 for any that is free.
        browser: open the page.
        tell: prints a line.

    Raises:
        ZooError: the address cannot be bound to.
    """
    app = create_app(offer.models, offer.first, offer.second, local=host in ("127.0.0.1", "localhost", "::1"))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    with _bound(host, port) as listening:
        server = make_server(host, port, app.server, threaded=True, fd=listening.fileno())
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        Thread(target=_warm_up, args=(offer,), daemon=True).start()
        tell(f"the page is at {address} (Ctrl-C stops it)")
        if browser:
            webbrowser.open(address)
        server.serve_forever()


def _warm_up(offer: Offer) -> None:
    """Ask the first model a small crystal while the user chooses a file, so that all is loaded by then."""
    magnesia = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    with suppress(ZooError):
        offer.models.ask(offer.first, [Crystal("MgO", magnesia.get_primitive_structure())])


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(64)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ZooError(f"port {port} is in use; choose another with --port (0 takes any that is free)") from None
        raise ZooError(f"cannot serve at {host}, port {port}: {error.strerror or error}") from None
    return listening
