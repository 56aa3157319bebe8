"""Every block of README and docs runs as it stands, in a fresh folder; its time on two cores stands beside it.

A Python block is a complete file; one that begins with a file's name is there for the shell blocks of its page. Blocks
that take more than 5 s run with the slow tests. `make` and `pip install` say what they would do. Only blocks behind
`<!-- not run: REASON -->` are left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = ("environments", "experiments", "registries")
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if p.parts[-2] not in GENERATED)]
BLOCK = re.compile(r"(?:<!-- not run: ([^>]+) -->\n)?^```(python|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TIME = re.compile(r"# (?:\w+\.py: )?(\d+) (s|min|h)\b")
SECONDS = {"s": 1, "min": 60, "h": 3_600}
REASONS = ("a cluster", "a GPU", "an environment of its own", "serves until it is stopped")
FAST_S = 5


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    left_out: str | None

    @property
    def seconds(self) -> int:
        return sum(int(number) * SECONDS[unit] for number, unit in TIME.findall(self.text))

    @property
    def file(self) -> str | None:
        named = re.match(r"# (\w+\.py)\b", self.text)
        return named[1] if named else None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start(2)) + 1, found[2], found[3], found[1])
        for found in BLOCK.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def without_time(block: Block) -> list[str]:
    """Return the commands beside which, or in the comment above which, no time stands."""
    if block.language != "bash" or block.left_out is not None:
        return []
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    pairs = zip(["", *lines], lines, strict=False)
    timed = [TIME.search(line) or (above.startswith("#") and TIME.search(above)) for above, line in pairs]
    return [line for line, time in zip(lines, timed, strict=True) if not line.startswith("#") and not time]


def as_parameter(block: Block):
    return pytest.param(block, id=block.name, marks=[pytest.mark.slow] * (block.seconds > FAST_S))


@pytest.mark.parametrize("block", [as_parameter(block) for block in BLOCKS if block.left_out is None])
def test_a_block_runs(block, tmp_path):
    for other in blocks_of(block.page):
        if other.file:
            (tmp_path / other.file).write_text(other.text)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    installs = re.match(r"(make|pip|python3? -m venv)\b", block.text) is not None
    if block.language == "python":
        file = block.file or "block.py"
        (tmp_path / file).write_text(block.text)
        command = [sys.executable, file]
    else:
        text = block.text.replace("pip install", "pip install --dry-run")
        command = ["bash", "-euo", "pipefail", "-c", text]
    here = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
        "COLUMNS": "120",
        "MAKEFLAGS": "n",
    }
    done = subprocess.run(
        command, cwd=ROOT if installs else tmp_path, env=environment, capture_output=True, text=True, timeout=1_800
    )
    assert done.returncode == 0, f"{block.name}\n{done.stdout[-2_000:]}\n{done.stderr[-4_000:]}"


def test_every_block_says_how_long_it_takes():
    assert [block.name for block in BLOCKS if block.left_out is None and not block.seconds] == []
    assert [(block.name, line) for block in BLOCKS for line in without_time(block)] == []
    assert {block.left_out for block in BLOCKS if block.left_out} <= set(REASONS)


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 900
    rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert len(re.findall(r"^\|[ :|-]+\|$", text, re.MULTILINE)) <= 1 and len(rows) <= 2 + 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert [t for t in missing if not set(Path(t).parts) & set(GENERATED)] == []


@pytest.mark.parametrize("readme", sorted((ROOT / "results").glob("*/README.md")), ids=lambda p: p.parent.name)
def test_results_name_the_command_that_made_them(readme):
    assert re.search(r"python -m experiments\.\w+|\bmake [\w-]+", readme.read_text())


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert (tmp_path / "index.html").exists()
