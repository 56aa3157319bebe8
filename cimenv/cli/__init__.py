"""Floor 7: the command line, `cimenv` or `python -m cimenv`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from cimenv.cli import attack, cache, candidates, enumeration, evaluate, placements, sensitivity, tasks
from cimenv.core.errors import CimenvError

HELP = """Where to put error-compensation blocks in an analog in-memory accelerator.

\b
Start with
  cimenv tasks
  cimenv show lenet5-fashion-mini
  cimenv search lenet5-fashion-mini --method greedy --max-weights 0.05

A task is a named one or a YAML file that extends one; --set changes a field.
A placement is one option index per site, 0 for none: 0,2,0,1,0. What was
trained or evaluated is kept in the folder CIMENV_CACHE and never made twice.
Every command has --help; results are printed for readers, or with --json for
programs. Exit code 2: one sentence on standard error says what to change.
"""

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.command("tasks")(tasks.tasks)
app.command("show")(tasks.show)
app.command("evaluate")(evaluate.evaluate)
app.command("attack")(attack.attack)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("candidates")(candidates.candidates)
app.command("search")(placements.search)
app.command("place")(placements.place)
app.command("render")(placements.render)
app.command("enumerate")(enumeration.enumerate_task)
app.command("validate")(enumeration.validate_file)
app.add_typer(cache.app, name="cache")


def _version(wanted: bool) -> None:
    if wanted:
        from cimenv import __version__

        print(__version__)
        raise typer.Exit


@app.callback(help=HELP)
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run; an error that cimenv raises on purpose is one sentence on stderr and exit code 2."""
    sys.path.append(str(Path.cwd()))  # for a user's package.module:factory; python -m does the same
    with warnings.catch_warnings():
        # The sentence, not where in the code it was raised.
        warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
        try:
            app(prog_name="cimenv")
        except CimenvError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
