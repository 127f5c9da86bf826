"""Training by several processes, each of which has a share of every batch.

However many there are, a step is that of one process on the whole batch: the same samples, the
same random numbers, one loss of all of them, the same gradient.
"""

import atexit
import multiprocessing
import os
import threading
import time
import uuid
from inspect import signature

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

__all__ = ["ALONE", "Alone", "Ranks", "joined_ranks"]


class Alone:
    """One process, for which what several do together is nothing.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and how many there are.
    """

    rank, size = 0, 1

    @property
    def is_first(self):
        """Whether this process writes files, calls callbacks and shows progress."""
        return self.rank == 0

    def share(self, n):
        """Return which of `n` rows are this process', as a slice."""
        del n
        return slice(None)

    def gathered(self, outputs, n):
        """Return the outputs for all `n` rows of a batch, of which the own have a gradient."""
        del n
        return outputs

    def collected(self, outputs, n):
        """Return the outputs for all of `n` rows, without a gradient."""
        del n
        return outputs

    def agreed(self, value):
        """Return the value that the first process has, an object that can be pickled."""
        return value

    def told(self, function):
        """Return what a function returns in the first process, or raise what it raises there."""
        return function()

    def all_of(self, value):
        """Return the values that the processes have, as a list."""
        return [value]

    def follow(self, tensors):
        """Give tensors the values that they have in the first process."""

    def average(self, parameters):
        """Give the gradients of parameters their mean over the processes."""

    def wrapped(self, module, forward):
        """Return what computes a part of a network in training.

        Parameters
        ----------
        module : torch.nn.Module
            The part.

        forward : callable
            Maps a batch to its outputs.

        Returns
        -------
        step : callable
            ``step(inputs, n)`` maps the own share of a batch of `n` rows to its outputs. Draws
            and statistics of batches are those of the whole batch, and gradients of the
            parameters are those of all processes.
        """
        del module
        return lambda inputs, _: forward(inputs)


ALONE = Alone()
# Between two questions to a process that is still starting.
_SECONDS = 0.05

# What torch 2.14 has renamed.
_SYNC_BUFFERS = "broadcast_buffers"
if "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters:
    _SYNC_BUFFERS = "forward_sync_buffers"


class Ranks(Alone):
    """The processes of torch's default group, of which this is one."""

    def __init__(self):
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._of_cpu = _group_of_cpu()

    def share(self, n):
        """Return which of `n` rows are this process', as a slice."""
        return self._share_of(self.rank, n)

    def _share_of(self, rank, n):
        """Return consecutive rows, whose number differs by at most one among processes."""
        least, n_larger = divmod(n, self.size)
        start = rank * least + min(rank, n_larger)
        return slice(start, start + least + (rank < n_larger))

    def _group(self, device):
        """Return the group of the processes that tensors on a device go through."""
        return self._of_cpu if device.type == "cpu" else distributed.group.WORLD

    def gathered(self, outputs, n):
        """Return the outputs for all `n` rows of a batch, of which the own have a gradient."""
        return _Gathered.apply(outputs, self, n)

    def parts_of(self, outputs, n):
        """Return the outputs of all processes for `n` rows, as a list of tensors."""
        shares = [self._share_of(rank, n) for rank in range(self.size)]
        # All are sent at one length, which that of the first process is.
        own = outputs.new_zeros((shares[0].stop, *outputs.shape[1:]))
        own[: len(outputs)] = outputs
        parts = [torch.empty_like(own) for _ in shares]
        distributed.all_gather(parts, own, group=self._group(own.device))
        return [part[: s.stop - s.start] for part, s in zip(parts, shares, strict=True)]

    def collected(self, outputs, n):
        """Return the outputs for all of `n` rows, without a gradient."""
        # One tensor that is sent in parts: of many samples there is no room for two.
        every = outputs.new_empty((n, *outputs.shape[1:]))
        own = every[self.share(n)]
        own.copy_(outputs[: len(own)])
        for rank in range(min(self.size, n)):
            part = every[self._share_of(rank, n)]
            distributed.broadcast(part, rank, group=self._group(part.device))
        return every

    def agreed(self, value):
        """Return the value that the first process has, an object that can be pickled."""
        values = [value]
        distributed.broadcast_object_list(values, group=self._of_cpu)
        return values[0]

    def told(self, function):
        """Return what a function returns in the first process, or raise what it raises there."""
        value = error = None
        if self.is_first:
            try:
                value = function()
            except Exception as raised:  # the others wait for a value, whatever it is
                error = raised
        value, error = self.agreed((value, error))
        if error is not None:
            raise error
        return value

    def all_of(self, value):
        """Return the values that the processes have, as a list."""
        values = [None] * self.size
        distributed.all_gather_object(values, value, group=self._of_cpu)
        return values

    def follow(self, tensors):
        """Give tensors the values that they have in the first process."""
        for tensor in tensors:
            distributed.broadcast(tensor, 0, group=self._group(tensor.device))

    def average(self, parameters):
        """Give the gradients of parameters their mean over the processes."""
        for parameter in parameters:
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad, group=self._group(parameter.device))
                parameter.grad /= self.size

    def wrapped(self, module, forward):
        """Return what computes a part of a network in training, see :meth:`Alone.wrapped`."""
        # Buffers, such as statistics of batches, are the same everywhere. The graph of a network
        # does not change, so parameters that it does not use can be told once.
        return DistributedDataParallel(
            _Part(module, forward, self),
            process_group=self._group(next(module.parameters()).device),
            static_graph=True,
            **{_SYNC_BUFFERS: False},
        )

    def total(self, values):
        """Return the sum of tensors over all processes, which is that of their gradients too."""
        return _Total.apply(values, self._group(values.device))


