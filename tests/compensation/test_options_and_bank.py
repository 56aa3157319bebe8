import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimenv.compensation import BLOCKS, Block, BlockOption, CompensationBank, Options, added_macs, added_weights
from cimenv.compensation.bank import bank_arrays, bank_from, site_weight, site_weights
from cimenv.compensation.options import options_by_type
from cimenv.core.errors import ConfigError, PlacementError
from cimenv.crossbar import CrossbarConfig, map_network, programmed
from cimenv.networks import build_backbone

FULL, HALF, RANK, AFFINE, DIGITAL = (
    BlockOption(kind="full", size=0.5),
    BlockOption(kind="full", size=0.25),
    BlockOption(kind="low_rank", size=0.5),
    BlockOption(kind="affine"),
    BlockOption(kind="digital"),
)
ALL = (HALF, FULL, RANK, AFFINE, DIGITAL)


def sites_of(model, shape):
    return map_network(model, CrossbarConfig(), shape).sites


def vgg16_sites():
    layers, channels = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(channels, width, 3, padding=1)] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    with torch.device("meta"):
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 100))
    return sites_of(model, (3, 32, 32))


@pytest.mark.parametrize(("count", "percent"), [(4, 0.47), (6, 1.96), (13, 21.2)])
def test_vgg16_published_overhead(count, percent):
    """The published figures count no biases, over all mapped weights of a 100-class VGG-16 with one dense layer."""
    sites = vgg16_sites()
    total = sum(site.weights for site in sites)
    assert total == 14_710_464 + 51_200
    used = sites[:count]
    biases = sum(HALF.width(site) + site.out_channels for site in used)
    added = sum(added_weights(HALF, site) for site in used)
    digits = 2 if percent < 10 else 1
    assert round(100 * (added - biases) / total, digits) == percent
    assert 100 * added / total == pytest.approx(percent, rel=0.006)  # ours: biases too


def test_lenet_overheads():
    *_, fc1, fc2, _ = sites_of(build_backbone("lenet5"), (1, 28, 28))
    one, quarter = BlockOption(kind="full", size=1), HALF
    biases = 120 + 120
    assert int(100 * (added_weights(one, fc1) - biases) / 61_470) == 148
    assert added_weights(one, fc1) == 120 * (400 + 120) + 120 * (120 + 120) + biases
    assert int(100 * added_weights(quarter, fc2) / 61_470) == 21
    assert added_weights(quarter, fc2) == 21 * (120 + 84) + 84 * (84 + 21) + 21 + 84


def test_weights_and_macs_of_every_kind():
    site = sites_of(nn.Conv2d(6, 16, 5), (6, 14, 14))[0]  # 10 x 10 = 100 positions
    assert added_weights(AFFINE, site) == 32
    assert added_weights(RANK, site) == 8 * (6 + 16) + 16 * 8 + 8 + 16
    assert added_weights(DIGITAL, site) == 16 * 150
    assert added_weights(BlockOption(kind="digital", size=0.3), site) == 5 * 150  # ceil(4.8) channels
    assert added_macs(AFFINE, site) == 0
    assert added_macs(HALF, site) == (4 * 22 + 16 * 20) * 100
    assert added_macs(RANK, site) == (8 * 22 + 16 * 8) * 100
    assert added_macs(DIGITAL, site) == site.macs == 2400 * 100


@pytest.mark.parametrize("option", [FULL, HALF, RANK, AFFINE])
def test_counts_are_those_of_the_modules(option):
    for site in sites_of(build_backbone("lenet5"), (1, 28, 28)):
        bank = CompensationBank(Options((site,), ((option,),)))
        assert sum(p.numel() for p in bank.parameters()) == added_weights(option, site)


def conv_case(options=ALL, seed=0):
    """A 5x5 convolution from 14x14 to 10x10 maps, its bank, an input and an erroneous output."""
    torch.manual_seed(seed)
    (site,) = sites_of(nn.Conv2d(6, 16, 5), (6, 14, 14))
    return CompensationBank(Options((site,), (options,))), torch.randn(3, 6, 14, 14), torch.randn(3, 16, 10, 10)


