"""What the tests of agents share: short runs on the toy task, and when two runs are the same."""

import pytest
import torch
from stable_baselines3.common.save_util import load_from_zip_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TOY = ["env_arguments.task=toy-4site", "task_overrides=[]", "name=toy"]


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def series(folder):
    """Return every scalar and image of a run's TensorBoard files: tag -> [(step, value), ...]."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    found.update({tag: [(e.step, e.encoded_image_string) for e in events.Images(tag)] for tag in tags["images"]})
    return found


def parameters(folder):
    """Return every parameter and optimizer state of a run's model.zip by name."""

    def flat(value, name):
        if isinstance(value, dict | list | tuple):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                yield from flat(part, f"{name}/{key}")
        else:
            yield name, value

    return dict(flat(load_from_zip_file(folder / "model.zip")[1], ""))


@pytest.fixture
def assert_same_runs():
    """Assert that two runs are equal in all that is not a time of the clock."""

    def check(a, b):
        for name in ("placements.csv", "result.json", "progress.csv", "config.yaml"):
            assert (a / name).read_bytes() == (b / name).read_bytes(), name
        ours, theirs = parameters(a), parameters(b)
        assert ours.keys() == theirs.keys() and len(ours) > 20
        for name, value in ours.items():
            same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
            assert same, name
        assert series(a) == series(b)

    return check
