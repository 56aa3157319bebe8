"""A memory limit: never more is held, whatever is asked; numbers do not depend on it."""

import json
import subprocess
import sys
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import BlockOption, options_by_type
from cimenv.core.errors import ConfigError
from cimenv.crossbar import Chips, CrossbarConfig, LogNormal, map_network
from cimenv.evaluation import Engine, SegmentedNetwork
from cimenv.evaluation.memory import DRAWS, GIB, KEPT, LIVE, MIB, SLACK, Room, room
from cimenv.networks import build_backbone

OPTIONS = (BlockOption(kind="affine"), BlockOption(kind="full", size=0.5), BlockOption(kind="digital"))


class Tracked(TorchDispatchMode):
    """Counts the bytes of living storages that were made under it, and their peak."""

    def __init__(self):
        super().__init__()
        self.known, self.bytes, self.peak = set(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage):
        number = storage._cdata
        if number in self.known:
            return
        self.known.add(number)
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self.forget, number, storage.nbytes())

    def forget(self, number, size):
        self.known.discard(number)
        self.bytes -= size


def engine(backbone, shape, images, options=OPTIONS, **settings):
    torch.manual_seed(0)
    model = build_backbone(*backbone).eval()
    network = map_network(model, CrossbarConfig(device=LogNormal(sigma=0.5)), shape)
    per_site = options_by_type(network.sites, {"conv": options, "dense": options})
    bank = CompensationBank(per_site).eval().requires_grad_(False)
    x, y = torch.randn(images, *shape), torch.randint(10, (images,))
    return Engine(SegmentedNetwork(model, network.sites), Chips(network, 0, "val"), bank, x, y, **settings)


def lenet(**settings):
    return engine(("lenet5",), (1, 28, 28), 250, **settings)


def walk_of(tight):
    """Return the bytes that a walk of one block is said to need."""
    return tight._walk_bytes * len(tight.blocks[2][0])


def test_numbers_do_not_depend_on_the_limit():
    placements = [(0, 0, 0, 0, 0), (2, 0, 1, 0, 0), (2, 3, 0, 0, 1)]
    free = lenet().run(placements, range(6))
    tight = lenet(threads=2)
    chip, largest, _ = tight._sizes
    tight.memory_limit = int(SLACK + DRAWS * largest + walk_of(tight) + 2.5 * chip + 40_000)  # and counts: two chips
    assert tight._room(3, 6) == Room(2, 1)
    least = tight.run(placements, range(6))
    assert (free.sums == least.sums).all() and (free.squares == least.squares).all()


DIGITAL = (BlockOption(kind="affine"), *(BlockOption(kind="digital", size=size) for size in (0.25, 0.5, 0.75, 1.0)))


@pytest.mark.parametrize("options", [OPTIONS, DIGITAL])
@pytest.mark.parametrize(
    ("backbone", "shape"),
    [(("lenet5",), (1, 28, 28)), (("vgg16", {"width": 0.125}), (1, 32, 32)), (("resnet8",), (1, 28, 28))],
)
def test_a_walk_holds_less_than_it_counts_on(backbone, shape, options):
    """Tensors that live at a time, by a tracking allocator, stay below the estimate that limits them."""
    tight = engine(backbone, shape, 250, options, memory_limit=4 * GIB)
    sites = len(tight.network.sites)
    placements = [(o,) * sites for o in range(1 + len(options))] + [(3, 2, 1, *[0] * (sites - 3))]
    placements += [(*[0] * (sites - 1), o) for o in range(1, 1 + len(options))]
    chip, largest, _ = tight._sizes
    with Tracked() as tracked:
        tight.run(placements, range(3))
    digital = sum(option.kind == "digital" for option in options)
    assert tracked.peak <= walk_of(tight) + DRAWS * largest + 3 * chip  # and no need of SLACK
    assert tracked.peak >= 3 * chip + walk_of(tight) / (LIVE + digital)  # seen: chips, clean outputs


@pytest.mark.parametrize(
    ("backbone", "shape"), [(("lenet5",), (1, 28, 28)), (("vgg16", {"width": 0.125}), (1, 32, 32))]
)
def test_a_recorded_walk_holds_less_than_it_counts_on(backbone, shape):
    tight = engine(backbone, shape, 250, memory_limit=4 * GIB, recording=True)
    sites = len(tight.network.sites)
    placements = [(option,) * sites for option in range(4)]
    assert tight.recording
    chip, largest, _ = tight._sizes
    with Tracked() as tracked:
        tight.run(placements, range(3))
    assert tracked.peak <= walk_of(tight) + DRAWS * largest + 4 * chip  # the chips, and the one that is walked
    assert tracked.peak >= 4 * chip + walk_of(tight) / (LIVE + 1)


def test_fewer_chips_first_then_fewer_threads():
    wanted = {"chip": 100 * MIB, "largest": 10 * MIB, "walk": 80 * MIB, "chips": 32}
    assert room(64 * GIB, threads=4, **wanted) == Room(32, 4)
    assert room(GIB, threads=4, **wanted) == Room(6, 4)  # 1024 - 32 - 40 - 320 MiB hold six chips of 100
    assert room(300 * MIB, threads=4, **wanted) == Room(1, 1)
    assert room(GIB, threads=4, always=500 * MIB, **wanted) == Room(1, 4)
    with pytest.raises(ConfigError, match=r"memory_limit: got 0.195 GiB, .* in one thread needs 0.246; give at least"):
        room(200 * MIB, threads=4, **wanted)


def test_prefixes_that_are_kept_grow_with_the_limit():
    """A limit as large as the message asks for is enough, though more is kept within it."""
    wanted = {"chip": 100 * MIB, "largest": 10 * MIB, "walk": 80 * MIB, "chips": 32, "threads": 1}
    for most in (50 * MIB, 10 * GIB):
        with pytest.raises(ConfigError) as refused:
            room(200 * MIB, kept=min(most, 50 * MIB), **wanted)
        least = int(float(str(refused.value).split("give at least ")[1].split(",")[0]) * GIB)
        assert room(least, kept=min(most, int(KEPT * least)), **wanted) == Room(1, 1)


def test_a_limit_below_one_chip_names_what_is_needed():
    with pytest.raises(ConfigError, match=r"memory_limit: got 0.01 GiB, .*needs 0.0") as refused:
        lenet(memory_limit=int(0.01 * GIB)).run([(0,) * 5], range(2))
    least = float(str(refused.value).split("give at least ")[1].split(",")[0])
    assert lenet(memory_limit=int(least * GIB)).run([(0,) * 5], range(2)).images == 250


PROGRAM = """
import json, resource, sys
sys.path.insert(0, "tests/evaluation")
import torch
from test_memory import engine, GIB
torch.set_num_threads(2)
tight = engine(("vgg16", {"width": 0.5}), (1, 32, 32), 250, threads=2, memory_limit=int(0.4 * GIB))
sites = len(tight.network.sites)
tight.clean_sum()  # what torch itself needs once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tight.run([(0,) * sites, (2, 1, *[0] * (sites - 2))], range(40))
print(json.dumps([before * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


@pytest.mark.slow
def test_the_process_grows_by_no_more_than_the_limit():
    """40 chips of 15 MiB and two threads: unlimited it would hold 480 MiB of chips alone."""
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after = json.loads(found.stdout)
    assert after - before <= 0.4 * GIB
