"""Checkpoints: one file, whole or not there, from which only its own training goes on."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import types
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
_NOT_OF_TRAINING = {"checkpoint_dir", "encoding", "n_neighbors", "on_interrupt", "verbose"}
# The one number that may have grown since.
_MAX_EPOCHS = "max_epochs"


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
            If the file is damaged, or is of another training; one of fewer epochs is not.

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
        if differing and not self._goes_on(differing, identity):
            lowered = "max_epochs may be raised, not lowered. " * (differing == [_MAX_EPOCHS])
            raise ValueError(
                f"The checkpoint {str(self.path)!r} is of another training, which differs in "
                f"{', '.join(differing)}. {lowered}Set checkpoint_dir to another directory, or "
                "remove it."
            )
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)

    def _goes_on(self, differing, identity):
        """Return whether only the number of epochs differs, and has grown."""
        if differing != [_MAX_EPOCHS]:
            return False
        return int(identity[_MAX_EPOCHS]) < int(self.identity[_MAX_EPOCHS])


def open_checkpoint(params, X, Y, device, n_epochs, X_val=None, Y_val=None):
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

    n_epochs : int
        What `max_epochs` stands for.

    X_val, Y_val : as `X` and `Y`, or None
        The samples that are held out, if they are not of `X`.

    Returns
    -------
    checkpoint : Checkpoint or None
        None if `checkpoint_dir` is None.

    Raises
    ------
    ValueError
        If training that is started again would not be the same, or could not be told from
        another one.
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
    names = params.keys() - _NOT_OF_TRAINING
    identity = {name: _described_parameter(name, params[name]) for name in names}
    identity["X"], identity["y"] = digest(X, Y)
    if X_val is not None:
        identity["X_val"], identity["y_val"] = digest(X_val, Y_val)
    identity |= {_MAX_EPOCHS: str(n_epochs), "device": device.type}
    identity["the version of torch"] = torch.__version__
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


def _described_parameter(name, value):
    """Return a text for the value of a parameter, or raise if it would do for others too."""
    if name == "weights" and value is not None and Path(value).is_file():
        with Path(value).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    try:
        return described(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{name}={value!r} does not go with checkpoint_dir: {error} A checkpoint of another "
            "training could be taken for one of this. Give the class a __repr__ or get_params "
            "that shows its parameters, or leave checkpoint_dir=None."
        ) from error


def described(value):
    """Return a text that tells a value from others, and is the same in another process.

    Functions are told apart by their names; lambdas, and functions within functions, also by
    their code and by what they have taken from around them. Other objects are told apart by
    `get_params`, as fields of a dataclass, or by a `repr` of their own.

    Parameters
    ----------
    value : object
        The value.

    Returns
    -------
    text : str

    Raises
    ------
    ValueError
        If it is, or holds, an object that says nothing of itself.
    """
    describe = next((text for kinds, text in _DESCRIBED if isinstance(value, kinds)), None)
    if describe is not None:
        return describe(value)
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "get_params"):
        return _call(type(value), value.get_params(deep=False))
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return _call(type(value), {name: getattr(value, name) for name in names})
    text = repr(value)
    # The address of an object, in the text that Python gives it.
    if " at 0x" in text:
        raise ValueError(f"an object of class {type(value).__qualname__} shows no parameters.")
    return text


def _call(kind, named):
    """Return the text of an object that is made from named values."""
    named = ", ".join(f"{name}={described(named[name])}" for name in sorted(named))
    return f"{described(kind)}({named})"


def _of_partial(partial):
    parts = [partial.func, *partial.args, *partial.keywords, *partial.keywords.values()]
    return f"partial({', '.join(map(described, parts))})"


def _of_function(function):
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" not in function.__qualname__:
        return name
    around = [cell.cell_contents for cell in function.__closure__ or ()]
    # A function that calls itself has itself around it.
    around = [name if item is function else described(item) for item in around]
    defaults = described((function.__defaults__, function.__kwdefaults__))
    return f"{name}({_of_code(function.__code__)}, {defaults}, {', '.join(around)})"


def _of_code(code):
    parts = (code.co_code.hex(), code.co_names, *map(described, code.co_consts))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _of_module(module):
    named = {name: module_ for name, module_ in vars(module).items() if name not in _OF_MODULES}
    parts = {f"{kind}s": dict(getattr(module, f"named_{kind}s")(recurse=False)) for kind in _KINDS}
    return _call(type(module), named | parts | {"children": dict(module.named_children())})


def _of_tensor(tensor):
    return f"{tensor.dtype}{_of_array(tensor.detach().cpu().double().numpy())}"


def _of_array(array):
    # Of objects an array holds addresses.
    return described(array.tolist()) if array.dtype.hasobject else _hashed(array)


def _of_items(items):
    return f"{type(items).__name__}({', '.join(map(described, items))})"


def _of_dict(items):
    pairs = sorted(f"{described(key)}: {described(item)}" for key, item in items.items())
    return f"{{{', '.join(pairs)}}}"


_KINDS = ("parameter", "buffer")
# What every module has, such as its hooks.
_OF_MODULES = vars(torch.nn.Module()).keys()
_DESCRIBED = [
    (functools.partial, _of_partial),
    (types.FunctionType, _of_function),
    (types.MethodType, lambda method: f"{described(method.__self__)}.{method.__name__}"),
    (types.CodeType, _of_code),
    (torch.nn.Module, _of_module),
    (torch.Tensor, _of_tensor),
    (np.ndarray, _of_array),
    (np.generic, lambda scalar: described(scalar.item())),
    (os.PathLike, lambda path: repr(os.fspath(path))),
    ((list, tuple), _of_items),
    ((set, frozenset), lambda items: f"set({', '.join(sorted(map(described, items)))})"),
    (dict, _of_dict),
]


def digest(source, Y):
    """Return hashes of samples and their label sets.

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
    more = len(source), *getattr(source, "constants", ())
    return _hashed(samples, *more), _hashed(Y)


def _hashed(array, *more):
    """Return the hash of an array, its shape and dtype, and anything else."""
    total = hashlib.sha256(repr((array.shape, array.dtype.str, *more)).encode())
    total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
