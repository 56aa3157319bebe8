"""Caps on the cost: an option `--max-TERM` for every term."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cimenv.cli.arguments import parse_share
from cimenv.cost.term import COST_TERMS

CAPS = "caps"  # the parameter of a command in whose place the options stand


def capped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for every term of the cost; it is given overrides, such as `budget.macs=0.1`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        texts = {term: given.pop(_name(term)) for term in COST_TERMS}
        shares = {term: parse_share(f"max-{term}", text) for term, text in texts.items() if text is not None}
        command(**given, **{CAPS: [f"budget.{term}={share!r}" for term, share in shares.items()]})

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += map(_option, COST_TERMS) if parameter.name == CAPS else [parameter]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_options


def _name(term: str) -> str:
    return f"max_{term}"


def _option(term: str) -> inspect.Parameter:
    says = f"Cap on added {term}: 0.05 or 5% of the backbone's; above 1 only as 500%."
    option = Annotated[str | None, typer.Option(metavar="SHARE", help=says)]
    return inspect.Parameter(_name(term), inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=option)
