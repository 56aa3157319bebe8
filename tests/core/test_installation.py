"""What is installed: digests of source files, and functions that were changed in memory."""

import shutil
from pathlib import Path

import pytest

import cimenv
from cimenv.core import installation
from cimenv.core.store import Store
from cimenv.tasks.jobs import run_job

distributed = pytest.importorskip("distributed")
PACKAGE = Path(cimenv.__file__).parent


def test_the_digest_is_of_names_and_bytes(tmp_path):
    def digest_of(**files):
        shutil.rmtree(tmp_path / "p", ignore_errors=True)
        for name, text in files.items():
            path = tmp_path / "p" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".py").write_text(text)
        return installation.source_digest(tmp_path / "p")

    first = digest_of(a="count", b__c="x")
    assert digest_of(b__c="x", a="count") == first
    others = [digest_of(a="count - 1", b__c="x"), digest_of(a="count", b="x"), digest_of(a="countx", b__c="")]
    assert len({first, *others}) == 4
    assert installation.installation()["source"] == installation.source_digest(PACKAGE)


def test_functions_changed_in_memory_are_seen(monkeypatch):
    assert installation.changed_functions() == []
    original = run_job
    monkeypatch.setattr("cimenv.tasks.jobs.run_job", lambda *given, **more: original(*given, **more))
    monkeypatch.setattr("cimenv.evaluation.engine.Engine.run", lambda self: None)
    monkeypatch.setattr(Store, "root", property(lambda self: 1), raising=False)  # an attribute, not of the file
    found = installation.changed_functions()
    assert {"cimenv.evaluation.engine.Engine.run", "cimenv.tasks.jobs.run_job"} <= set(found)
    monkeypatch.undo()
    monkeypatch.setattr(
        "cimenv.tasks.evaluators.travel.run_job", lambda *given, **more: []
    )  # where it is only imported
    assert installation.changed_functions() == ["cimenv.tasks.evaluators.travel.run_job"]
