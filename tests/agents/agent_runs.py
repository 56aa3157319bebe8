"""What the tests of agents share: overrides for the toy task, and readers of a run's folder."""

from stable_baselines3.common.save_util import load_from_zip_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TOY = ["env_arguments.task=toy-4site", "task_overrides=[]", "name=toy"]


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
