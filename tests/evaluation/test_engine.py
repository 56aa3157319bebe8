"""The engine against plain module forwards; sharing of prefixes; independence of threads."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cimenv.compensation.bank import CompensationBank, site_weights
from cimenv.compensation.options import BlockOption, options_by_type
from cimenv.crossbar import Chips, CrossbarConfig, LogNormal, calibrated_for_chip, map_network, programmed
from cimenv.evaluation import Engine, PrefixCache, SegmentedNetwork
from cimenv.evaluation.engine import Tally
from cimenv.evaluation.labels import count_correct
from cimenv.evaluation.record import site_errors
from cimenv.evaluation.segments import max_pool_2x2
from cimenv.networks import build_backbone

OPTIONS = (BlockOption(kind="affine"), BlockOption(kind="full", size=0.5), BlockOption(kind="digital"))


class Residual(nn.Module):
    """In-place ReLU, a residual sum with +=, a shared convolution, max pooling, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        x = self.pool(self.act(self.norm(self.stem(x))))
        y = self.act(self.shared(x))
        y += x
        y = self.shared(y)
        return self.head(self.act(y).mean((2, 3)))


class Branching(Residual):
    """Control flow on values: torch.fx cannot trace it."""

    def forward(self, x):
        if float(x.sum()) > 1e9:
            x = -x
        return super().forward(x)


class Overwriting(Residual):
    """A value that is used again after an activation in place has changed it."""

    def forward(self, x):
        y = self.stem(x)
        z = self.act(y)
        return self.head((y + self.shared(z)).mean((2, 3)))


class OverwritingAView(Residual):
    """The same through a view, and with +=."""

    def forward(self, x):
        y = self.stem(x)
        rows = y.flatten(2)
        rows += 1
        return self.head((y + self.shared(y)).mean((2, 3)))


class Written(Residual):
    """Part of a value is set."""

    def forward(self, x):
        y = self.stem(x)
        y[:, 0] = 0.0
        return self.head(self.shared(y).mean((2, 3)))


def made(model, sigma=0.5, images=300, seed=0, **engine):
    torch.manual_seed(seed)
    model = model().eval()
    network = map_network(model, CrossbarConfig(device=LogNormal(sigma=sigma)), (1, 28, 28))
    options = options_by_type(network.sites, {site.type: OPTIONS for site in network.sites})
    bank = CompensationBank(options).eval().requires_grad_(False)
    for parameter in bank.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    x, y = torch.randn(images, 1, 28, 28), torch.randint(10, (images,))
    chips = Chips(network, 0, "val")
    return network, bank, chips, x, y, Engine(SegmentedNetwork(model, network.sites), chips, bank, x, y, **engine)


def naive(network, bank, chips, x, placement, chip):
    """Return logits by swapping weights and hooking blocks: the definition."""
    weights = site_weights(bank, placement, network.weights(), chips.all_weights(chip))
    with torch.no_grad(), programmed(network.model, weights), bank.inserted(network.model, placement) as model:
        return model(x)


def wide():
    """Return a network that runs channels last: VGG-16 at a quarter of its width."""
    return build_backbone("vgg16", {"width": 0.25, "padding": 2})


OPAQUE = (Branching, Overwriting, OverwritingAView, Written)


@pytest.mark.parametrize("model", [lambda: build_backbone("lenet5"), Residual, wide, *OPAQUE])
def test_engine_equals_plain_forwards(model):
    network, bank, chips, x, y, engine = made(model)
    assert engine.network.opaque == (model in OPAQUE)
    sites = len(network.sites)
    placements = [(0,) * sites, (2,) * sites, tuple(k % 4 for k in range(sites)), (3,) * sites]
    tally = engine.run(placements, range(3))
    for p, placement in enumerate(placements):
        for chip in range(3):
            logits = naive(network, bank, chips, x, placement, chip)
            top = logits.topk(2).values
            sure = int((top[:, 0] - top[:, 1] > 1e-4).sum())  # only a tie may be broken differently
            assert abs(int((logits.argmax(1) == y).sum()) - tally.sums[p, chip]) <= len(y) - sure