def joined_ranks():
    """Return the processes to train with: those of torch's group, or those that torchrun started.

    These become a group, which lasts as long as the process: one fit after another trains in it.
    Children of such a process, and its threads, train alone.

    Returns
    -------
    ranks : Ranks or Alone
    """
    is_thread = threading.current_thread() is not threading.main_thread()
    if is_thread or _FORKED or not distributed.is_available():
        return ALONE
    if distributed.is_initialized():
        return Ranks() if distributed.get_world_size() > 1 else ALONE
    # A child of a process that torchrun has started has its environment too.
    if multiprocessing.parent_process() or not distributed.is_torchelastic_launched():
        return ALONE
    if int(os.environ["WORLD_SIZE"]) == 1:
        return ALONE
    _init_group()
    return Ranks()


def _init_group():
    """Make a group of the processes that torchrun started, each with a GPU if there are enough."""
    # Codes, labels and decisions go by the CPU, whatever trains.
    backend = "gloo"
    if 0 < int(os.environ["LOCAL_WORLD_SIZE"]) <= torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    store, rank, size = next(distributed.rendezvous("env://"))
    store = _fresh_store(store, rank, size)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    atexit.register(_leave_group)


def _fresh_store(store, rank, size):
    """Return a part of a store in which only processes that run now have written.

    The store that torchrun makes outlives processes that it starts again, and has addresses of
    those before. How often it has started them may differ from machine to machine, so the first
    process names the part, and the others ask whether it is alive.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("skhash", own)
        present = [store.get(f"{own}, {other}") for other in range(1, size)]
        store.set(own, b" ".join(present))
        return distributed.PrefixStore(own, store)
    while True:
        first = store.get("skhash").decode()
        store.set(f"{first}, {rank}", own)
        if store.check([first]) and own in store.get(first).decode():
            return distributed.PrefixStore(first, store)
        time.sleep(_SECONDS)


def _leave_group():
    """Leave the group, unless the script has done so."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _group_of_cpu():
    """Return a group of all processes for what is on the CPU: the default one, if it can."""
    world = distributed.group.WORLD
    if "cpu:" in str(distributed.get_backend_config(world)):
        return world
    if _OF_CPU.get("world") is not world:
        _OF_CPU.update(world=world, group=distributed.new_group(backend="gloo"))
    return _OF_CPU["group"]


# Groups are kept: making one needs all processes.
_OF_CPU = {}
# Whether this process was forked from one in a group, which it is not in.
_FORKED = []


