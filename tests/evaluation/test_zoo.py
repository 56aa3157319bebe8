"""Networks of torchvision, timm and transformers, with seeded random weights: evaluated, they are their own output."""

import pytest
import torch
from torch import nn

import cimenv
from cimenv.core.store import Store
from cimenv.evaluation.segments import Product
from cimenv.tasks import Problem, Task, UserObjects
from cimenv.tasks.engines import engine_of

timm = pytest.importorskip("timm")
models = pytest.importorskip("torchvision").models
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EQUAL = 1e-5  # of the outputs' norm


class Gpt2(nn.Module):
    """A language model from its configuration, from embedded tokens to logits of the last one."""

    def __init__(self):
        super().__init__()
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(n_layer=2, n_head=4, n_embd=64, vocab_size=65, n_positions=32)
        self.network = transformers.GPT2LMHeadModel(config)

    def forward(self, x):
        return self.network(inputs_embeds=x).logits[:, -1]


def of_timm(name, **arguments):
    return lambda: timm.create_model(name, num_classes=10, **arguments)


IMAGE = (3, 64, 64)
NETWORKS = {
    "resnet18": (lambda: models.resnet18(num_classes=10), IMAGE),
    "mobilenet_v3": (lambda: models.mobilenet_v3_small(num_classes=10), IMAGE),
    "swin_t": (lambda: models.swin_t(num_classes=10), IMAGE),
    "vit": (lambda: models.VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=10), IMAGE),
    "regnet": (lambda: models.regnet_y_400mf(num_classes=10), IMAGE),
    "nf_resnet26": (of_timm("nf_resnet26"), IMAGE),  # without normalisers: weights are standardised at every call
    "tf_efficientnet_b0": (of_timm("tf_efficientnet_b0"), IMAGE),  # padding "same" as TensorFlow has it
    "vit_tiny": (of_timm("vit_tiny_patch16_224", img_size=64), IMAGE),  # fused attention
    "convnext_atto": (of_timm("convnext_atto"), IMAGE),
    "mixer": (of_timm("mixer_s32_224", img_size=64), IMAGE),
    "gpt2": (Gpt2, (16, 64)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_ideal_crossbars_give_the_networks_own_output(name, tmp_path):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, classes = make().eval(), 65 if name == "gpt2" else 10

    def part():
        return cimenv.ImageSet(torch.randn(8, *shape), torch.randint(classes, (8,)))

    data = cimenv.DataSplits(name, part(), part(), part(), classes=classes)
    task = Task(name=name, crossbar={"preset": "ideal"}, options={}, chips=1, images=8)
    problem = Problem.build(task, Store(tmp_path), objects=UserObjects(model, data))
    images, labels = problem.evaluated("val")
    chip = problem.chips("val").all_weights(0)

    def site(call: int, number: int, x: torch.Tensor, product: Product) -> torch.Tensor:
        return product(chip[problem.network.sites[number].name], None)

    with torch.no_grad():
        expected = model(images)
        fed = images.to(memory_format=problem.network.layout) if images.dim() == 4 else images
        found = problem.segments.forward(fed, site, chip)
    assert float((found - expected).norm()) <= EQUAL * float(expected.norm())
    tally = engine_of(problem, "val").run([(0,) * len(chip)], [0])
    assert int(tally.sums[0, 0]) == int((expected.argmax(1) == labels).sum())
    assert problem.network.report.mac_share == 1.0
