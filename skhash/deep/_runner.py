"""A network on its device, at its precision: what goes through it, and what comes out."""

import torch

from skhash.deep._devices import has_bfloat16
from skhash.deep._distributed import ALONE
from skhash.deep._inputs import prefetched
from skhash.deep._progress import Reporter

__all__ = ["Runner"]

# Rows of features that go through the network at once; images take `batch_size`.
_FEATURE_ROWS = 4096


class Runner:
    """Runs a network, or a part of it, on batches of inputs.

    Parameters
    ----------
    network : HashNetwork
        The network. It computes on the device that it is on.

    images : bool
        Whether its inputs are images, and not feature rows.

    precision : {"auto", "float32", "bfloat16"}
        "bfloat16" is automatic mixed precision, which "auto" takes for images where the device
        has arithmetic for it.

    batch_size : int
        Number of images that go through the network at once.

    reporter : Reporter, default=None
        Is told how far a run is; None tells the log at the level of debugging.

    ranks : Ranks or Alone, default=ALONE
        The processes that run it together, each on its share of the inputs.
    """

    def __init__(self, network, *, images, precision, batch_size, reporter=None, ranks=ALONE):
        self.network = network
        self.ranks = ranks
        self.images = images
        self.batch_size = batch_size
        self.reporter = reporter or Reporter("Runner", verbose=False)
        if precision == "auto":
            self.bfloat16 = images and has_bfloat16(network.device)
        else:
            self.bfloat16 = precision == "bfloat16"

    def autocast(self):
        """Return the context in which the network computes."""
        return torch.autocast(
            self.network.device.type, dtype=torch.bfloat16, enabled=self.bfloat16
        )

    def to_device(self, inputs):
        """Return a batch on the device of the network, images channels-last."""
        device = self.network.device
        if device.type == "cuda":
            inputs = inputs.pin_memory().to(device, non_blocking=True)
        inputs = inputs.to(device)
        return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs

    @torch.inference_mode()
    def run(self, forward, source, rows=None, *, what="samples"):
        """Apply the network, or a part of it, to a source.

        Parameters
        ----------
        forward : callable
            Maps a batch on the device to a tensor of shape (n, n_outputs).

        source : FeatureRows, ImageArray or ImageFiles
            The inputs.

        rows : ndarray of shape (n_rows,), integer, default=None
            Which of the inputs; None takes all.

        what : str, default="samples"
            What they are, in words.

        Returns
        -------
        outputs : ndarray of shape (n_rows, n_outputs), dtype float32
        """
        n_all = len(source if rows is None else rows)
        batches, n_samples = self._own_batches(n_all, rows)
        work, outputs, n_done = self.reporter.work(n_samples), None, 0
        with self.autocast():
            for inputs in prefetched(source, batches):
                batch = forward(self.to_device(inputs)).float().cpu()
                # Put in place one by one: all batches and their whole would be twice as much.
                if outputs is None:
                    outputs = torch.empty((n_samples, *batch.shape[1:]))
                outputs[n_done : n_done + len(batch)] = batch[: n_samples - n_done]
                n_done += len(batch)
                if work.step(len(inputs)):
                    done = f"{what}: {work.n_done} of {n_samples}"
                    self.reporter.say(f"{done}{work.left()}")
        return self.ranks.collected(outputs, n_all).numpy()

    def _own_batches(self, n_all, rows):
        """Return the batches of the own share of inputs, and how many inputs these are."""
        start, stop, _ = self.ranks.share(n_all).indices(n_all)
        size = self.batch_size if self.images else _FEATURE_ROWS
        # A process without inputs runs one, which is left out of what is collected.
        ends = range(start, stop, size) or [start - 1]
        batches = [slice(at, min(at + size, stop)) for at in ends]
        if rows is not None:
            batches = [rows[batch] for batch in batches]
        return batches, stop - start

    @torch.inference_mode()
    def is_finite_at_zero(self, source):
        """Return whether the network has a finite projection of an input of zeros.

        Parameters
        ----------
        source : FeatureRows, ImageArray or ImageFiles
            Inputs of the shape that the network takes.

        Returns
        -------
        is_finite : bool
            If not, its weights are astray, whatever the inputs are.
        """
        zeros = torch.zeros_like(source.batch(slice(0, 1)))
        with self.autocast():
            return bool(self.network(self.to_device(zeros)).isfinite().all())
