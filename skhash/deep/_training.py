"""What a training has besides network, loss and loop: seeds, solvers, schedules, an end."""

import copy
import math
from contextlib import contextmanager

import numpy as np
import torch

__all__ = [
    "BestWeights",
    "PaperSGD",
    "freeze_batch_norm",
    "halfway_tenth",
    "seeded",
    "warm_cosine",
]


class PaperSGD(torch.optim.SGD):
    """SGD with momentum in which biases, and what is read of FCa, have rates of their own.

    Biases take twice the rate and no decay. The hash layer takes a quarter of its rate in the
    columns that read FCa: in SGD, a rate is a factor of gradient and decay.
    """

    def __init__(self, parts, head, weight_decay):
        groups = []
        for module, rate in parts:
            named = list(module.named_parameters())
            biases = [p for name, p in named if name.rpartition(".")[2] == "bias"]
            weights = [p for name, p in named if name.rpartition(".")[2] != "bias"]
            groups += [
                {"params": weights, "lr": rate, "weight_decay": weight_decay},
                {"params": biases, "lr": 2 * rate, "weight_decay": 0.0},
            ]
        super().__init__([group for group in groups if group["params"]], momentum=0.9)
        n_columns = 0 if head.taps == "fcb" else head.fca.out_features
        self._weight, self._from_fca = head.hash.weight, slice(n_columns)
        self._decay = weight_decay

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step."""
        weight = self._weight[:, self._from_fca]
        gradient = self._weight.grad[:, self._from_fca]
        # What the decay adds to it makes this a quarter of gradient and decay.
        gradient.mul_(0.25).sub_(weight, alpha=0.75 * self._decay)
        return super().step(closure)


def _whole_seed(seed):
    """Return a seed of torch for a number, itself, or for a list of numbers."""
    if isinstance(seed, list):
        return int(np.random.SeedSequence(seed).generate_state(1)[0])
    return seed


def _cuda_index(device):
    """Return the number of a GPU; without one, "cuda" is the current one."""
    return torch.cuda.current_device() if device.index is None else device.index


@contextmanager
def seeded(seed, device):
    """Seed torch's generators, yield them, and give them their old state back in the end."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        generators.append(torch.cuda.default_generators[_cuda_index(device)])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(_whole_seed(seed))
        yield generators
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def warm_cosine(n_steps):
    """Return the factor of the rate at each step: a linear rise over 5 %, then a cosine to 0."""
    n_warm = max(1, n_steps // 20)

    def factor(step):
        progress = (step - n_warm) / max(1, n_steps - n_warm)
        return min((step + 1) / n_warm, (1 + math.cos(math.pi * max(0.0, progress))) / 2)

    return factor


def halfway_tenth(n_steps):
    """Return the factor of the rate at each step: 1 in the first half, then a tenth."""
    return lambda step: 1.0 if step < n_steps / 2 else 0.1


def freeze_batch_norm(backbone):
    """Have batch normalisation keep the statistics on which the head was trained."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


class BestWeights:
    """The weights of a network at its best score, and whether it is time to stop.

    Parameters
    ----------
    n_iter_no_change : int
        Stop once so many scores in a row have not exceeded the best one by more than `tol`.

    tol : float
        What counts as an improvement.
    """

    def __init__(self, n_iter_no_change, tol):
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.score, self.weights, self.n_without = -math.inf, None, 0

    def update(self, score, network):
        """Take note of the score of the network as it is."""
        self.n_without = 0 if score > self.score + self.tol else self.n_without + 1
        if score > self.score:
            self.score, self.weights = score, copy.deepcopy(network.state_dict())

    def exhausted(self):
        """Return whether nothing has improved for long enough."""
        return self.n_without >= self.n_iter_no_change

    def state_dict(self):
        """Return what was noted."""
        return {"score": self.score, "weights": self.weights, "n_without": self.n_without}

    def load_state_dict(self, state):
        """Go on from what was noted."""
        self.score, self.weights = state["score"], state["weights"]
        self.n_without = state["n_without"]

    def restore(self, network):
        """Give the network its best weights, if any score was noted."""
        if self.weights is not None:
            network.load_state_dict(self.weights)
