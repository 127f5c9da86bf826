"""Checkpoints: one file, whole or not there, from which only its own training goes on."""

import functools
import hashlib
import io
import json
import os
import re
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from skhash._io import replaced_file
from skhash._version import __version__

__all__ = ["Checkpoint", "described", "digest", "open_checkpoint"]

# Samples whose content tells one training set from another; all of a large one would take long.
_N_SAMPLES = 256
# Parameters in which a training may differ from the checkpoint that it goes on from.
_NOT_OF_TRAINING = {"checkpoint_dir", "encoding", "n_neighbors", "verbose"}


class Checkpoint:
    """The state of a training in a directory, replaced at a stroke.

    The file is a line of JSON, which says of what training it is and what the rest hashes to,
    and the state as :func:`torch.save` writes it. At any moment there is a whole one or none.

    Parameters
    ----------
    directory : str or path-like
        Made where it is missing; by `load` too, so that an error comes before the training.

    identity : dict of str to str
        What the training is of, by name: parameters, data, versions.
    """

    def __init__(self, directory, identity):
        self.path = Path(directory) / "training.ckpt"
        self.identity = identity

    def save(self, state):
        """Replace the file by one with this state, of tensors, numbers, strings and containers."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        # A view: the state is held in memory once, not three times.
        payload = buffer.getbuffer()
        header = {"identity": self.identity, "sha256": _checksum(self.identity, payload)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(self.path) as beside, beside.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(payload)

    def load(self):
        """Return the state in the file, on the CPU, or None if there is no file.

        Raises
        ------
        ValueError
            If the file is damaged, or is of another training.

        OSError
            If there is no such directory and none can be made.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            return None
        line, _, payload = self.path.read_bytes().partition(b"\n")
        identity = _verified(line, payload)
        if identity is None:
            raise ValueError(
                f"The checkpoint {str(self.path)!r} is damaged: it was not written to its end, or "
                "changed since. Remove it to train from the start."
            )
        names = sorted(identity.keys() | self.identity.keys())
        differing = [name for name in names if identity.get(name) != self.identity.get(name)]
        if differing:
            raise ValueError(
                f"The checkpoint {str(self.path)!r} is of another training, which differs in "
                f"{', '.join(differing)}. Set checkpoint_dir to another directory, or remove it."
            )
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)


def open_checkpoint(params, X, Y, device):
    """Return the checkpoint of a training.

    Parameters
    ----------
    params : dict
        The parameters of the hasher.

    X : FeatureRows, ImageArray or ImageFiles
        The training set.

    Y : ndarray of shape (n_samples, n_labels)
        Its label sets.

    device : torch.device
        Where the network is trained.

    Returns
    -------
    checkpoint : Checkpoint or None
        None if `checkpoint_dir` is None.

    Raises
    ------
    ValueError
        If training that is started again would not be the same.
    """
    if params["checkpoint_dir"] is None:
        return None
    if not isinstance(params["random_state"], Integral):
        raise ValueError(
            "random_state should be an int with checkpoint_dir, so that training which is "
            f"started again is the same training; got {params['random_state']!r}."
        )
    if params["warm_start"]:
        raise ValueError(
            "checkpoint_dir does not go with warm_start=True: training which is started again "
            "would not know the network that it went on from."
        )
    identity = {name: described(params[name]) for name in params.keys() - _NOT_OF_TRAINING}
    identity["X"], identity["y"] = digest(X, Y)
    identity |= {"device": device.type, "the version of torch": torch.__version__}
    identity["the version of skhash"] = __version__
    return Checkpoint(params["checkpoint_dir"], identity)


def _checksum(identity, payload):
    """Return the hash of all that the file says."""
    total = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    total.update(payload)
    return total.hexdigest()


def _verified(line, payload):
    """Return the identity in the header, or None if file and checksum disagree."""
    try:
        header = json.loads(line)
        whole = header["sha256"] == _checksum(header["identity"], payload)
    except (ValueError, KeyError, TypeError):
        return None
    return header["identity"] if whole else None


def described(value):
    """Return a text for a parameter that is the same in another process."""
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords, *value.keywords.values()]
        return f"partial({', '.join(map(described, parts))})"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, np.generic):
        value = value.item()
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def digest(source, Y):
    """Return hashes of a training set and its label sets.

    Parameters
    ----------
    source : FeatureRows, ImageArray or ImageFiles
        Its length and shape count, and of the samples 256 from the first to the last.

    Y : ndarray of shape (n_samples, n_labels)
        All of it counts.

    Returns
    -------
    digest_X, digest_Y : str
        In hexadecimal.
    """
    rows = np.linspace(0, len(source) - 1, min(len(source), _N_SAMPLES)).astype(np.int64)
    samples = source.batch(rows).contiguous().numpy()
    return _hashed(samples, len(source)), _hashed(np.ascontiguousarray(Y))


def _hashed(array, *more):
    """Return the hash of an array, its shape and dtype, and anything else."""
    total = hashlib.sha256(repr((array.shape, array.dtype.str, *more)).encode())
    total.update(array.tobytes())
    return total.hexdigest()
