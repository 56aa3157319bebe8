import copy

import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.core.progress import silent
from cimenv.core.threads import torch_threads
from cimenv.crossbar import CrossbarConfig, Ideal, LogNormal, map_network
from cimenv.data import DataSplits, ImageSet
from cimenv.training import RECIPES, Recipe, recipe_named
from cimenv.training.lipschitz import Lipschitz, LipschitzNoise, gram_penalty, spectral_penalty, target_norm
from cimenv.training.noise import Noise
from cimenv.training.training_run import shuffled_batches
from cimenv.training.validated import ValidatedRecipe


@pytest.mark.parametrize(
    ("sigma", "norm"), [(0.1, 0.765), (0.2, 0.610), (0.3, 0.498), (0.4, 0.410), (0.5, 0.340), (0.0, 1.0)]
)
def test_target_norm(sigma, norm):
    assert target_norm(sigma) == pytest.approx(norm, abs=6e-4)  # 1 / (mu + 3 sd), published to three digits
    assert target_norm(sigma, k=0.5) == pytest.approx(target_norm(sigma) / 2)


def orthogonal(rows, columns):
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_gram_penalty_vanishes_at_scaled_orthogonal_matrices(shape):
    w = 0.34 * orthogonal(*shape)
    assert gram_penalty(w, 0.34).item() == pytest.approx(0, abs=1e-10)
    n = min(shape)
    assert gram_penalty(w, 1.0).item() == pytest.approx(n * (1 - 0.34**2) ** 2, rel=1e-5)


def test_gram_penalty_uses_the_smaller_gram_matrix():
    for shape in ((4, 9), (9, 4), (4, 1, 3, 3)):
        assert gram_penalty(torch.zeros(shape), 0.5).item() == pytest.approx(4 * 0.5**4)  # 9 * .5^4 for the larger


def test_gram_penalty_reshapes_to_out_by_fan_in():
    w = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    matrix = w.reshape(6, 18)
    expected = torch.linalg.matrix_norm(matrix @ matrix.T - 0.25 * torch.eye(6)) ** 2
    assert gram_penalty(w, 0.5).item() == pytest.approx(expected.item(), rel=1e-5)


def test_spectral_penalty():
    q = orthogonal(4, 9)
    assert spectral_penalty(q, 0.34).item() == pytest.approx((1 - 0.34) ** 2, rel=1e-5)
    assert spectral_penalty(0.3 * q, 0.34).item() == 0
    w = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    largest = torch.linalg.svdvals(w.reshape(3, 8))[0]
    assert spectral_penalty(w, 0.34).item() == pytest.approx((largest.item() - 0.34) ** 2, rel=1e-5)


