"""torch.fx replaces methods of all modules while it traces: other threads must not notice."""

import threading

import torch

from cimenv.evaluation.tracing import traced
from cimenv.networks import build_backbone


def test_networks_run_while_others_are_traced():
    models = [build_backbone("resnet20").eval() for _ in range(3)]
    image, wrong = torch.randn(1, 1, 28, 28), []
    with torch.no_grad():
        alone = [model(image) for model in models]

    def trace_and_run(k):
        for _ in range(10):
            with torch.no_grad():
                found = traced(models[k], {"conv1"}), models[(k + 1) % 3](image)
            if not torch.equal(found[1], alone[(k + 1) % 3]):
                wrong.append(k)

    threads = [threading.Thread(target=trace_and_run, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