@pytest.mark.parametrize(
    ("backbone", "crossbar", "layout"),
    [
        ("vgg16", {}, torch.channels_last),
        ("resnet20", {}, torch.channels_last),
        ("resnet20", {"preset": "rasch2023"}, torch.contiguous_format),  # its chain works on unfolded patches
        ("lenet5", {}, torch.contiguous_format),  # 1, 6 and 16 channels fill no register
        ("vit", {}, torch.contiguous_format),
    ],
)
def test_wide_convolutions_run_channels_last(backbone, crossbar, layout):
    arguments = {"padding": 2} if backbone == "vgg16" else {}
    network = map_network(build_backbone(backbone, arguments), CrossbarConfig.model_validate(crossbar), (1, 28, 28))
    assert network.layout == layout


RECORDED = {  # 35 chips are more than a group holds
    "lenet5": (lambda: build_backbone("lenet5"), True, 35),
    "residual": (Residual, True, 35),
    "vgg16": (wide, True, 3),
    "lstm": (lambda: build_backbone("lstm_rows"), True, 3),
    "opaque": (Branching, False, 35),
}


@pytest.mark.parametrize(("model", "possible", "chips"), RECORDED.values(), ids=RECORDED)
def test_a_recorded_walk_equals_one_walk_a_chip(model, possible, chips):
    """To the last bit: the same walk reads other weights from the same place."""
    loop, once = (made(model, images=130, recording=wanted)[-1] for wanted in (False, True))
    sites = len(loop.network.sites)
    placements = [(0,) * sites, (2,) * sites, tuple(k % 4 for k in range(sites)), (3,) * sites]
    assert once.recording == possible
    a, b = loop.run(placements, range(chips)), once.run(placements, range(chips))
    np.testing.assert_array_equal(b.sums, a.sums)
    np.testing.assert_array_equal(b.squares, a.squares)
    np.testing.assert_array_equal(b.clean_squares, a.clean_squares)


