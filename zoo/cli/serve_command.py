"""`zoo serve`: a model over HTTP, by MLflow's scoring server in this process."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from zoo.errors import ZooError
from zoo.registry import box

if TYPE_CHECKING:
    from zoo.tracking.request_validation import Limits

CONFIG = "MLFLOW_PYFUNC_INFERENCE_CONFIG"  # where MLflow looks for values of a served model's model_config
QUESTION = (
    """python -c 'import json, sys; print(json.dumps({"inputs": [{"cif": open(sys.argv[1]).read()}]}))' YOUR.cif"""
)
TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
PATIENCE = 20  # s, for requests under way when the server is stopped
KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than clients and proxies keep theirs, 60 s as a rule.

Uvicorn's 5 s end while clients still use theirs, and a request that is just being sent is lost."""


@click.command("serve")
@click.argument("model", default=box.DEFAULT)
@click.option("--port", type=click.IntRange(1, 65535), default=5001, show_default=True)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines ask; it has no password."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes, each with the model.")
@click.option("--max-atoms", type=click.IntRange(1), help="Of a crystal; default 1,000.")
@click.option("--max-edges", type=click.IntRange(1), help="Of a crystal's graph; default 200,000.")
@click.option("--max-crystals", type=click.IntRange(1), help="Of a request; default 1,000.")
@click.option("--max-megabytes", type=click.IntRange(1), help="Of the body of a request; default 16.")
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Seconds for a prediction.")
def serve_command(
    model: str,
    port: int,
    host: str,
    workers: int,
    max_atoms: int | None,
    max_edges: int | None,
    max_crystals: int | None,
    max_megabytes: int | None,
    timeout: int,
) -> None:
    """Answer over HTTP, by MLflow's scoring server.

    MODEL is the name of a registered model (its champion answers), an MLflow URI such as models:/dtnet-total/3, a run
    folder or a model folder; without one, the model that comes with the zoo answers. Questions are CIF texts or
    pymatgen dicts, one or many; the answers are those of `zoo predict --format json`.

    \b
    zoo serve
    zoo serve dtnet-total
    zoo serve runs/mine --port 5002 --max-atoms 200
    """
    from zoo.model import checkpoint
    from zoo.registry.fetch import model_folder_of
    from zoo.tracking.request_validation import Limits

    click.echo(f"loading {model}", err=True)
    folder = model_folder_of(model)
    checkpoint.load(folder)  # a plugin that is missing is named here, in one line
    _require_free(host, port)
    given = {
        "max_atoms": max_atoms,
        "max_edges": max_edges,
        "max_crystals": max_crystals,
        "max_megabytes": max_megabytes,
        "max_seconds": timeout,
    }
    limits = Limits.of(_configured() | {name: value for name, value in given.items() if value is not None})
    os.environ[TIMEOUT] = str(20 * timeout)  # MLflow's own, of a request: it may wait for others, and for a restart
    shown = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    threading.Thread(target=_announce, args=(model, shown, host, port), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        _serve(folder, limits, host, port, workers)
    except KeyboardInterrupt:  # before the server has begun; afterwards uvicorn returns where a signal ends it
        pass
    except SystemExit:
        raise ZooError("the server ended by itself; its messages are above") from None
    click.echo("stopping", err=True)


def _serve(folder: Path, limits: Limits, host: str, port: int, workers: int) -> None:
    """Answer until a signal ends it: one process by itself, several with one that watches over them."""
    import uvicorn

    from zoo.tracking.request_validation import WORKER_SETTINGS

    how: dict[str, Any] = {"host": host, "port": port, "log_level": "warning"}
    how |= {"timeout_graceful_shutdown": PATIENCE, "timeout_keep_alive": KEEP_ALIVE}
    if workers == 1:
        from zoo.tracking.scoring_app import scoring_app

        app = scoring_app(folder, limits)
        # The command line collects garbage rarely, as most of it is short. Failed requests leave cycles that hold whole
        # bodies: they are to be collected soon, without a look at all that stays.
        gc.collect()
        gc.freeze()
        gc.set_threshold(700, 10, 10)
        uvicorn.run(app, **how)
        return
    settings = {"folder": str(folder.absolute()), "limits": asdict(limits), "parent": os.getpid()}
    os.environ[WORKER_SETTINGS] = json.dumps(settings)
    uvicorn.run("zoo.tracking.scoring_app:worker_app", factory=True, workers=workers, **how)


def _configured() -> dict[str, Any]:
    """Limits from MLflow's own variable for a served model's settings.

    Raises:
        ZooError: it is no JSON object.
    """
    try:
        return dict(json.loads(os.environ.get(CONFIG, "{}")))
    except (ValueError, TypeError):
        raise ZooError(f"{CONFIG} is no JSON object of limits; mend it, or unset it") from None


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _announce(model: str, shown: str, host: str, port: int) -> None:
    """Say where the model answers, as soon as it does."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # http_proxy is for elsewhere
    there = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(  # noqa: S104 - where such a server is asked from here
        host, f"[{host}]" if ":" in host else host
    )
    while True:
        try:
            direct.open(f"http://{there}:{port}/ping", timeout=2).close()
            break
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    click.echo(f"{model} answers at {shown}/invocations; stop it with Ctrl-C. For instance:")
    post = "curl -s --noproxy '*'"
    click.echo(f"{QUESTION} | {post} {shown}/invocations -H 'Content-Type: application/json' -d @-")


def _require_free(host: str, port: int) -> None:
    """Check that the port is free.

    Raises:
        ZooError: it is not.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ZooError(
            f"port {port} of {host} is not available ({error.strerror}); choose another with --port"
        ) from None
