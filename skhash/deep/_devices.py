"""Where torch computes, what it draws from there, and how to come back."""

import copy
import threading
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

__all__ = ["OwnDraws", "draw_seed", "has_bfloat16", "on_cpu", "resolve_device", "seeded"]

# Held while torch's generators, which all threads share, have a state that is not theirs.
# Reentrant: a network that is built may read a hasher from a file.
_LOCK = threading.RLock()


def resolve_device(name):
    """Return the torch device of that name, or raise if it is absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            "device should be 'auto' or one of torch's CPU, CUDA or MPS devices, such as 'cpu' or "
            f"'cuda:1'; got {name!r}."
        )
    absent = {
        "cpu": False,
        "cuda": (device.index or 0) >= torch.cuda.device_count(),
        "mps": not torch.backends.mps.is_available(),
    }
    if absent[device.type]:
        raise ValueError(
            f"device={name!r} was asked for, but torch finds no such device here; "
            "'auto' takes what there is, 'cpu' always works."
        )
    return device


def has_bfloat16(device):
    """Whether the device computes in bfloat16, rather than emulates it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def on_cpu(value):
    """Copy nested containers, with tensors and modules moved to the CPU."""
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).cpu()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [on_cpu(item) for item in value]
    return value.cpu() if isinstance(value, torch.Tensor) else value


def draw_seed(random_state):
    """Return a seed for a training, drawn from what scikit-learn takes as `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _whole_seed(seed):
    """Return a seed of torch for a number, itself, or for a list of numbers."""
    if isinstance(seed, list):
        return int(np.random.SeedSequence(seed).generate_state(1)[0])
    return seed


def _cuda_index(device):
    """Return the number of a GPU; without one, "cuda" is the current one."""
    return torch.cuda.current_device() if device.index is None else device.index


class OwnDraws:
    """The random numbers of one training, whatever other threads draw.

    Dropout and initialisation draw from torch's global generators and take no other. So these
    have the states of this training while it draws, and their own again in between. Threads that
    train at the same time take turns.

    Parameters
    ----------
    seed : int or list of int
        Decides the numbers.

    device : torch.device
        Where numbers are drawn, beside the CPU.

    Attributes
    ----------
    generators : list of torch.Generator
        Torch's global generators of the CPU and the device.

    states : list of tensor
        Their states in this training, which decide what is drawn next.
    """

    def __init__(self, seed, device):
        self.generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()
            self.generators.append(torch.cuda.default_generators[_cuda_index(device)])
        elif device.type == "mps":
            self.generators.append(torch.mps._get_default_mps_generator())
        with _borrowed(self.generators):
            for generator in self.generators:
                generator.manual_seed(_whole_seed(seed))
            self.states = self._current()

    @contextmanager
    def active(self):
        """Let torch draw the numbers of this training; not to be nested in itself."""
        with _borrowed(self.generators):
            for generator, state in zip(self.generators, self.states, strict=True):
                generator.set_state(state)
            try:
                yield
            finally:
                self.states = self._current()

    def _current(self):
        return [generator.get_state() for generator in self.generators]


@contextmanager
def _borrowed(generators):
    """Keep other trainings from the generators, and give them their old state back in the end."""
    with _LOCK:
        states = [generator.get_state() for generator in generators]
        try:
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


@contextmanager
def seeded(seed, device):
    """Seed torch's generators, yield them, and give them their old state back in the end."""
    draws = OwnDraws(seed, device)
    with draws.active():
        yield draws.generators
