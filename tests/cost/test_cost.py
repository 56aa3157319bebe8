import gymnasium as gym
import pytest
from torch import nn

from cimenv.compensation import BlockOption, added_weights
from cimenv.core.errors import MappingError
from cimenv.cost import COST_TERMS, Cost, CostTerm, Range, backbone_cost, placement_cost, shares, table
from cimenv.cost.energy import matrix_energy_pj
from cimenv.cost.hardware import block_cost, scalar, site_cost
from cimenv.crossbar import CrossbarConfig, map_network
from cimenv.networks import build_backbone
from cimenv.tasks import PlacementSpace, load_task

CONFIG = CrossbarConfig()  # 8-bit weights on 2-bit cells, 8-bit inputs and outputs, 128 x 128 arrays, 32 nm
AFFINE, FULL, DIGITAL = BlockOption(kind="affine"), BlockOption(kind="full", size=0.25), BlockOption(kind="digital")


@pytest.fixture(scope="module")
def lenet():
    return map_network(build_backbone("lenet5"), CONFIG, (1, 28, 28)).sites


def test_measured_256_core_lies_in_the_range():
    energy = matrix_energy_pj(256, 256, CONFIG)
    # a measured 256 x 256 PCM core: 10.5 TOPS/W = 2 / 10.5 = .19 pJ per MAC
    assert energy.low / 256**2 < 2 / 10.5 < energy.high / 256**2


def test_isaac_scheme_per_mac():
    # one full 128 x 128 array of 2-bit cells holds 128 x 32 8-bit weights; 8 one-bit input cycles
    energy = matrix_energy_pj(128, 32, CONFIG).high
    by_hand = 8 * (128 * 0.42 + 30 + 128 * (1.67 + 0.021))
    assert energy == pytest.approx(by_hand)
    assert energy / (128 * 32) == pytest.approx(0.58, rel=0.02)  # .581 without shift-and-add, .586 with it


def test_low_end_is_one_conversion_with_the_neurosim_converter():
    energy = matrix_energy_pj(128, 32, CONFIG).low
    assert energy == pytest.approx(128 * 0.42 + 30 + 128 * (0.23 + 0.021))


def test_tiles_of_a_split_matrix():
    # 200 x 40 weights: 2 row tiles, 160 device columns on 2 column tiles; unused lines are switched off
    energy = matrix_energy_pj(200, 40, CONFIG).high
    assert energy == pytest.approx(8 * (200 * 2 * 0.42 + 200 * 160 * 30 / 128**2 + 160 * 2 * (1.67 + 0.021)))


@pytest.mark.parametrize(("node", "factor"), [(45, 1.0), (32, 0.66), (14, 0.14), (7, 0.094)])
def test_node_scaling(lenet, node, factor):
    config = CrossbarConfig(technology_nm=node)
    crossbar = matrix_energy_pj(128, 32, config).high / matrix_energy_pj(128, 32, CONFIG).high
    assert crossbar == pytest.approx(factor / 0.66)  # ISAAC's constants are for 32 nm
    at_45 = CrossbarConfig(technology_nm=45)
    for end in ("low", "high"):
        digital = [getattr(block_cost(FULL, lenet[1], c).energy_pj, end) for c in (config, at_45)]
        assert digital[0] / digital[1] == pytest.approx(factor)  # Horowitz's for 45 nm


def test_cycles_and_converters_scale_the_high_end():
    base = matrix_energy_pj(128, 32, CONFIG)
    assert matrix_energy_pj(128, 32, CrossbarConfig(dac_bits=4)).high == pytest.approx(base.high / 2)
    fewer = matrix_energy_pj(128, 32, CrossbarConfig(adc_bits=4)).high
    assert base.high - fewer == pytest.approx(8 * 128 * (1.67 - 0.79))
    assert matrix_energy_pj(128, 16, CrossbarConfig(weight_bits=16)).high == pytest.approx(base.high)