class NoReads(TorchDispatchMode):
    """Refuses to read a value of a tensor, which on an accelerator waits for everything before it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recording", [False, True])
def test_the_walk_never_waits_for_the_device(recording):
    *_, engine = made(wide, images=130, recording=recording)
    placements = [(0,) * 16, (2,) * 16, (3,) * 16]
    group = [engine._chip(engine.chips, number, placements, None) for number in range(2)]
    assert engine.recording == recording
    with NoReads():
        for block in zip(*engine.blocks, strict=True):
            engine._evaluate(placements, group, None, *block)
        with pytest.raises(AssertionError):
            float(engine.blocks[1][0].sum())


def test_bfloat16_is_close():
    """Eight significant bits: feature errors within 5 % (rounding 0.4 % an operation, 16 layers)."""
    exact, close = (made(wide, images=130, precision=p)[-1] for p in ("float32", "bfloat16"))
    placements = [(0,) * 16, (2,) * 5 + (0,) * 11]
    a, b = (engine.run(placements, range(2)) for engine in (exact, close))
    assert b.squares == pytest.approx(a.squares, rel=0.05)
    assert abs(a.sums - b.sums).max() <= 13  # of 130 images of noise, on an untrained network
    assert not torch.is_autocast_enabled("cpu")


def test_opaque_networks_keep_clean_features():
    class InPlace(Branching):
        def forward(self, x):
            if float(x.sum()) > 1e9:
                x = -x
            x = F.relu(self.stem(x), inplace=True)
            return self.head(F.relu(self.shared(x), inplace=True).mean((2, 3)))

    class OutOfPlace(Branching):
        def forward(self, x):
            if float(x.sum()) > 1e9:
                x = -x
            x = F.relu(self.stem(x))
            return self.head(F.relu(self.shared(x)).mean((2, 3)))

    found = [made(model)[-1].run([(0, 2, 0)], range(2)) for model in (InPlace, OutOfPlace)]
    assert (found[0].squares == found[1].squares).all()
    assert (found[0].sums == found[1].sums).all()


def test_feature_errors_follow_their_definition():
    network, bank, chips, x, _, engine = made(lambda: build_backbone("lenet5"))
    placement = (1, 2, 0, 1, 0)
    found = site_errors(engine.run([placement], range(4)), 0)
    outputs = {}

    def record(name):
        return lambda module, args, output: outputs.setdefault(name, []).append(output.double())

    for chip in (None, 0, 1, 2, 3):
        weights = network.weights() if chip is None else chips.all_weights(chip)
        active = (0,) * 5 if chip is None else placement
        with torch.no_grad(), programmed(network.model, weights), bank.inserted(network.model, active) as model:
            hooks = [model.get_submodule(s.name).register_forward_hook(record(s.name)) for s in network.sites]
            model(x)
            for hook in hooks:
                hook.remove()
    for s, site in enumerate(network.sites):
        clean, *noisy = outputs[site.name]
        errors = np.array([float((n - clean).norm() / clean.norm()) for n in noisy])
        cosines = [float(F.cosine_similarity(n.flatten(), clean.flatten(), dim=0)) for n in noisy]
        expected = [errors.mean(), errors.std(), errors.max(), -20 * np.log10(errors.mean()), np.mean(cosines)]
        np.testing.assert_allclose(found[s], expected, rtol=2e-4, atol=2e-5)


def test_dead_and_overflowing_features_have_finite_errors():
    """Clean square, distance, norm: as usual; dead and exact; dead but noisy; overflown; not a number."""
    cases = [(4.0, 1.0, 9.0), (0.0, 0.0, 0.0), (0.0, 1.0, 1.0), (4.0, np.inf, np.inf), (4.0, np.nan, np.nan)]
    clean = np.array([case[0] for case in cases])
    squares = np.array([case[1:] for case in cases])[None, :, None, :]
    found = site_errors(Tally(np.zeros((1, 1), dtype=np.int64), squares, clean, 1), 0)
    largest = np.exp(5.0)
    np.testing.assert_allclose(found[:, 0], [0.5, 0.0, largest, largest, largest])
    assert np.isfinite(found).all() and found[0, 4] == 1.0  # <Y', Y> = (9 + 4 - 1) / 2


def test_not_a_number_is_no_answer():
    logits = torch.tensor([[2.0, 1.0], [torch.nan, torch.nan], [torch.nan, 5.0], [-torch.inf, 0.0]])
    assert count_correct(logits, torch.tensor([0, 0, 1, 1])) == 2


def test_without_variation_nothing_is_wrong():
    *_, engine = made(lambda: build_backbone("lenet5"), sigma=0.0)
    tally = engine.run([(0,) * 5], range(2))
    assert (tally.sums == engine.clean_sum()).all()
    errors = site_errors(tally, 0)
    np.testing.assert_allclose(errors[:, :3], 0.0, atol=1e-6)
    np.testing.assert_allclose(errors[:, 4], 1.0, atol=1e-6)


def test_tree_walk_equals_single_runs_bit_for_bit():
    *_, engine = made(Residual, images=130)
    placements = list(itertools.product(range(4), repeat=3))
    together = engine.run(placements[::-1], range(2))
    for p in (0, 17, 42, 63):
        alone = engine.run([placements[::-1][p]], range(2))
        assert (alone.sums[0] == together.sums[p]).all()
        assert (alone.squares[0] == together.squares[p]).all()


@pytest.mark.parametrize("limit", [2**28, 2**21])
def test_kept_activations_change_no_bit(limit):
    *_, fresh = made(lambda: build_backbone("lenet5"), images=200)
    *_, keeping = made(lambda: build_backbone("lenet5"), images=200, cache=PrefixCache(limit))
    for placement in [(0, 0, 0, 0, 0), (0, 0, 0, 0, 2), (0, 0, 1, 0, 2), (3, 0, 1, 0, 2), (3, 0, 1, 0, 0)]:
        a, b = fresh.run([placement], range(3)), keeping.run([placement], range(3))
        assert (a.sums == b.sums).all()
        assert (a.squares == b.squares).all()
    assert 0 < keeping.cache.bytes <= limit


def chain():
    """Return a network whose states all have one size."""
    layers = [nn.Conv2d(1 if k == 0 else 4, 4, 3, padding=1) for k in range(8)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 28 * 28, 10))


def test_a_memory_that_is_nearly_full_serves_the_next_step(monkeypatch):
    """A step at the fifth of nine sites needs 3.3 and adds 4 of 10 states that fit: nothing in front is computed."""
    steps = [(0,) * 9, *[(0, 0, 0, 0, option, 0, 0, 0, 0) for option in (1, 2, 1, 2)]]
    *_, roomy = made(chain, images=750, cache=PrefixCache(2**30))
    roomy.run(steps[:1], range(4))
    *_, tight = made(chain, images=750, cache=PrefixCache(int(0.97 * roomy.cache.bytes)))
    for step in steps[:2]:
        tight.run([step], range(4))
    monkeypatch.delattr(SegmentedNetwork, "start")
    for step in steps[2:]:
        tight.run([step], range(4))


def test_threads_and_chip_ranges_change_no_bit():
    *_, one = made(lambda: build_backbone("lenet5"))
    *_, two = made(lambda: build_backbone("lenet5"), threads=2)
    placement = [(1, 2, 0, 1, 0)]
    a, b = one.run(placement, range(40)), two.run(placement, range(40))
    assert (a.sums == b.sums).all()
    assert (a.squares == b.squares).all()
    tail = one.run(placement, range(35, 40))
    assert (tail.sums == a.sums[:, 35:]).all()


def test_calibrated_chips_use_their_own_batch_norm():
    network, bank, chips, x, y, _ = made(Residual)
    images = torch.randn(100, 1, 28, 28)

    def calibrate(weights, placement):
        return calibrated_for_chip(network.model, weights, images, inserted=lambda m: bank.inserted(m, placement))

    engine = Engine(SegmentedNetwork(network.model, network.sites), chips, bank, x, y, chip_modules=calibrate)
    found = engine.run([(0, 0, 0), (0, 2, 1)], range(3)).sums
    for chip in range(3):
        model = copy.deepcopy(network.model)
        model.norm.load_state_dict(calibrated_for_chip(model, chips.all_weights(chip), images)["norm"].state_dict())
        with torch.no_grad(), programmed(model, chips.all_weights(chip)):
            assert int((model(x).argmax(1) == y).sum()) == found[0, chip]
        norms = calibrate(chips.all_weights(chip), (0, 2, 1))
        model.norm.load_state_dict(norms["norm"].state_dict())
        with torch.no_grad(), programmed(model, chips.all_weights(chip)), bank.inserted(model, (0, 2, 1)):
            assert abs(int((model(x).argmax(1) == y).sum()) - found[1, chip]) <= 1


class NormedFirst(Residual):
    """A batch norm in front of the first site."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        return self.head(self.shared(self.stem(self.norm(x))).mean((2, 3)))


