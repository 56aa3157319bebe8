"""Torch's global state is the user's: it changes no number, and no call changes it."""

import contextlib
import threading

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

import cimenv
from cimenv.core.errors import ConfigError
from cimenv.core.progress import silent
from cimenv.core.store import Store
from cimenv.tasks import MonteCarloEvaluator, UserObjects, load_task
from cimenv.tasks import task as task_module

GENERATOR = torch.Generator().manual_seed(0)
PROTOTYPES = torch.randn(3, 1, 6, 6, generator=GENERATOR)


def images(count):
    labels = torch.arange(count) % 3
    noisy = PROTOTYPES[labels] + torch.randn(count, 1, 6, 6, generator=GENERATOR)
    return cimenv.ImageSet((noisy.clamp(-2, 2) * 60 + 128).byte(), labels, mean=(0.5,), std=(0.3,))


PARTS = images(48), images(24), images(24)
DATA = cimenv.DataSplits("tiny", *PARTS, classes=3)
torch.manual_seed(0)
MODEL = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
FIELDS = [
    "crossbar.preset=rasch2023",
    "crossbar.batch_norm=shared",
    "crossbar.batch_norm_chips=2",
    "bank.steps=3",
    "tuned.steps=2",
    "chips=2",
    "images=24",
    "times_s=[0, 3600]",
]


def numbers(folder):
    """Return everything that an evaluator and an environment say of a task that is built from nothing."""
    task, store = load_task("toy-4site", FIELDS), Store(folder)
    evaluator = MonteCarloEvaluator(task, store, threads=1, progress=silent, objects=UserObjects(MODEL, DATA))
    found = evaluator.evaluate_many([(0, 0), (1, 2)])
    tuned = evaluator.evaluate((1, 1), fidelity="tuned")
    vector = gym.vector.SyncVectorEnv(
        [lambda: gym.make("CiMCompensation-v0", evaluator=evaluator).unwrapped for _ in range(2)]
    )
    observed, info = vector.reset(seed=0)
    stepped = vector.step(np.array([1, 3]))
    return [
        *[evaluation.correct for evaluation in (*found, tuned)],
        *[evaluation.site_errors for evaluation in (*found, tuned)],
        evaluator.clean_accuracy(),
        evaluator.reference_accuracy("test"),
        *[share for site in evaluator.problem.saturation("val").values() for share in vars(site).values()],
        *[value for name, value in sorted(evaluator.problem.network.input_ranges.items())],
        observed,
        info["accuracy"],
        *stepped[:2],
    ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    torch.manual_seed(11)
    return numbers(tmp_path_factory.mktemp("plain"))


@contextlib.contextmanager
def setting(change, back):
    change()
    try:
        yield
    finally:
        back()


def onednn(enabled):
    torch.backends.mkldnn.enabled = enabled


STATES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "default_meta": lambda: setting(lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    "float64": lambda: setting(
        lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)
    ),
    "medium": lambda: setting(
        lambda: torch.set_float32_matmul_precision("medium"), lambda: torch.set_float32_matmul_precision("highest")
    ),
    "deterministic": lambda: setting(
        lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)
    ),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "no_onednn": lambda: setting(lambda: onednn(False), lambda: onednn(True)),
    "another_seed": lambda: setting(lambda: torch.manual_seed(12), lambda: None),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("name", STATES)
def test_no_state_of_torch_changes_a_number(name, expected, tmp_path):
    with STATES[name]():
        random = torch.get_rng_state()
        found = numbers(tmp_path)
        assert torch.equal(random, torch.get_rng_state())
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


def test_nor_that_of_another_thread(expected, tmp_path):
    found = []

    def work():
        torch.set_grad_enabled(False)
        found.extend(numbers(tmp_path))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert torch.is_grad_enabled()
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_network_and_data_that_were_made_in_inference_mode_serve(tmp_path):
    def accuracy(folder):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        splits = cimenv.DataSplits("own", *(cimenv.ImageSet(p.inputs(), p.labels) for p in PARTS), classes=3)
        fields = {"options": {"dense": [{"kind": "affine"}]}, "bank": {"steps": 3}, "chips": 2, "report_chips": 2}
        task = load_task("toy-4site").with_changes(**fields)
        evaluator = MonteCarloEvaluator(task, Store(folder), threads=1, objects=UserObjects(model, splits))
        return evaluator.evaluate((1,)).correct.tolist()

    outside = accuracy(tmp_path / "outside")
    with torch.inference_mode():
        assert accuracy(tmp_path / "inside") == outside


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int8])
def test_weights_that_are_not_single_precision_are_refused(dtype, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    model[1].weight = nn.Parameter(model[1].weight.to(dtype), requires_grad=False)
    with pytest.raises(ConfigError, match=f"model: its weights are {dtype}"):
        cimenv.place(model, DATA, store=tmp_path)


@pytest.mark.parametrize("name", ["float64", "default_meta", "inference_mode", "medium"])
def test_sites_are_the_same_under_any_state(name):
    plain = load_task("toy-4site").sites()
    task_module._mapped.cache_clear()
    with STATES[name]():
        assert load_task("toy-4site").sites() == plain
