"""Floor 7: the command line, `cimenv` or `python -m cimenv`."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from cimenv.cli import attack, cache, candidates, enumeration, evaluate, placements, sensitivity, tasks
from cimenv.core.errors import CimenvError, brief, one_line
from cimenv.core.writing import disk_faults

UsageError: Any = typer.BadParameter.__base__  # click's, or that of the click within typer

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
    """Run; an error that cimenv raises on purpose, or a wrong word, is one sentence on stderr and exit code 2."""
    sys.path.append(str(Path.cwd()))  # for a user's package.module:factory; python -m does the same
    with warnings.catch_warnings():
        # The sentence, not where in the code it was raised.
        warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
        try:
            with disk_faults("the output"):
                try:
                    code = app(prog_name="cimenv", standalone_mode=False)
                finally:
                    sys.stdout.flush()  # here rather than at exit, where a full disk would be a traceback
        except CimenvError as error:
            print(error, file=sys.stderr)
            _give_up_output()
            sys.exit(2)
        except typer.Abort:  # a question without an answer
            print("Aborted.", file=sys.stderr)
            sys.exit(1)
        except UsageError as error:
            print(_usage(error), file=sys.stderr)
            sys.exit(2)
        except BrokenPipeError:  # of `| head`
            _give_up_output()
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> str:
    """Return one sentence about a wrong word; the help where there was none."""
    text = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        return text
    command = error.ctx.command_path if error.ctx is not None else "cimenv"
    names = getattr(getattr(error, "param", None), "opts", ())
    given = [brief(word) for name, word in itertools.pairwise(sys.argv) if name in names]
    given += [brief(word.partition("=")[2]) for word in sys.argv if word.partition("=")[0] in names and "=" in word]
    told = f" (got {given[-1]})" if given else ""
    return one_line(f"{text.rstrip('.')}{told}; see {command} --help.")


def _give_up_output() -> None:
    """Let what standard output does not take go nowhere, rather than be tried again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 it ends with the process
