"""The command line: one public function call per command. Torch and OpenMM are imported only where a command runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer

from molifold import __version__
from molifold.cli import (
    analyze,
    check,
    compare,
    demo,
    diagnose,
    export,
    grow,
    map,
    report,
    sample,
    simulate,
    train,
    watch,
)

app = typer.Typer(
    name="molifold",
    help="Learn, generate and look at the conformations of a molecule.",
    epilog="Start with `molifold demo`. Exit codes: 0 success, 1 failure, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (demo, simulate, train, watch, sample, report, analyze, compare, diagnose, grow, export, check):
    app.command(module.__name__.rsplit(".", 1)[1], no_args_is_help=module not in (demo, check))(module.command)
app.add_typer(map.app, name="map")


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (anywhere).")] = False,
) -> None:
    """Options of molifold itself; ``main`` reads ``--debug`` before this is called."""
    if version:
        typer.echo(f"molifold {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 wrong usage.

    What a user can mend (``ValueError``, ``OSError``: a wrong value, a file that is missing) is one line on stderr.
    """
    warnings.showwarning = _warn
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        app([argument for argument in given if argument != "--debug"], prog_name="molifold")
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"error: {_sentence(error)}\n")
        sys.exit(1)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line on stderr, as an error is; where in the code it was said helps nobody here."""
    sys.stderr.write(f"warning: {message}\n")


def _sentence(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ValueError | OSError):
        return text
    return f"{type(error).__name__}: {text}\nThis looks like a bug: run again with --debug and report what it prints."
