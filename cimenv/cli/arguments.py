"""Arguments and options that several commands share, and what is read from their text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cimenv.core.errors import ConfigError
from cimenv.tasks.named import named_task

if TYPE_CHECKING:
    from cimenv.compensation.options import Options, Placement
    from cimenv.tasks import MonteCarloEvaluator
    from cimenv.tasks.evaluators.cluster import Cluster

PICTURES = (".png", ".pdf", ".svg")
LARGEST_DIGIT = 9  # with more options, 12 may be one site's or two sites'


def known_task(text: str) -> str:
    """Return the name or the file of a task or a network; a task's mistyped name is refused before torch is loaded.

    Raises:
        UnknownNameError: no task has this name.
    """
    if not text.endswith((".yaml", ".yml")) and ":" not in text:
        named_task(text)
    return text


TaskName = Annotated[
    str,
    typer.Argument(metavar="TASK", callback=known_task, help="A named task (see `cimenv tasks`) or a YAML file."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field: crossbar.device.sigma=0.3. May be repeated."),
]
PlacementText = Annotated[
    str, typer.Option(metavar="O,O,...", help="One option index per site, 0 = none (see `cimenv show`).")
]
SplitName = Annotated[str, typer.Option(metavar="val|test", help="Images and chips for selection or for reports.")]
FidelityName = Annotated[
    str, typer.Option(metavar="bank|tuned", help="Shared blocks, or blocks fitted for this placement.")
]
Chips = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=100_000, help="Monte-Carlo chips; default: the task's, for this split."),
]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, max=1_024, help="Worker threads; default: all cores.")]
Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where chips are evaluated.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="A Dask scheduler, tcp://HOST:8786, whose workers evaluate (cimenv[cluster])."
    ),
]
TlsCa = Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate authority of a tls:// scheduler.")]
TlsCert = Annotated[Path | None, typer.Option(metavar="PEM", help="This machine's certificate for it.")]
TlsKey = Annotated[Path | None, typer.Option(metavar="PEM", help="The key of that certificate.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def finite(value: float) -> float:
    """Return a number that an option was given: `min` and `max` let NaN pass."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


def parse_placement(text: str, options: Options) -> Placement:
    """Return the placement that a text writes: `0,2,0,1,0`, with spaces as files have them, or `02010` as tables do.

    Raises:
        ConfigError: a part is no whole number, or digits alone may mean several placements.
        PlacementError: the placement does not fit the sites.
    """
    written, sites, shown = text.strip(), len(options.sites), _short(text)
    if re.fullmatch(r"\d{2,}", written, re.ASCII) and sites > 1:
        if options.count > LARGEST_DIGIT:
            raise ConfigError(
                f"placement: '{shown}' may mean several, as sites have up to {options.count} options; write option "
                "indices with commas, such as 0,12,0."
            )
        if len(written) != sites:
            raise ConfigError(
                f"placement: got {len(written)} digits; give one option index for each of the {sites} sites: "
                f"{', '.join(site.name for site in options.sites)}."
            )
        return options.checked(tuple(map(int, written)))
    try:
        indices = tuple(int(part) for part in re.split(r"[,\s]+", written))
    except ValueError:
        raise ConfigError(f"placement: got '{shown}'; write option indices with commas, such as 0,2,0,1,0.") from None
    return options.checked(indices)


def parse_share(name: str, text: str) -> float:
    """Return the share that a text writes: `0.05` or `5%`; more than the whole only with the sign, as `500%`.

    Args:
        name: of the option, for the message.
        text: as it was given.

    Raises:
        ConfigError: it is no share, negative, or above 1 without a percent sign.
    """
    percent = text.strip().endswith("%")
    try:
        share = float(text.strip().removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ConfigError(f"{name}: got '{_short(text)}'; write a share of the backbone's, such as 0.05 or 5%.")
    if share > 1 and not percent:
        raise ConfigError(
            f"{name}: {share:g} is {share:.0%} of the backbone's; did you mean {share / 100:g}, which is {share:g}%? "
            f"Write {share * 100:g}% if that much may be added."
        )
    return share


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_picture(path: Path) -> None:
    """Refuse, before any long work, the name of a picture that cannot be written.

    Raises:
        ConfigError: another format, or a file that cannot be written.
    """
    if path.suffix.lower() not in PICTURES:
        raise ConfigError(f"Cannot draw {path}: its name must end in one of {', '.join(PICTURES)}.")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Refuse, before any long work, a file that cannot be written.

    Raises:
        ConfigError: no such folder, or no permission.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"Cannot write {path}: there is no folder {path.parent}; make it first.")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"Cannot write {path}; give a file in a folder that you may write.")


def evaluator_of(task: str, overrides: list[str] | None, device: str = "cpu") -> MonteCarloEvaluator:
    """Return the evaluator of a task's name or file; nothing is trained before its first evaluation."""
    from cimenv.core.progress import bar
    from cimenv.tasks import MonteCarloEvaluator, load_task

    return MonteCarloEvaluator(load_task(task, overrides), device=device, progress=bar)


@contextmanager
def cluster_at(
    address: str | None, ca: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> Iterator[Cluster | None]:
    """Give the cluster of a scheduler while a command runs, by TLS with three PEM files, or None without an address.

    Raises:
        ConfigError: PEM files without a scheduler; see `Cluster` and `tls`.
    """
    if address is None:
        if ca or cert or key:
            raise ConfigError(
                "--tls-ca, --tls-cert and --tls-key are for a scheduler; give --scheduler tls://HOST:8786."
            )
        yield None
        return
    from cimenv.tasks.evaluators.cluster import Cluster, tls

    with Cluster(address, security=tls(ca, cert, key)) as cluster:
        yield cluster