def test_lenet5_backbone(lenet):
    cost = backbone_cost(lenet, CONFIG)
    assert (cost.weights, cost.macs) == (61_470, 416_520)
    conv1 = site_cost(lenet[0], CONFIG)
    assert conv1.energy_pj.high == pytest.approx(784 * matrix_energy_pj(25, 6, CONFIG).high)
    assert conv1.latency_us == pytest.approx(784 * 8 * 0.1)  # 24 columns convert within the 100 ns read
    fc1 = site_cost(lenet[2], CONFIG)
    assert fc1.latency_us == pytest.approx(8 * 128 / 1.2 / 1e3)  # 128 columns share 1.2 GS/s
    tile = 25 + 128 * 0.167 + 128 * 0.039 + 60 + 1200
    assert fc1.area_mm2.low == pytest.approx(4 * 4 * tile / 1e6)  # 400 rows, 480 device columns
    assert cost.latency_us == pytest.approx(sum(site_cost(site, CONFIG).latency_us for site in lenet))


def test_groups_are_independent_matrices():
    (whole,) = map_network(nn.Conv2d(8, 8, 3), CONFIG, (8, 5, 5)).sites
    (grouped,) = map_network(nn.Conv2d(8, 8, 3, groups=4), CONFIG, (8, 5, 5)).sites
    assert site_cost(grouped, CONFIG).macs == site_cost(whole, CONFIG).macs / 4
    energy = site_cost(grouped, CONFIG).energy_pj.high
    assert energy == pytest.approx(9 * 4 * matrix_energy_pj(18, 2, CONFIG).high)