def dense_case(options=ALL, seed=0):
    torch.manual_seed(seed)
    (site,) = sites_of(nn.Linear(12, 8), (12,))
    return CompensationBank(Options((site,), (options,))), torch.randn(5, 12), torch.randn(5, 8)


def trained(bank):
    torch.manual_seed(7)
    for parameter in bank.parameters():
        nn.init.normal_(parameter, std=0.3)
    return bank


@pytest.mark.parametrize("option", [FULL, HALF, RANK, AFFINE])
@pytest.mark.parametrize("case", [conv_case, dense_case])
def test_fresh_blocks_are_the_identity(case, option):
    bank, x, y = case()
    assert torch.allclose(bank.compensate(0, option, x, y), y, atol=1e-6)


@pytest.mark.parametrize("option", [FULL, HALF])
def test_full_block_is_the_reference_formula(option):
    bank, x, y = conv_case()
    block, m = trained(bank).block(0, option), option.width(bank.options.sites[0])
    assert m == {FULL: 8, HALF: 4}[option]
    pooled = F.adaptive_avg_pool2d(x, (10, 10))
    generator = block.generator_weight[:m, :, None, None]
    g = F.conv2d(torch.cat([pooled, y], 1), generator, block.generator_bias[:m]).relu()
    compensator = block.compensator_weight[:, : 16 + m, None, None]
    expected = F.conv2d(torch.cat([y, g], 1), compensator, block.compensator_bias)
    out = bank.compensate(0, option, x, y)
    assert out.shape == y.shape
    assert torch.allclose(out, expected, atol=1e-5)


def test_pooling_is_the_average_over_windows():
    bank, x, y = conv_case()
    block = trained(bank).block(0, AFFINE)
    scaled = y * block.scale[:, None, None] + block.shift[:, None, None]
    assert torch.allclose(bank.compensate(0, AFFINE, x, y), scaled, atol=1e-6)
    # 14 -> 7 is exact halving: windows of 2 x 2
    (site,) = sites_of(nn.Conv2d(6, 16, 2, stride=2), (6, 14, 14))
    bank = trained(CompensationBank(Options((site,), ((HALF,),))))
    block, y = bank.block(0, HALF), y[..., :7, :7]
    pooled = x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    g = torch.einsum("mc,nchw->nmhw", block.generator_weight, torch.cat([pooled, y], 1))
    g = (g + block.generator_bias[:, None, None]).relu()
    expected = torch.einsum("oc,nchw->nohw", block.compensator_weight, torch.cat([y, g], 1))
    expected = expected + block.compensator_bias[:, None, None]
    assert torch.allclose(bank.compensate(0, HALF, x, y), expected, atol=1e-5)


def test_dense_blocks_are_the_reference_formulas():
    bank, x, y = dense_case()
    z = torch.cat([x, y], 1)
    full = trained(bank).block(0, HALF)
    g = (z @ full.generator_weight[:2].T + full.generator_bias[:2]).relu()
    expected = torch.cat([y, g], 1) @ full.compensator_weight[:, :10].T + full.compensator_bias
    assert torch.allclose(bank.compensate(0, HALF, x, y), expected, atol=1e-5)
    low = bank.block(0, RANK)
    expected = y + (z @ low.down_weight.T + low.down_bias).relu() @ low.up_weight.T + low.up_bias
    assert torch.allclose(bank.compensate(0, RANK, x, y), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "low_rank"])
