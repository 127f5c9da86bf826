"""Solvers: which part of a network and a loss is trained at what rate, and how rates change."""

import math
from dataclasses import dataclass

import torch

__all__ = ["AdamWSolver", "PaperSolver", "StartedSolver"]


@dataclass(frozen=True)
class AdamWSolver:
    """Adam with decoupled weight decay; rates rise over the first steps, then fall to zero.

    They rise linearly over 5 % of the steps and fall along a cosine.

    Parameters
    ----------
    learning_rate : float
        Peak rate of the head, and of what the loss learns.

    backbone_learning_rate : float or "auto"
        Peak rate of the backbone; "auto" is `learning_rate`.

    weight_decay : float
        Weight decay.

    head_is_trained : bool
        Whether the head has been trained before the backbone is. Then the head, and what the
        loss learns, take the rate of the backbone.
    """

    learning_rate: float
    backbone_learning_rate: float | str
    weight_decay: float
    head_is_trained: bool

    def start(self, network, loss, *, trains_backbone, n_steps=None):
        """Return the solver of one stage of training.

        Parameters
        ----------
        network : HashNetwork
            The network.

        loss : torch.nn.Module
            The started loss, whose parameters are trained too.

        trains_backbone : bool
            Whether the backbone is trained, and not only the head.

        n_steps : int, default=None
            Number of steps over which rates change; None leaves them as they are.

        Returns
        -------
        started : StartedSolver
        """
        rate = self.learning_rate
        slow = rate if self.backbone_learning_rate == "auto" else self.backbone_learning_rate
        backbone = [(network.backbone, slow)] if trains_backbone else []
        if trains_backbone and self.head_is_trained:
            rate = slow
        parts = [(network.head, rate), *backbone, (loss, rate)]
        groups = [{"params": list(module.parameters()), "lr": rate} for module, rate in parts]
        groups = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay, fused=True)
        return StartedSolver(optimizer, n_steps and _warm_cosine(n_steps))


@dataclass(frozen=True)
class PaperSolver:
    """SGD as the authors of DSRH have it: rates by kind of layer, a tenth of them at half-run.

    The hash layer, and what the loss learns, have `learning_rate`; the layers before have
    `backbone_learning_rate`. Biases take twice the rate and no decay. The hash layer takes a
    quarter of its rate where it reads FCa.

    Parameters
    ----------
    learning_rate : float
        Rate of the hash layer, and of what the loss learns.

    backbone_learning_rate : float or "auto"
        Rate of the backbone, FCa and FCb; "auto" is a tenth of `learning_rate`.

    weight_decay : float
        Weight decay.
    """

    learning_rate: float
    backbone_learning_rate: float | str
    weight_decay: float

    def start(self, network, loss, *, trains_backbone, n_steps=None):
        """Return the solver of one stage of training, see :meth:`AdamWSolver.start`."""
        rate = self.learning_rate
        slow = rate / 10 if self.backbone_learning_rate == "auto" else self.backbone_learning_rate
        backbone = [(network.backbone, slow)] if trains_backbone else []
        *hidden, last = network.head.layers()
        parts = [*((layer, slow) for layer in hidden), *backbone, (last, rate), (loss, rate)]
        optimizer = _PaperSGD(parts, network.head, self.weight_decay)
        return StartedSolver(optimizer, n_steps and _halfway_tenth(n_steps))


class StartedSolver:
    """A solver in one stage of training.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        What takes the steps.

    factor : callable or None
        Maps the number of a step to the factor of all rates; None leaves them as they are.
    """

    def __init__(self, optimizer, factor):
        self.optimizer, self.factor = optimizer, factor
        self.schedule = factor and torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    @property
    def rate(self):
        """The largest rate of the next step."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def step(self):
        """Take a step along the gradients, and forget them."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.step()

    def memory(self):
        """Return what is kept of former steps, such as momentum, for a later solver."""
        return self.optimizer.state_dict()["state"]

    def take_memory(self, memory):
        """Go on from what :meth:`memory` of an earlier solver returned, at rates of its own."""
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": memory})

    def state_dict(self):
        """Return all that decides the next steps."""
        parts = {"optimizer": self.optimizer, "schedule": self.schedule}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state):
        """Go on from what :meth:`state_dict` returned, at the rates of the own schedule."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is None:
            return
        self.schedule.load_state_dict(state["schedule"])
        # The stored rates are those of the stored schedule, which may have been a shorter one.
        factor = self.factor(self.schedule.last_epoch)
        for group, peak in zip(self.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = peak * factor


class _PaperSGD(torch.optim.SGD):
    """SGD with momentum in which biases, and the columns that read FCa, have rates of their own.

    In SGD a rate is a factor of gradient and decay: a quarter of both is a quarter of the rate.
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


def _warm_cosine(n_steps):
    """Return the factor of the rate at each step: a linear rise over 5 %, then a cosine to 0."""
    n_warm = max(1, n_steps // 20)

    def factor(step):
        progress = (step - n_warm) / max(1, n_steps - n_warm)
        return min((step + 1) / n_warm, (1 + math.cos(math.pi * max(0.0, progress))) / 2)

    return factor


def _halfway_tenth(n_steps):
    """Return the factor of the rate at each step: 1 in the first half, then a tenth."""
    return lambda step: 1.0 if step < n_steps / 2 else 0.1
