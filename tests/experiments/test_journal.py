"""The journal of finished jobs: changed digits are noticed, files of earlier versions go on."""

import numpy as np
import pytest

from cimenv.core.errors import ConfigError
from experiments.lab.journal import Journal, sign_journal


def test_changed_digits_of_a_journal_are_noticed(tmp_path):
    path = tmp_path / "jobs.jsonl"
    journal = Journal(path, {"chips": 25})
    for k in range(6):
        journal.add(type("Job", (), {"name": f"job-{k}"})(), [{"x": k / 7, "correct": [901, 87 + k]}])
    text, generator = path.read_text(), np.random.default_rng(0)
    digits = [k for k, c in enumerate(text) if c.isdigit()]
    for k in generator.choice(digits, 60, replace=False):
        path.write_text(f"{text[:k]}{(int(text[k]) + 3) % 10}{text[k + 1 :]}")
        with pytest.raises(ConfigError, match="is damaged"):
            Journal(path, {"chips": 25})
    path.write_text(text)
    assert len(Journal(path, {"chips": 25}).rows) == 6


def test_a_journal_without_checksums_goes_on_with_a_notice(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"plan": {"chips": 2}}\n{"job": "a", "rows": [{"x": 0.1}]}\n{"job": "b", "ro')
    with pytest.warns(UserWarning, match="has no checksums"):
        journal = Journal(path, {"chips": 2})
    journal.add(type("Job", (), {"name": "b"})(), [{"x": 2}])
    assert sign_journal(path) and not sign_journal(path)
    assert Journal(path, {"chips": 2}).rows == {"a": [{"x": 0.1}], "b": [{"x": 2}]}