def test_full_block_energy_by_hand(lenet):
    # conv2: 4 filters on 6 + 16 maps, 16 on 16 + 4, 100 positions; 428 weights with biases
    cost, scale = block_cost(FULL, lenet[1], CONFIG), 0.66
    macs, weights = (4 * 22 + 16 * 20) * 100, 4 * 22 + 16 * 20 + 20
    assert (cost.macs, cost.weights) == (macs, weights)
    assert cost.energy_pj.low == pytest.approx((macs * 0.3 + weights * 10 / 8) * scale)
    assert cost.energy_pj.high == pytest.approx((macs * 0.3 + weights * 100 * 10 / 8) * scale)
    assert cost.latency_us == pytest.approx(-(-macs // table.MACS_PER_CYCLE) / 1e3)


def test_affine_adds_storage_only(lenet):
    for site in lenet:
        cost = block_cost(AFFINE, site, CONFIG)
        assert (cost.macs, cost.energy_pj, cost.latency_us) == (0, Range(0, 0), 0)
        assert cost.weights == 2 * site.out_channels
        assert cost.area_mm2.low > 0
    assert block_cost(None, lenet[0], CONFIG) == Cost()


@pytest.mark.parametrize("kind", ["affine", "full", "low_rank", "digital"])
@pytest.mark.parametrize("size", [0.125, 0.5, 1.0])
def test_ranges_are_ordered(lenet, kind, size):
    for site in lenet:
        for cost in (block_cost(BlockOption(kind=kind, size=size), site, CONFIG), site_cost(site, CONFIG)):
            for term in (cost.energy_pj, cost.area_mm2):
                assert term.low <= term.middle * (1 + 1e-12)
                assert term.middle <= term.high * (1 + 1e-12)
    assert Range(2.0, 8.0).middle == 4.0


def test_shares_add_up_over_sites(lenet):
    backbone = backbone_cost(lenet, CONFIG)
    blocks = (FULL, AFFINE, None, DIGITAL, FULL)
    whole = shares(placement_cost(blocks, lenet, CONFIG), backbone)
    alone = [shares(block_cost(b, s, CONFIG), backbone) for b, s in zip(blocks, lenet, strict=True)]
    for term in ("weights", "macs", "latency"):
        assert whole[term] == pytest.approx(sum(one[term] for one in alone), rel=1e-12)
    for end in ("low", "high"):
        total = sum(getattr(block_cost(b, s, CONFIG).energy_pj, end) for b, s in zip(blocks, lenet, strict=True))
        assert getattr(placement_cost(blocks, lenet, CONFIG).energy_pj, end) == pytest.approx(total, rel=1e-12)
    assert shares(placement_cost((DIGITAL,) * 5, lenet, CONFIG), backbone)["macs"] == 1.0
    assert scalar(whole, {"energy": 0.5, "macs": 0.5}) == pytest.approx((whole["energy"] + whole["macs"]) / 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ISAAC_ADC_PJ", {4: 0.79, 5: 0.99, 6: 1.20, 7: 1.42, 8: 1.67, 9: 1.97, 10: 2.38}),
        ("ISAAC_ADC_UM2", 0.0012 * 1e6),
        ("ISAAC_ADC_PER_NS", 1.2),
        ("ISAAC_ARRAY_PJ", 30.0),
        ("ISAAC_ARRAY_UM2", 2.5e-5 * 1e6),
        ("ISAAC_ARRAY_SIDE", 128),
        ("ISAAC_READ_NS", 100.0),
        ("ISAAC_DRIVER_PJ", 0.42),
        ("ISAAC_DRIVER_UM2", 0.167),
        ("ISAAC_SAMPLE_HOLD_UM2", 0.039),
        ("ISAAC_SHIFT_ADD_PJ", 0.021),
        ("ISAAC_SHIFT_ADD_UM2", 60.0),
        ("ISAAC_NODE_NM", 32),
        ("NEUROSIM_ADC_8BIT_PJ", 0.23),
        ("INT8_MULTIPLY_PJ", 0.2),
        ("INT32_ADD_PJ", 0.1),
        ("SRAM_64BIT_READ_PJ", 10.0),
        ("DIGITAL_NODE_NM", 45),
        ("DIGITAL_GHZ", 1.0),
        ("ENERGY_BY_NODE", {45: 1.0, 32: 0.66, 14: 0.14, 7: 0.094}),
    ],
)
def test_constants_have_their_published_values(name, value):
    assert getattr(table, name) == pytest.approx(value)


def test_shares_of_a_network_that_was_mapped_without_its_input_shape():
    """Nothing added is a share of 0; something added to nothing is refused by name."""
    none, weights = Cost(), Cost({"weights": 10, "area": Range(1.0, 1.0)})
    assert shares(none, weights) == dict.fromkeys(("weights", "macs", "energy", "area", "latency"), 0.0)
    assert shares(Cost({"weights": 1}), weights)["weights"] == 0.1
    with pytest.raises(MappingError, match="macs: the mapped network has none"):
        shares(Cost({"weights": 1, "macs": 5}), weights)


class Sram(CostTerm):
    """Bits of SRAM, of the user's own."""

    name, unit = "sram", "bit"

    @classmethod
    def of_site(cls, site, config):
        """Return a buffer of one row of outputs."""
        return 8 * site.out_channels

    @classmethod
    def of_block(cls, option, site, config):
        """Return the weights of a block."""
        return 8 * added_weights(option, site)


def test_a_term_of_ones_own_is_seen_where_a_task_names_it():
    own = f"{__name__}:Sram"
    plain = PlacementSpace(load_task("toy-4site"))
    task = load_task("toy-4site").with_changes(cost_weights={"energy": 0.0, "macs": 0.5, own: 0.5}, budget={own: 1.0})
    space = PlacementSpace(task)
    assert plain.term_names == COST_TERMS and space.term_names == (*COST_TERMS, own)
    assert (space.terms[..., :5] == plain.terms).all()
    placement = (0, 0, 0, 1)
    block = space.options.blocks(placement)[3]
    expected = added_weights(block, space.sites[3]) / sum(site.out_channels for site in space.sites)
    assert space.shares(placement)[own] == pytest.approx(expected)
    assert space.scalar_cost(placement) == pytest.approx(plain.shares(placement)["macs"] / 2 + expected / 2)
    assert own not in plain.shares(placement) and task.key != load_task("toy-4site").key
    assert space.feasible(placement) == (expected <= 1)
    observed = gym.make("CiMCompensation-v0", task=task.model_dump(mode="json")).observation_space
    assert observed == gym.make("CiMCompensation-v0", task="toy-4site").observation_space
