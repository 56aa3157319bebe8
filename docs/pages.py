"""Pages that are made and not written: of experiments from their results, of environments and registries from code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
from pydantic import BaseModel

import cimenv
from cimenv.registries import REGISTRIES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
TABLES = {"summary.md": "In short", "table.md": "Tables"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#]+)(#[^)]*)?\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def write(docs: Path) -> None:
    """Write all generated pages into the folders that git ignores."""
    experiments = {folder.name: experiment(folder) for folder in sorted(RESULTS.iterdir()) if folder.is_dir()}
    _write(docs / "experiments", "Experiments", experiments)
    _write(docs / "environments", "Environments", dict(environments()))
    _write(docs / "registries", "Everything with a name", dict(registries()))


def _write(folder: Path, title: str, made: dict[str, str]) -> None:
    """Write pages and their index; leave files alone that would not change, so that Sphinx reads them once."""
    folder.mkdir(exist_ok=True)
    listed = "\n".join(made)
    made = {"index": f"# {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n", **made}
    for path in folder.glob("*.md"):
        if path.stem not in made:
            path.unlink()
    for name, text in made.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def experiment(folder: Path) -> str:
    """Return the page of an experiment: its README, then the tables and figures that it made."""
    text = (folder / "README.md").read_text()
    shown = {target for _, target in IMAGE.findall(text)}
    text = LINK.sub(_linked, IMAGE.sub(rf"![\1](../../results/{folder.name}/\2)", text))
    tables = {title: folder / name for name, title in TABLES.items() if (folder / name).exists()}
    parts = [text.rstrip(), *(f"## {title}\n\n{path.read_text().strip()}" for title, path in tables.items())]
    figures = [path.name for path in sorted(folder.glob("*.png")) if path.name not in shown]
    if figures:
        parts.append("## Figures")
        parts += [f"![{name}](../../results/{folder.name}/{name})" for name in figures]
    return "\n\n".join(parts) + "\n"


def _linked(found: re.Match[str]) -> str:
    """Return a link of a results page as one of the site: to another experiment's page, or as plain text."""
    label, target = found[1], found[2]
    if target.startswith("http"):
        return found[0]
    names = [part for part in Path(target).parts if part != ".."]
    if target.startswith("../") and names and (RESULTS / names[0] / "README.md").exists():
        return f"[{label}]({names[0]}.md)"
    if "docs" in names:
        return f"[{label}](../{'/'.join(names[names.index('docs') + 1 :])}{found[3] or ''})"
    return label


def environments() -> Iterator[tuple[str, str]]:
    """Yield name and page of every environment: the docstring of its class, which is Markdown."""
    for name, spec in sorted(gym.registry.items()):
        if name.startswith("CiM"):
            made: Any = gym.envs.registration.load_env_creator(str(spec.entry_point))
            yield name, f'# {name}\n\n`gym.make("{name}")`\n\n{inspect.getdoc(made)}\n'


def registries() -> Iterator[tuple[str, str]]:
    """Yield name and page of every registry: what can be chosen by name, what it is, and where it is published."""
    for name, registry in REGISTRIES.items():
        rows = [f"| `{row.name}` | {_cell(row.summary)} | {_cell(row.source)} |" for row in registry.rows()]
        table = "\n".join(["| name | what it is | source |", "|---|---|---|", *rows])
        title = f"{registry.what[0].upper()}{registry.what[1:]}"
        yield name, f"# {title}: what there is\n\n{table}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def describe_fields(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Append the fields of a configuration to its docstring; cut an environment's, which has a page of its own."""
    del app, options
    lines[:] = [_plain_bars(line) for line in lines]
    if what != "class":
        return
    if (cut := next((i for i, line in enumerate(lines) if line.startswith("## ")), None)) is not None:
        lines[cut:] = ["Specified in full under Environments.", ""]
    if isinstance(found, type) and issubclass(found, BaseModel):
        fields = [_field(field, info) for field, info in found.model_fields.items()]
        lines += ["", "Fields:", "", *map(_plain_bars, fields), ""] if fields else []


def short_signature(app: Any, what: str, name: str, found: Any, *others: Any) -> tuple[str, None] | None:
    """Return the signature of a configuration without its fields, which are listed below it."""
    del app, what, name, others
    return ("(**fields)", None) if isinstance(found, type) and issubclass(found, BaseModel) else None


def _plain_bars(line: str) -> str:
    """Return a line whose |x| outside of code is an absolute value and no substitution."""
    parts = line.split("`")
    return "`".join(part if inside % 2 else part.replace("|", r"\|") for inside, part in enumerate(parts))


def _field(name: str, info: Any) -> str:
    default = "required" if info.is_required() else f"default ``{info.get_default(call_default_factory=True)!r}``"
    shown = default if len(default) < 60 else "has a default"
    return f"* **{name}** ({shown})" + (f": {info.description}" if info.description else "")


def skip_member(app: Any, what: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what pydantic and gymnasium add to every class."""
    del app, what, skip, options
    added: Callable[..., Any] | Any = getattr(BaseModel, name, None)
    home = getattr(found, "__module__", "") or ""
    return True if added is not None or home.startswith(("pydantic", "gymnasium", "torch")) else None


assert cimenv.__version__  # the environments are registered by the import
