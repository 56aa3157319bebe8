import threading
import time

import pytest
import torch
from torch import nn

from cimenv.core.global_state import own_torch_state
from cimenv.core.single_precision import DEFAULT, NAMED, product_precision, set_product_precision


def state():
    """Everything that `own_torch_state` speaks of."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "benchmark": torch.backends.cudnn.benchmark,
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "products": product_precision(),
        "random": torch.random.get_rng_state().tolist(),
    }


PLAIN = state()


@pytest.fixture(autouse=True)
def put_back():
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    set_product_precision(DEFAULT)
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.backends.mkldnn.enabled = torch.backends.cuda.enable_flash_sdp(True) or True
    torch.backends.cudnn.benchmark = False


def medium():
    torch.set_float32_matmul_precision("medium")


def mixed():
    """Older and newer switches that contradict each other: torch then refuses to read the older ones."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


SETTINGS = {
    "float64": lambda: torch.set_default_dtype(torch.float64),
    "bfloat16": lambda: torch.set_default_dtype(torch.bfloat16),
    "meta": lambda: torch.set_default_device("meta"),
    "matmul": medium,
    "cudnn": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "deterministic": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "mkldnn": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "flash": lambda: torch.backends.cuda.enable_flash_sdp(False),
}
if NAMED:
    SETTINGS |= {
        "mixed": mixed,
        "general": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    }
MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
}


def inside():
    with own_torch_state():
        return {**state(), "random": PLAIN["random"]}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_settings_are_torchs_own_inside_and_the_users_afterwards(name, error):
    SETTINGS[name]()
    before = state()
    assert {**before, "random": PLAIN["random"]} != PLAIN
    assert inside() == PLAIN
    if error:
        with pytest.raises(error), own_torch_state():
            raise error
    assert state() == before


@pytest.mark.parametrize("name", MODES)
def test_modes_of_the_thread_too(name):
    with MODES[name]():
        before = state()
        assert inside() == PLAIN
        assert state() == before
    with MODES[name](), pytest.raises(KeyboardInterrupt), own_torch_state():
        raise KeyboardInterrupt


@pytest.mark.skipif(not NAMED, reason="torch has the older switches only")
def test_an_inherited_precision_stays_inherited():
    torch.backends.fp32_precision = "tf32"
    with own_torch_state():
        assert torch.backends.mkldnn.conv.fp32_precision == "none"
    assert torch.backends.mkldnn.conv.fp32_precision == "tf32"
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.mkldnn.conv.fp32_precision == "ieee"


def test_transforms_of_functions_do_not_reach_inside():
    def seen(x):
        with own_torch_state():
            drawn = torch.randn(3, generator=torch.Generator().manual_seed(0))
        return x * drawn[0]

    expected = torch.randn(3, generator=torch.Generator().manual_seed(0))[0]
    assert torch.equal(torch.vmap(seen)(torch.ones(2)), expected.expand(2))
    assert torch.func.grad(seen)(torch.tensor(2.0)) == expected


def test_cimenvs_own_autocast_counts_within():
    with own_torch_state(), torch.autocast("cpu", torch.bfloat16), own_torch_state():
        assert torch.is_autocast_enabled("cpu")


def test_threads_that_overlap_share_the_settings_until_the_last_one_ends():
    torch.set_default_dtype(torch.float64)
    both, leave, seen = threading.Barrier(2), threading.Event(), []

    def first():
        with own_torch_state():
            both.wait()
        leave.set()

    def second():
        with own_torch_state():
            both.wait()
            leave.wait()
            seen.append(torch.get_default_dtype())

    threads = [threading.Thread(target=work) for work in (first, second)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert seen == [torch.float32]
    assert torch.get_default_dtype() == torch.float64


def test_a_thread_without_gradients_learns_inside():
    layer, gradients = nn.Linear(2, 2), []

    @own_torch_state()
    def learn():
        layer(torch.ones(1, 2)).sum().backward()
        gradients.append(layer.weight.grad.clone())

    def thread():
        torch.set_grad_enabled(False)
        learn()

    worker = threading.Thread(target=thread)
    worker.start()
    worker.join()
    assert torch.equal(gradients[0], torch.ones(2, 2))


def test_it_costs_little():
    def seconds(use):
        start = time.perf_counter()
        for _ in range(300):
            with use():
                pass
        return (time.perf_counter() - start) / 300

    with own_torch_state():
        nested = min(seconds(own_torch_state) for _ in range(5))
    outer = min(seconds(own_torch_state) for _ in range(5))
    assert nested < 20e-6
    assert outer < 500e-6
