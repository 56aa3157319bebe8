"""Which channels deserve to be digital: closed forms, and what a task makes of them."""

import pytest
import torch
from torch import nn

from cimenv.crossbar import CrossbarConfig, map_network
from cimenv.data import load_data
from cimenv.evaluation.protection import by_damage, by_second_derivative, channel_scores
from cimenv.tasks import MonteCarloEvaluator

DIGITAL = {kind: [{"kind": "digital", "size": 0.25}] for kind in ("conv", "dense")}


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    return map_network(nn.Sequential(layer), CrossbarConfig(), (weight.shape[1],))


def test_second_derivative_of_a_linear_model():
    """E[g_i^2] = p_i (1 - p_i) for softmax outputs: n p (1 - p) sum x^2 var(w), within 5 standard errors of 4,000."""
    weight, x = torch.tensor([[0.5, 1.0], [-0.2, 0.3], [0.1, 0.1]]), torch.tensor([1.0, 2.0])
    deviation = torch.tensor([[0.1, 0.2], [0.3, 0.0], [0.2, 0.2]])
    chips = [{"0": weight + deviation}, {"0": weight - deviation}]
    n = 4_000
    found = by_second_derivative(linear(weight), x.expand(n, 2), chips)["0"]
    p = (weight @ x).softmax(0)
    expected = n * p * (1 - p) * (deviation.square() @ x.square())
    torch.testing.assert_close(found, expected, rtol=0.12, atol=0.0)


def test_second_derivative_of_a_convolution_sums_its_positions():
    """A convolution over the whole image is the dense layer of its weights: the same scores."""
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    images = torch.rand(200, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    convolution = nn.Conv2d(2, 3, 2)
    convolution.weight.data, convolution.bias.data = weight.reshape(3, 2, 2, 2), torch.tensor([0.3, -0.1, 0.5])
    network = map_network(nn.Sequential(convolution, nn.Flatten()), CrossbarConfig(), (2, 2, 2))
    dense = linear(weight)
    dense.model[0].bias = nn.Parameter(convolution.bias.data.clone())
    noisy = weight + 0.1
    one = by_second_derivative(network, images, [{"0": noisy.reshape(3, 2, 2, 2)}])["0"]
    other = by_second_derivative(dense, images.flatten(1), [{"0": noisy}])["0"]
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["second_derivative", "damage"])
def test_an_activation_in_place_changes_no_score(kind):
    def network(inplace):
        torch.manual_seed(0)
        layers = nn.Linear(6, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 3)
        return map_network(nn.Sequential(*layers), CrossbarConfig(), (6,))

    images = torch.rand(200, 6, generator=torch.Generator().manual_seed(1))
    chips = [{name: 1.2 * weight for name, weight in network(False).weights().items()}]
    labels = torch.arange(200) % 3

    def scores(inplace):
        if kind == "damage":
            return by_damage(network(inplace), images, labels, chips)
        return by_second_derivative(network(inplace), images, chips)

    plain, found = scores(False), scores(True)
    assert all(torch.equal(plain[name], found[name]) for name in plain) and len(plain) == 2


def test_damage_finds_the_channel_that_breaks_the_network():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    x = torch.eye(2).repeat(50, 1)
    labels = torch.tensor([0, 1]).repeat(50)
    noisy = weight + torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]])
    scores = by_damage(linear(weight), x, labels, [{"0": noisy}])["0"]
    assert int(scores.argmax()) == 2 and float(scores[2] - scores[0]) > 100 * 2.0  # 100 images, a loss of about 3 more


@pytest.mark.parametrize("kind", ["second_derivative", "damage"])
def test_a_task_keeps_the_most_sensitive_channels_digital(toy, kind):
    task = toy.task.with_changes(options=DIGITAL, protection=kind)
    evaluator = MonteCarloEvaluator(task, toy.store)
    problem = evaluator.problem
    scores = channel_scores(problem.network, load_data(task.data).train, kind)
    assert [problem.bank.order(s).tolist() for s in range(4)] == [
        scores[site.name].argsort(descending=True, stable=True).tolist() for site in problem.network.sites
    ]
    norm = MonteCarloEvaluator(toy.task.with_changes(options=DIGITAL), toy.store)
    assert problem.weights_digest != norm.problem.weights_digest  # evaluations are not mixed up
    assert evaluator.evaluate((0, 0, 0, 0)).correct.tolist() == norm.evaluate((0, 0, 0, 0)).correct.tolist()
    assert evaluator.evaluate((1, 1, 1, 1)).correct.tolist() != norm.evaluate((1, 1, 1, 1)).correct.tolist()
    again = MonteCarloEvaluator(task, toy.store).problem
    assert again.weights_digest == problem.weights_digest