@pytest.mark.parametrize(
    ("recipe", "sigmas"),
    [
        (Noise(sigma=0.5, ramp=0.5), [0.0, 0.25, 0.5, 0.5]),
        (Noise(sigma=0.3, ramp=1.0), [0.0, 0.075, 0.15, 0.3]),
        (Noise(sigma=0.5, ramp=0.0), [0.5] * 4),
        (LipschitzNoise(noise_sigma=0.5, sigma=0.1, ramp=0.5), [0.0, 0.25, 0.5, 0.5]),
    ],
)
def test_ramp_of_the_noise(recipe, sigmas):
    assert [recipe.device(done).sigma for done in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(sigmas)


def test_recipes_without_noise_train_on_exact_weights():
    for name in ("standard", "lipschitz"):
        assert recipe_named(name).device(0.7) == Ideal()


@pytest.mark.parametrize("form", ["orthogonal", "spectral"])
def test_lipschitz_penalty_sums_over_layers(form):
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    network = map_network(model, CrossbarConfig(), (6,))
    one = {"orthogonal": gram_penalty, "spectral": spectral_penalty}[form]
    by_hand = 0.02 * sum(one(layer.weight, target_norm(0.5)) for layer in model).item()
    assert Lipschitz(beta=0.02, form=form).penalty(network).item() == pytest.approx(by_hand, rel=1e-6)
    fixed = 0.02 * sum(one(layer.weight, 1.0) for layer in model).item()
    assert Lipschitz(beta=0.02, form=form, target=1.0).penalty(network).item() == pytest.approx(fixed, rel=1e-6)


class Untouchable:
    """A split that nobody may look at."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test split was touched: {name}")

    def __len__(self):
        raise AssertionError("the test split was touched")


def separable(count, seed):
    """Three classes of 4 x 4 images: noise around three orthogonal patterns, far apart."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randn(count, 1, 4, 4, generator=draw) * 0.3
    images[torch.arange(count), 0, labels] += 1.0  # row k of the image is bright in class k
    return ImageSet(images, labels)


@pytest.fixture
def data():
    splits = DataSplits("synthetic", separable(900, 0), separable(300, 1), separable(3, 2), 3)
    object.__setattr__(splits, "test", Untouchable())
    return splits


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def fitted(recipe, data, seed=0, model=None):
    model = model if model is not None else small_net()
    return model, recipe.fit(model, data, torch.Generator().manual_seed(seed), silent)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_two_epochs_suffice_and_validation_chooses(data, name):
    recipe = recipe_named(name, epochs=2, batch_size=32, learning_rate=0.02)
    model, trained = fitted(recipe, data)
    scores = [epoch["val_accuracy"] for epoch in trained.history]
    assert [epoch["epoch"] for epoch in trained.history] == [1, 2]
    assert max(scores) > 0.9  # chance: 1/3
    network = map_network(model, CrossbarConfig(), (1, 4, 4))
    assert recipe.measures(network, data.val)["val_accuracy"] == max(scores)
    for key, value in model.state_dict().items():
        assert torch.equal(value, trained.state[key])
    if isinstance(recipe.device(1.0), Ideal) and not isinstance(recipe, ValidatedRecipe) and not recipe.fine_tunes:
        clean = (model(data.val.inputs()).argmax(1) == data.val.labels).float().mean().item()
        assert clean == pytest.approx(max(scores), abs=1e-6)


def test_the_best_epoch_is_kept(data):
    seen = []

    class Scripted(Recipe):
        name: str = "scripted"

        def measures(self, network, val):
            assert val is data.val
            seen.append(copy.deepcopy(network.model.state_dict()))
            return {"val_accuracy": [0.5, 0.9, 0.2][len(seen) - 1]}

    model, trained = fitted(Scripted(epochs=3, batch_size=100), data)
    for key, value in seen[1].items():
        assert torch.equal(trained.state[key], value)
        assert torch.equal(model.state_dict()[key], value)
    assert not torch.equal(seen[1]["0.weight"], seen[2]["0.weight"])
    assert [epoch["val_accuracy"] for epoch in trained.history] == [0.5, 0.9, 0.2]


@pytest.mark.parametrize("name", ["standard", "lipschitz_noise"])
def test_same_seed_same_bits(data, name):
    recipe = recipe_named(name, epochs=1, batch_size=100)
    with torch_threads(1):
        (_, one), (_, two), (_, other) = (fitted(recipe, data, seed) for seed in (3, 3, 4))
    assert all(torch.equal(one.state[key], two.state[key]) for key in one.state)
    assert one.history == two.history
    assert not torch.equal(one.state["0.weight"], other.state["0.weight"])


def test_noise_recipe_restores_the_nominal_weights(data):
    model = small_net()
    parameters = list(model.named_parameters())
    fitted(Noise(epochs=1, batch_size=100), data, model=model)
    after = list(model.named_parameters())
    assert [name for name, _ in after] == [name for name, _ in parameters]
    assert all(one is two for (_, one), (_, two) in zip(parameters, after, strict=True))


def test_noise_recipe_sees_a_fresh_chip_each_batch_and_updates_the_clean_weights(data):
    drawn = []

    class Spy(LogNormal):
        def varied(self, w, generator):
            noisy = super().varied(w, generator)
            drawn.append((w, (noisy / w).detach().flatten()))
            return noisy

    class Spied(Noise):
        def device(self, done):
            return Spy(sigma=0.5)

        def measures(self, network, val):
            return {"val_accuracy": 1.0}

    model, _ = fitted(Spied(epochs=1, batch_size=300), data)
    assert len(drawn) == 3 * 2  # three batches, two layers
    assert {id(w) for w, _ in drawn} == {id(model[0].weight), id(model[3].weight)}
    theta = torch.stack([factor.log() for w, factor in drawn if w is model[3].weight])
    assert theta.std().item() == pytest.approx(0.5, abs=5 * 0.5 / (2 * theta.numel()) ** 0.5)
    correlations = torch.corrcoef(theta)[~torch.eye(3, dtype=torch.bool)]
    assert correlations.abs().max() < 5 / theta.shape[1] ** 0.5


def test_noise_makes_scores_those_of_noisy_chips(data):
    model, _ = fitted(recipe_named("standard", epochs=2, batch_size=32), data)
    network = map_network(model, CrossbarConfig(), (1, 4, 4))
    clean, strong = (
        r.measures(network, data.val)["val_accuracy"] for r in (recipe_named("standard"), Noise(sigma=2.0))
    )
    assert strong < clean - 0.02
    assert Noise(sigma=2.0).measures(network, data.val)["val_accuracy"] == strong  # fixed chips
    assert Noise(sigma=0.0).measures(network, data.val)["val_accuracy"] == pytest.approx(clean)


@pytest.mark.parametrize("recipe", [Noise(shared=0.25), LipschitzNoise(shared=0.25)])
def test_the_last_quarter_trains_with_shared_statistics(recipe):
    assert [recipe.shares_statistics(done) for done in (0.0, 0.70, 0.75, 0.95)] == [False, False, True, True]
    assert not Noise().shares_statistics(0.95) and "shared" not in Noise().model_dump()
    assert [Noise(shared=0.3, epochs=4).shares_statistics(k / 4) for k in range(4)] == [False, False, True, True]
    assert Noise.model_validate(recipe.model_dump()).shared == 0.25 if isinstance(recipe, Noise) else True


def test_weight_decay_shrinks_what_no_gradient_moves(data):
    """Without a gradient a weight ends as the product of 1 - rate * decay over the schedule; 1 without decay."""

    class Still(Recipe):
        name: str = "still"

        def losses(self, network, x, y, done, generator):
            yield sum(0.0 * parameter.sum() for parameter in network.model.parameters())

    def ends(decay):
        before = small_net()
        recipe = Still(epochs=1, batch_size=90, learning_rate=0.1, weight_decay=decay)
        _, trained = fitted(recipe, data)
        return {name: trained.state[name] / value for name, value in before.state_dict().items()}

    dummy = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(dummy, 0.1, total_steps=10)  # 900 images
    expected = 1.0
    for _ in range(10):
        expected *= 1 - 0.5 * schedule.get_last_lr()[0]
        dummy.step()
        if schedule.last_epoch < 9:
            schedule.step()
    assert all(torch.allclose(ratio, torch.tensor(expected), rtol=1e-5) for ratio in ends(0.5).values())
    assert all(torch.equal(ratio, torch.ones_like(ratio)) for ratio in ends(0.0).values())
    assert "weight_decay" not in Still().model_dump() and Still(weight_decay=0.5).model_dump()["weight_decay"] == 0.5


def test_shuffled_batches_are_full_and_without_repetition():
    images = ImageSet(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10))
    batches = list(shuffled_batches(images, 4, torch.Generator().manual_seed(0)))
    labels = torch.cat([y for _, y in batches])
    assert [len(y) for _, y in batches] == [4, 4]
    assert len(set(labels.tolist())) == 8
    assert torch.equal(torch.cat([x for x, _ in batches]).flatten(), labels.float())
    assert [len(y) for _, y in shuffled_batches(images, 16, torch.Generator())] == [10]


def test_training_threads_are_set_and_restored():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        _ = 1 / 0
    assert torch.get_num_threads() == before


def test_unknown_recipe_and_setting():
    with pytest.raises(UnknownNameError, match=r"Unknown recipe 'lipshitz'; known: .* Did you mean 'lipschitz'\?"):
        recipe_named("lipshitz")
    with pytest.raises(ConfigError, match=r"Noise.sigma: got -0.1; input should be greater than or equal to 0"):
        recipe_named("noise", sigma=-0.1)