@pytest.mark.parametrize("case", [conv_case, dense_case])
def test_smaller_width_is_the_hand_sliced_block(case, kind):
    small, wide = BlockOption(kind=kind, size=0.25), BlockOption(kind=kind, size=1)
    bank, x, y = case((small, wide))
    big = trained(bank).block(0, wide)
    assert bank.block(0, small) is big
    m, c_out = small.width(bank.options.sites[0]), bank.options.sites[0].out_channels
    own = CompensationBank(Options(bank.options.sites, ((small,),)))
    block = own.block(0, small)
    if kind == "full":
        block.generator_weight.data = big.generator_weight[:m].clone()
        block.generator_bias.data = big.generator_bias[:m].clone()
        block.compensator_weight.data = big.compensator_weight[:, : c_out + m].clone()
        block.compensator_bias.data = big.compensator_bias.clone()
    else:
        block.down_weight.data, block.down_bias.data = big.down_weight[:m].clone(), big.down_bias[:m].clone()
        block.up_weight.data, block.up_bias.data = big.up_weight[:, :m].clone(), big.up_bias.clone()
    assert torch.allclose(bank.compensate(0, small, x, y), own.compensate(0, small, x, y), atol=1e-6)
    assert not torch.allclose(bank.compensate(0, small, x, y), bank.compensate(0, wide, x, y), atol=1e-2)


@pytest.fixture
def toy():
    torch.manual_seed(0)
    model = build_backbone("toy_cnn").eval()
    sites = sites_of(model, (1, 28, 28))
    options = options_by_type(sites, {"conv": ALL, "dense": ALL})
    return model, trained(CompensationBank(options)), torch.rand(4, 1, 28, 28)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_inserted_leaves_no_trace(toy):
    model, bank, x = toy
    clean = model(x)
    with bank.inserted(model, (2, 3, 1, 4)) as running:
        compensated = running(x)
        assert hooks(model) == 0  # nor is there one while it runs: other threads meet the network as it is
    assert hooks(model) == 0
    assert torch.equal(model(x), clean)
    y1 = bank.compensate(0, FULL, x, model.conv1(x)).relu()
    y2 = bank.compensate(1, RANK, y1, model.conv2(y1)).relu().flatten(1)
    y3 = bank.compensate(2, HALF, y2, model.fc1(y2)).relu()
    assert torch.allclose(compensated, bank.compensate(3, AFFINE, y3, model.fc2(y3)), atol=1e-5)
    with bank.inserted(model, (0, 0, 0, 0)):
        assert hooks(model) == 0


def test_inserted_leaves_no_trace_after_an_exception(toy):
    model, bank, _ = toy
    with pytest.raises(ZeroDivisionError), bank.inserted(model, (1, 1, 1, 1)):
        _ = 1 / 0
    with pytest.raises(RuntimeError), bank.inserted(model, (1, 1, 1, 1)):
        model(torch.zeros(1, 3, 28, 28))
    assert hooks(model) == 0


def test_module_called_twice_gets_its_block_at_each_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x):
            return self.fc(self.fc(x).relu())

    torch.manual_seed(0)
    model, x = Twice(), torch.randn(5, 6)
    (site,) = sites_of(model, (6,))
    bank = trained(CompensationBank(Options((site,), ((FULL,),))))
    with bank.inserted(model, (1,)):
        out = model(x)
    hidden = bank.compensate(0, FULL, x, model.fc(x)).relu()
    assert torch.allclose(out, bank.compensate(0, FULL, hidden, model.fc(hidden)), atol=1e-6)
    assert added_macs(FULL, site) == 2 * added_macs(FULL, sites_of(nn.Linear(6, 6), (6,))[0])


