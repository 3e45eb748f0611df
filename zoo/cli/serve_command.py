"""`zoo serve`: MLflow's scoring server, after what would keep it from starting has been told in one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from zoo.errors import ZooError

CONFIG = "MLFLOW_PYFUNC_INFERENCE_CONFIG"  # where MLflow looks for values of a served model's model_config
QUESTION = (
    """python -c 'import json, sys; print(json.dumps({"inputs": [{"cif": open(sys.argv[1]).read()}]}))' YOUR.cif"""
)
PATIENCE = 20  # s, for requests under way when the server is stopped


@click.command("serve")
@click.argument("model")
@click.option("--port", type=click.IntRange(1, 65535), default=5001, show_default=True)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines ask; it has no password."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes, each with the model.")
@click.option("--max-atoms", type=click.IntRange(1), help="Of a crystal; default 1,000.")
@click.option("--max-crystals", type=click.IntRange(1), help="Of a request; default 1,000.")
@click.option("--max-megabytes", type=click.IntRange(1), help="Of the body of a request; default 16.")
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Seconds for a request.")
def serve_command(
    model: str,
    port: int,
    host: str,
    workers: int,
    max_atoms: int | None,
    max_crystals: int | None,
    max_megabytes: int | None,
    timeout: int,
) -> None:
    """Answer over HTTP: `mlflow models serve`, with what can be wrong looked at first.

    MODEL is the name of a registered model (its champion answers), an MLflow URI such as models:/dtnet-total/3, a run
    folder or a model folder. Questions are CIF texts or pymatgen dicts, one or many; the answers are those of
    `zoo predict --format json`.

    \b
    zoo serve dtnet-total
    zoo serve runs/mine --port 5002 --max-atoms 200
    """
    click.echo(f"loading {model}", err=True)
    limits = {"max_atoms": max_atoms, "max_crystals": max_crystals, "max_megabytes": max_megabytes}
    with _servable(model) as uri:
        _require_free(host, port)
        argv = ["models", "serve", "--model-uri", uri, "--env-manager", "local", "--host", host, "--port", str(port)]
        argv += ["--workers", str(workers), "--timeout", str(timeout)]
        environment = _environment({name: value for name, value in limits.items() if value is not None})
        server = subprocess.Popen([sys.executable, "-m", "mlflow", *argv], env=environment, start_new_session=True)
        shown = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        with _ended_with_us(server):
            if _answers(server, host, port):
                click.echo(f"{model} answers at {shown}/invocations; stop it with Ctrl-C. For instance:")
                click.echo(
                    f"{QUESTION} | curl -s --noproxy '*' {shown}/invocations -H 'Content-Type: application/json' -d @-"
                )
            code = server.wait()
    raise ZooError(f"the server ended by itself (exit code {code}); what it said is above")


@contextmanager
def _servable(model: str) -> Iterator[str]:
    """A URI that `mlflow models serve` takes, of a model that loads here; a folder is made an MLflow model meanwhile.

    Raises:
        ZooError: there is no such model, the registry is not reached, or it cannot be loaded.
    """
    from zoo.model import checkpoint
    from zoo.tracking.fetch import model_folder_of

    folder = model_folder_of(model)
    card, _ = checkpoint.load(folder)  # a plugin that is missing is told here in one line
    if not Path(model).is_dir():
        yield model if ":" in model else f"models:/{model}@champion"
        return
    import mlflow

    from zoo.tracking import served_model
    from zoo.tracking.send import requirements

    with tempfile.TemporaryDirectory() as name:
        mlflow.pyfunc.save_model(
            path=f"{name}/model",
            python_model=str(Path(served_model.__file__)),
            artifacts={"model": str(folder)},
            pip_requirements=requirements(card.recipe),
            model_config=served_model.LOGGED["model_config"],
        )
        yield f"{name}/model"


def _require_free(host: str, port: int) -> None:
    """See that the port can be had.

    Raises:
        ZooError: it cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ZooError(f"port {port} of {host} cannot be had ({error.strerror}); choose another with --port") from None


def _environment(limits: dict[str, int]) -> dict[str, str]:
    """Of the server: this Python's commands first, the registry that we look in, the limits."""
    from zoo.tracking.connect import tracking_uri

    given = os.environ
    path = os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")])
    environment = {**given, "PATH": path, "MLFLOW_TRACKING_URI": tracking_uri(None)}
    if limits:
        try:
            environment[CONFIG] = json.dumps({**json.loads(given.get(CONFIG, "{}")), **limits})
        except (ValueError, TypeError):
            raise ZooError(f"{CONFIG} is no JSON object of limits; mend it, or unset it") from None
    return environment


def _answers(server: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until the server answers; False where it ends before."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # http_proxy is for elsewhere
    there = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    while server.poll() is None:
        try:
            direct.open(f"http://{there}:{port}/ping", timeout=2).close()
            return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


@contextmanager
def _ended_with_us(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ctrl-C, a termination or a closed terminal ends the server and its workers, then us, without an error."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
        raise click.exceptions.Exit(0) from None
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """All processes of the server's session: mlflow's own, and those that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        if not _session_lives(server.pid, PATIENCE):
            break


def _session_lives(group: int, seconds: float) -> bool:
    """Whether any process of the group is still there after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True