def test_a_batch_norm_before_the_first_site_is_calibrated_too():
    network, bank, chips, x, y, engine = made(NormedFirst)
    other = nn.BatchNorm2d(1).eval().requires_grad_(False)
    other.weight.fill_(-2.0)
    engine = Engine(engine.network, chips, bank, x, y, chip_modules=lambda weights, placement: {"norm": other})
    found = int(engine.run([(0, 0, 0)], range(1)).sums[0, 0])
    network.model.norm.load_state_dict(other.state_dict())
    logits = naive(network, bank, chips, x, (0, 0, 0), 0)
    assert found == int((logits.argmax(1) == y).sum())


def test_evaluation_leaves_the_network_as_it_was():
    network, *_, engine = made(Residual)
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    threads = torch.get_num_threads()
    engine.run([(2, 2, 2)], range(2))
    assert torch.get_num_threads() == threads
    assert all((before[name] == value).all() for name, value in network.model.state_dict().items())
    assert not any(m._forward_hooks for m in network.model.modules())


def test_max_pool_2x2_is_torchs_bit_for_bit():
    x = torch.randn(3, 5, 14, 8)
    x[0, 0, 0, 0] = float("inf")
    assert torch.equal(max_pool_2x2(x), F.max_pool2d(x, 2))
    for values in (x, x.relu()):  # with ties at zero
        ours, torchs = (values.clone().requires_grad_() for _ in range(2))
        weight = torch.rand(max_pool_2x2(x).shape)
        (max_pool_2x2(ours) * weight).sum().backward()
        (F.max_pool2d(torchs, 2) * weight).sum().backward()
        assert torch.equal(ours.grad, torchs.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("model", "possible", "_"), RECORDED.values(), ids=RECORDED)
def test_gpu_agrees_with_cpu(model, possible, _):
    *_, cpu = made(model, images=130)
    *_, gpu = made(model, images=130, device="cuda")
    sites = len(cpu.network.sites)
    placements = [(0,) * sites, (2,) * sites, tuple(k % 4 for k in range(sites)), (3,) * sites]
    a, b = cpu.run(placements, range(4)), gpu.run(placements, range(4))
    assert gpu.recording == possible and len(gpu.blocks[0]) == 1
    assert abs(a.sums - b.sums).max() <= 2  # of 130: ten significant bits, on an untrained network
    assert b.squares == pytest.approx(a.squares, rel=0.01, abs=1e-5 * a.squares.max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_blocks_on_a_gpu_keep_to_the_limit():
    *_, gpu = made(wide, images=130, device="cuda", memory_limit=200 * 2**20)
    assert len(gpu.blocks[0]) > 1
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    gpu.run([(0,) * 16, (2,) * 16], range(4))
    assert torch.cuda.max_memory_allocated() - before <= 200 * 2**20
