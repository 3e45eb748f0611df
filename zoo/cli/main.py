"""Entry point of `zoo`: the group of all commands, and the handling of errors."""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import logging
import os
import sys
import time
import warnings

import click

from zoo import __version__
from zoo.errors import LeftAlone, ZooError
from zoo.runtime import timing  # noqa: F401 - what a command took counts from here

# command -> module that holds it under the same name
COMMANDS = {
    "run": "zoo.cli.run_command",
    "refit": "zoo.cli.refit_command",
    "pretrain": "zoo.cli.pretrain_command",
    "predict": "zoo.cli.predict_command",
    "serve": "zoo.cli.serve_command",
    "evaluate": "zoo.cli.evaluate_command",
    "embed": "zoo.cli.embed_command",
    "phonons": "zoo.cli.phonons_command",
    "spectrum": "zoo.cli.spectrum_command",
    "label": "zoo.cli.label_command",
    "screen": "zoo.cli.screen_command",
    "discover": "zoo.cli.discover_command",
    "ui": "zoo.cli.ui_command",
    "models": "zoo.cli.models_command",
    "list": "zoo.cli.plugins_command",
    "compat": "zoo.cli.compat_command",
    "new": "zoo.cli.new_command",
    "recipes": "zoo.cli.recipes_command",
    "data": "zoo.cli.data_command",
    "cache": "zoo.cli.cache_command",
    "convert": "zoo.cli.convert_command",
    "track": "zoo.cli.track_command",
    "promote": "zoo.cli.promote_command",
    "matbench": "zoo.cli.matbench_command",
    "cite": "zoo.cli.cite_command",
}
HELP = {
    "run": "Train what a recipe describes.",
    "refit": "Train the final model on all crystals, after a cross-validation.",
    "pretrain": "Train an encoder as an interatomic potential, or tune one.",
    "predict": "Tensors of crystals, from CIF or VASP files.",
    "serve": "Answer over HTTP.",
    "evaluate": "Test a model on labelled crystals of another source.",
    "embed": "Equivariant features of atoms and crystals, to Parquet or npz.",
    "phonons": "Phonons at Γ of crystals, by a potential.",
    "spectrum": "The infrared spectrum of a crystal: a table and a picture.",
    "label": "Structures near a dataset's crystals, with a potential's energies, forces and stress.",
    "screen": "Choose, of many crystals, those that are worth a calculation.",
    "discover": "Search in rounds: train, choose, calculate, train again on what has come.",
    "ui": "A page in the browser: crystals in 3D, their tensors, two models compared.",
    "models": "The models that can be asked: in the box, in the registry, in runs/.",
    "list": "The plugins that are installed: encoders, readouts, datasets, objectives, acquisitions, oracles.",
    "compat": "Which encoder goes with which readout, and why not.",
    "new": "A package with a plugin of your own, to start from.",
    "recipes": "The recipes that ship with the zoo.",
    "data": "Look at datasets, check and fetch them.",
    "cache": "How much the cache holds, and what of it to delete.",
    "convert": "Weights of another package's model, for an encoder.",
    "track": "Send a finished run to MLflow.",
    "promote": "Make a registered model's challenger its champion, if it is better.",
    "matbench": "The refractive index, on Matbench's folds.",
    "cite": "BibTeX of what an answer rests on: model, encoder, data.",
}


NO_ARGUMENTS: tuple[type[click.UsageError], ...] = tuple(
    kind
    for kind in (getattr(click.exceptions, "NoArgsIsHelpError", None),)
    if kind is not None  # from click 8.2 on
)


class LazyGroup(click.Group):
    """Group that imports the module of a command only when it is called or its help is shown."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return the command of that name, or None."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[name]), f"{name}_command")
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands in `zoo --help` without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, HELP[name]) for name in COMMANDS])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; the error for an unknown name suggests the most similar one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from zoo.errors import did_you_mean

            raise ZooError(f"there is no command '{args[0]}'.{did_you_mean(args[0], COMMANDS)} (zoo --help)")
        return super().resolve_command(context, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zoo")
def group() -> None:
    """Equivariant models for tensor properties of crystals.

    \b
    Start here:
      zoo predict my.cif                   dielectric tensors, by the model that comes with the zoo
      zoo run dtnet_total                  train a model of your own on real DFPT data
      zoo predict RUN_DIR my.cif           ask that
      zoo list                             what there is to combine
    """


def main() -> None:
    """Run the command line; errors that the user can put right are one line on stderr and exit code 2."""
    warnings.filterwarnings("ignore")  # of the libraries: a user can do nothing about them
    logging.captureWarnings(True)
    # Figures are files. A Jupyter kernel names a backend that this process may not have, as in `!zoo run` of another
    # environment, and matplotlib would refuse to be imported.
    os.environ["MPLBACKEND"] = "agg"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # spglib's C code prints lines about a crystal to which it gives a lower symmetry; where it matters zoo says so.
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    # Before torch is imported: OpenMP's threads sleep at barriers. Spinning there, as they do by default, makes
    # everything several times slower as soon as the cores are shared with another program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Nearly all that imports make stays. Looked through for garbage as often as Python does by default, it takes an
    # eighth of the time of a short command.
    gc.set_threshold(10_000, 20, 20)
    # Python would look through all that the libraries hold once more before it ends, which takes a second and more.
    atexit.register(gc.freeze)
    try:
        code = group(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except ZooError as error:
        give_way(error)
        fail(str(error))
    except NO_ARGUMENTS as error:  # `zoo` and `zoo data` alone: their help, not a line of it
        click.echo(error.ctx.get_help() if error.ctx else error.format_message())
    except click.UsageError as error:
        fail(error.format_message() + (f" ({error.ctx.command_path} --help)" if error.ctx else ""))
    except click.ClickException as error:
        fail(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)  # a command that can be resumed has said how
    except BrokenPipeError:
        # The reader of our output went away (`zoo list | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        fail(f"{str(error.filename)[:60]}... is longer than a file name can be")


def give_way(error: ZooError) -> None:
    """Delay the message of a process that is not the first one, or that only lost its peers, in a distributed training.

    The launcher ends all processes as soon as one has ended, so only the process that knows the cause prints it.
    """
    if isinstance(error, LeftAlone):
        time.sleep(6)
    elif os.environ.get("RANK", "0") != "0":
        time.sleep(3)


def fail(message: str) -> None:
    """Print one line on stderr and exit with code 2."""
    rank = os.environ.get("RANK", "0")  # of the processes of one training
    who = "" if rank == "0" else f"process {rank}: "
    click.echo(f"zoo: {who}{' '.join(message.split())}", err=True)
    sys.exit(2)
