"""Runs cases of the fuzz in a process of limited memory: `python fuzz_child.py KIND FIRST END`, a JSON line each.

Work that opens a progress bar has been accepted: there the case ends.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
import warnings
from contextlib import contextmanager

from cimenv.core import progress

MEMORY = 6 * 2**30  # bytes of address space


class StartedError(BaseException):
    """A configuration was accepted: work has begun."""


@contextmanager
def started(description: str, total: int, done: int = 0):
    """Stand for a progress bar that ends the case."""
    raise StartedError(description)
    yield


progress.bar = progress.silent = started


def outcome(run, errors) -> tuple[str, str]:
    """Return how a case ended and what was said: `run`, `refused` or `fault`."""
    from fuzz_cases import EndedError

    from cimenv.core.errors import CimenvError

    try:
        run()
    except StartedError:
        return "run", ""
    except EndedError as ended:
        said = [line for line in errors().splitlines() if line.strip() and not line.startswith("Welcome")]
        code = ended.args[0]
        if code == 2:
            return ("refused" if len(said) == 1 and "Traceback" not in said[0] else "fault"), "\n".join(said)
        return ("run" if code in (0, 1) else "fault"), f"exit code {code}: {' '.join(said)}"
    except CimenvError as error:
        text = str(error)
        return ("refused" if text and "\n" not in text and len(text) < 1_500 else "fault"), text
    except BaseException:
        return "fault", traceback.format_exc()
    return "run", ""


def main() -> None:
    """Run the cases that the command line names."""
    import matplotlib as mpl
    from fuzz_cases import KINDS, draws

    mpl.use("Agg")
    kind, first, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    report, sink = os.fdopen(os.dup(1), "w"), tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - open to the end
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(sink.fileno(), 2)

    def errors() -> str:
        sys.stderr.flush()
        sink.seek(0)
        return sink.read()

    warnings.simplefilter("ignore")
    for number in range(first, end):
        told, run = KINDS[kind](draws(kind, number))
        print(json.dumps({"number": number, "case": told}), file=report, flush=True)
        sys.stderr.flush()
        sink.seek(0)
        sink.truncate()
        how, said = outcome(run, errors)
        print(json.dumps({"number": number, "how": how, "said": said}), file=report, flush=True)


if __name__ == "__main__":
    main()
