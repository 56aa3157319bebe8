"""Anything may be given for anything: the answer is a run, or one sentence; never a traceback, a hang, full memory."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
HANG_S, START_S = 20.0, 120.0
COUNTS = {"model": 150, "task": 120, "file": 80, "command": 100, "environment": 100, "call": 100, "agent": 60}


@dataclass
class Result:
    case: str
    how: str
    said: str


def forward(source: IO[str], lines: queue.Queue[str | None]) -> None:
    """Pass lines on, and None at their end."""
    for line in source:
        lines.put(line)
    lines.put(None)


def fuzzed(kind: str, first: int, end: int, folder: Path) -> list[Result]:
    """Run cases in children; one that hangs or dies is replaced, and the case noted."""
    found: list[Result] = []
    while first < end:
        child = subprocess.Popen(
            [sys.executable, str(HERE / "fuzz_child.py"), kind, str(first), str(end)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "CIMENV_CACHE": str(folder / "cache"),
                "OMP_NUM_THREADS": "1",
                "COLUMNS": "80",
                "PYTHONPATH": str(ROOT),
            },
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=forward, args=(child.stdout, lines), daemon=True).start()
        case, limit = None, START_S
        try:
            while (line := lines.get(timeout=limit)) is not None:
                told = json.loads(line)
                if "case" in told:
                    case, limit = told["case"], HANG_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
                else:
                    found.append(Result(case, told["how"], told["said"]))
                    case, first, limit = None, told["number"] + 1, START_S
        except queue.Empty:
            found.append(Result(case or f"{kind} {first}", "fault", "hangs"))
            first += 1
        finally:
            child.kill()
        errors = child.communicate()[1]
        if case is not None and found[-1].case is not case:
            found.append(Result(case, "fault", f"died with {child.returncode}: {errors[-500:]}"))
            first += 1
        elif not found:
            raise RuntimeError(errors)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_everything_is_refused_in_one_sentence_or_runs(kind, tmp_path):
    half, count = COUNTS[kind] // 2, COUNTS[kind]
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(fuzzed, (kind, kind), (0, half), (half, count), folders)
        found = [result for part in parts for result in part]
    faults = [result for result in found if result.how == "fault"]
    shown = "\n\n".join(f"{fault.case}\n{fault.said}" for fault in faults[:20])
    assert not faults, f"{len(faults)} of {len(found)}:\n{shown}"
    assert len(found) == count
    ends = Counter(result.how for result in found)
    assert ends["run"] > 0 and ends["refused"] > count / 4  # neither all good nor all bad