def _note_fork():
    if distributed.is_available() and distributed.is_initialized():
        _FORKED.append(True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class _Part(nn.Module):
    """A module, and what it is a part of or compiled to, which is called in its place."""

    def __init__(self, module, forward, ranks):
        super().__init__()
        self.module, self._ranks = module, ranks
        # In a tuple, so that it is not taken for a part of this module.
        self._forward = (forward,)

    def forward(self, inputs, n):
        with _WholeBatch(self._ranks, n):
            return self._forward[0](inputs)


class _WholeBatch(TorchFunctionMode):
    """Within it, torch's functions that draw or normalise do so for all `n` rows of a batch.

    A tensor may have several rows for each of the batch, such as one for each word.
    """

    def __init__(self, ranks, n):
        super().__init__()
        self.ranks, self.n, self.rows = ranks, n, ranks.share(n)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _DROPOUTS:
            return self._dropped(function, *args, **kwargs)
        if function is functional.batch_norm and kwargs["training"]:
            return _normalized(self.ranks, *args, **kwargs)
        if function is torch.Tensor.bernoulli_ and self._times(args[0]):
            drawn = function(self._filled(args[0]), *args[1:], **kwargs)
            return args[0].copy_(self._own(drawn))
        return function(*args, **kwargs)

    def _dropped(self, function, inputs, *, p, training, inplace):
        if not training or p == 0 or not self._times(inputs):
            return function(inputs, p=p, training=training, inplace=inplace)
        return self._own(function(self._filled(inputs), p=p, training=True))

    def _times(self, tensor):
        """Return how many rows a tensor has for each row of the batch; 0 if it has no such."""
        n_own = self.rows.stop - self.rows.start
        return len(tensor) // n_own if tensor.ndim and len(tensor) % n_own == 0 else 0

    def _filled(self, tensor):
        """Return a tensor for all rows of the batch, of which the others' are zeros."""
        times = self._times(tensor)
        layout = torch.contiguous_format
        if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        zeros = tensor.new_zeros((times * self.n, *tensor.shape[1:]))
        zeros = zeros.contiguous(memory_format=layout)
        before, after = zeros[: times * self.rows.start], zeros[times * self.rows.stop :]
        return torch.cat([before, tensor, after])

    def _own(self, tensor):
        """Return the own rows of a tensor for all rows of the batch."""
        times = len(tensor) // self.n
        return tensor[times * self.rows.start : times * self.rows.stop]


_DROPOUTS = {
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
}


def _normalized(
    ranks, inputs, running_mean, running_var, *, weight, bias, training, momentum, eps
):
    """Return :func:`torch.nn.functional.batch_norm` by the statistics of all processes."""
    del training
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    number = values.new_tensor([values.numel() / values.shape[1]])
    *_, n = sums = ranks.total(torch.cat([values.sum(axes), number]))
    mean = sums[:-1] / n
    centred = values - _per_channel(mean, values)
    variance = ranks.total(centred.square().sum(axes)) / n
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * n / (n - 1).clamp(min=1)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    normal = centred * _per_channel((variance + eps).rsqrt(), values)
    if weight is not None:
        normal = normal * _per_channel(weight, values) + _per_channel(bias, values)
    return normal.to(inputs.dtype)


def _per_channel(statistic, values):
    """Return a number for each channel as a tensor that broadcasts against values."""
    return statistic.view(1, -1, *[1] * (values.ndim - 2))


class _Gathered(torch.autograd.Function):
    """The rows of all processes, each of which takes the gradient of its own alone."""

    @staticmethod
    def forward(ctx, outputs, ranks, n):
        ctx.rows, ctx.size = ranks.share(n), ranks.size
        return torch.cat(ranks.parts_of(outputs, n))

    @staticmethod
    def backward(ctx, gradient):
        # DistributedDataParallel takes the mean of what is to be added up.
        return gradient[ctx.rows] * ctx.size, None, None


class _Total(torch.autograd.Function):
    """The sum over all processes, and of its gradients too."""

    @staticmethod
    def forward(ctx, values, group):
        ctx.group = group
        total = values.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone()
        distributed.all_reduce(total, group=ctx.group)
        return total, None
