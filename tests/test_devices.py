"""Where torch computes; what needs a GPU is in ``test_cuda.py``."""

import torch

from skhash.deep._devices import on_cpu


def test_containers_come_to_the_cpu_as_copies():
    module, tensor = torch.nn.Linear(2, 3), torch.arange(4)
    moved = on_cpu({"network": module, "state": [tensor, {"step": tensor}], "seed": 7})
    assert moved.keys() == {"network", "state", "seed"}
    assert moved["seed"] == 7
    assert moved["network"] is not module
    assert torch.equal(moved["network"].weight, module.weight)
    assert torch.equal(moved["state"][0], tensor)
    assert torch.equal(moved["state"][1]["step"], tensor)