def test_digital_keeps_weights_exact():
    nominal = torch.randn(10, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    noisy = nominal * 1.5
    assert torch.equal(site_weight(DIGITAL, nominal, noisy), nominal)
    assert torch.equal(site_weight(None, nominal, noisy), noisy)
    assert torch.equal(site_weight(FULL, nominal, noisy), noisy)
    half = site_weight(BlockOption(kind="digital", size=0.5), nominal, noisy)
    exact = [torch.equal(a, b) for a, b in zip(half, nominal, strict=True)]
    norms = nominal.flatten(1).norm(dim=1)
    assert exact == (norms >= norms.sort(descending=True).values[4]).tolist()  # the five largest
    assert sum(exact) == 5
    assert torch.equal(half[~torch.tensor(exact)], noisy[~torch.tensor(exact)])


def test_digital_everywhere_is_the_clean_network(toy):
    model, bank, x = toy
    network = map_network(model, CrossbarConfig(), (1, 28, 28))
    chip = network.program(torch.Generator().manual_seed(3))
    with torch.no_grad():
        exact = site_weights(bank, (5, 5, 5, 5), network.weights(), chip)
        with programmed(model, exact), bank.inserted(model, (5, 5, 5, 5)):
            out = model(x)
        assert torch.equal(out, model(x))
        assert hooks(model) == 0


@pytest.mark.parametrize(
    ("placement", "says"),
    [
        ((0, 0), "has 2 entries; give one option index for each of the 4 sites: conv1, conv2, fc1, fc2."),
        ((0, 0, 0, 0, 0), "has 5 entries"),
        ((0, 6, 0, 0), "option 6 at site 1 (conv2) does not exist; use 0 for none or 1 to 5."),
        ((0, 0, 0, -1), "option -1 at site 3 (fc2) does not exist"),
    ],
)
def test_wrong_placement(toy, placement, says):
    model, bank, _ = toy
    with pytest.raises(PlacementError) as caught, bank.inserted(model, placement):
        pass
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hooks(model) == 0


def test_used_parameters_and_round_trip_of_the_bank(toy):
    _, bank, x = toy
    used = bank.used_parameters((1, 0, 5, 4))
    assert {id(p) for p in used} == {
        id(p) for b in (bank.block(0, HALF), bank.block(3, AFFINE)) for p in b.parameters()
    }
    copy = bank_from(bank.options, bank_arrays(bank))
    y = torch.randn(4, 4, 14, 14, generator=torch.Generator().manual_seed(0))
    assert torch.equal(copy.compensate(0, FULL, x, y), bank.compensate(0, FULL, x, y))
    assert not any(p.requires_grad for p in copy.parameters())


@pytest.mark.parametrize("fields", [{"kind": "digital", "size": 1.5}, {"kind": "full", "size": 0}, {"kind": "huge"}])
def test_impossible_options(fields):
    with pytest.raises(ConfigError, match="BlockOption"):
        BlockOption(**fields)


class Shift(Block):
    """A shift of every channel."""

    kind, sized = "shift", False

    def __init__(self, site, width):
        super().__init__(site, width)
        self.shift = nn.Parameter(torch.zeros(site.out_channels))

    @classmethod
    def weights(cls, site, width):
        """Return one a channel."""
        return site.out_channels

    @classmethod
    def macs(cls, site, width):
        """Return none."""
        return 0

    def forward(self, x, y, width):
        """Return the shifted output."""
        return y + (self.shift.view(-1, *[1] * (y.dim() - 2)) if self.conv else self.shift)


def test_a_kind_of_ones_own_by_where_it_is(monkeypatch):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, 4))
    sites, option = sites_of(network, (1, 8, 8)), BlockOption(kind=f"{__name__}:Shift")
    assert option.label == "shift" and [added_weights(option, site) for site in sites] == [3, 4]
    assert BlockOption(**option.model_dump()) == option == pickle.loads(pickle.dumps(option))
    bank = CompensationBank(options_by_type(sites, {"conv": (option,), "dense": (option, AFFINE)}))
    for value in bank.parameters():
        value.data += 1.0
    x, y = torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 6, 6)
    assert torch.equal(bank.compensate(0, option, x, y), torch.ones(2, 3, 6, 6))
    assert len(bank.used_parameters((1, 1))) == 2 and bank_from(bank.options, bank_arrays(bank)).used_parameters((1, 1))
    monkeypatch.setattr(BLOCKS, "_entries", dict(BLOCKS._entries))
    BLOCKS.register(Shift)
    assert BlockOption(kind="shift") == option  # keys hold where it is, whatever it is called
