"""Fitted hashers as files: arrays as safetensors, the rest as JSON, a checksum over both."""

import hashlib
import json
import math
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file
from sklearn.utils.validation import check_is_fitted

from skhash._io import check_folder, replaced_file

__all__ = ["SaveMixin", "digest_state", "read_class_name", "read_state", "write_state"]

_FORMAT = 1
# What scikit-learn keeps on an estimator that is neither a parameter nor learnt.
_NOT_SAVED = {"_metadata_request", "_skl_callbacks", "_skl_callbacks_to_teardown"}


class SaveMixin:
    """`save` and `load` for an estimator whose attributes are plain values and arrays."""

    def save(self, path):
        """Write the fitted estimator, with its database, to a file that holds no code.

        The file is in the safetensors format [1]_: arrays as they are; parameters and all else as
        JSON in its header, with a checksum of both. :meth:`load` reads it and runs nothing that it
        holds, where a pickle, also one of joblib, is a program.

        Callbacks and metadata requests are not saved. Nor are parameters that are functions, or
        objects of other packages: :meth:`load` asks for those.

        Parameters
        ----------
        path : str or path-like
            File to write. An existing one is replaced, once the new one is whole.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        TypeError
            If the hasher has learnt something that the file cannot hold, as those of other
            packages may. The error names it.

        OSError
            If the file cannot be written. A folder that is missing is named, before the work.

        See Also
        --------
        load : Read the file.
        skhash.load : Read the file of a hasher of whatever class.

        References
        ----------
        .. [1] https://huggingface.co/docs/safetensors

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from skhash import LSHHasher
        >>> X = np.random.default_rng(0).normal(size=(20, 4))
        >>> hasher = LSHHasher(8, random_state=0).fit(X)
        >>> with TemporaryDirectory() as folder:
        ...     hasher.save(Path(folder) / "lsh.safetensors")
        ...     loaded = LSHHasher.load(Path(folder) / "lsh.safetensors")
        >>> bool((loaded.transform(X) == hasher.transform(X)).all())
        True
        """
        check_is_fitted(self)
        check_folder(path)
        params, types = self.get_params(deep=False), self._saved_types()
        asked = {name for name, value in params.items() if not _is_writable(value, types)}
        state = {
            "class": type(self).__name__,
            "params": {name: value for name, value in params.items() if name not in asked},
            "asked": {name: repr(params[name]) for name in sorted(asked)},
            "learnt": self._learnt(),
        }
        write_state(path, state, types)

    @classmethod
    def load(cls, path, **params):
        """Read a hasher that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        **params
            Parameters that are to be others than those saved, such as `device`. Those that the
            file could not hold, such as a `network` that is a function, have to be given.

        Returns
        -------
        hasher : object
            The fitted hasher.

        Raises
        ------
        FileNotFoundError
            If there is no such file.

        ValueError
            If the file was not written by :meth:`save`, is damaged, is of a later version of
            skhash or of another class of hasher, if a parameter has to be given, or if `n_bits` is
            not that of the file.

        See Also
        --------
        save : Write the file.
        """
        state = read_state(path, cls._saved_types())
        if state["class"] != cls.__name__:
            raise ValueError(
                f"{str(path)!r} holds a {state['class']}, not a {cls.__name__}: read it with "
                f"{state['class']}.load."
            )
        missing = [name for name in state["asked"] if name not in params]
        if missing:
            asked = ", ".join(f"{name}={state['asked'][name]}" for name in missing)
            raise ValueError(
                f"{str(path)!r} is of a hasher with {asked}, which a file cannot hold without "
                f"code. Pass it to load: {cls.__name__}.load(path, {missing[0]}=...)."
            )
        saved = cls._upgraded(state["params"])
        if params.get("n_bits", saved.get("n_bits")) != saved.get("n_bits"):
            raise ValueError(
                f"{str(path)!r} is of a hasher with n_bits={saved['n_bits']}, got "
                f"n_bits={params['n_bits']!r}. Projection and database are of that length: load "
                "it without n_bits, and fit it again for codes of another one."
            )
        hasher = cls(**(saved | params))
        hasher._take_over(state["learnt"])
        return hasher

    @staticmethod
    def _saved_types():
        """Return the classes of attributes that are written as their ``vars``."""
        return ()

    @staticmethod
    def _upgraded(params):
        """Return the parameters of a file of a former version as they are called now."""
        return params

    def _learnt(self):
        """Return all attributes but the parameters, as values that a file can hold."""
        skipped = _NOT_SAVED | self.get_params(deep=False).keys()
        return {name: value for name, value in vars(self).items() if name not in skipped}

    def _take_over(self, learnt):
        """Set the attributes that :meth:`_learnt` of another hasher returned."""
        vars(self).update(learnt)


class _NotWritableError(TypeError):
    """A value that a file without code cannot hold."""


def _is_writable(value, types):
    """Return whether a file can hold the value."""
    try:
        _encode(value, "", {}, types)
    except _NotWritableError:
        return False
    return True


def write_state(path, state, types=()):
    """Write a dict of attributes, as a whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write; an existing one is replaced.

    state : dict
        Values by name: None, numbers, strings, paths, dtypes, arrays of numbers, strings, dates
        or times, RandomState, instances of `types`, and lists, tuples and dicts of these.

    types : tuple of type, default=()
        Classes whose instances are written as their ``vars``.

    Raises
    ------
    TypeError
        If there is a value of another type. The error names it.

    OSError
        If the file cannot be written.
    """
    with replaced_file(path) as beside:
        tensors = {}
        tree = {name: _encode(value, name, tensors, types) for name, value in state.items()}
        text = json.dumps({"format": _FORMAT, "state": tree}, allow_nan=False)
        metadata = {"skhash": text, "sha256": _checksum(text, tensors)}
        try:
            save_file(tensors, beside, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise OSError(f"{str(path)!r} could not be written: {error}.") from error


def read_state(path, types=()):
    """Read what :func:`write_state` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    types : tuple of type, default=()
        The classes that were given when it was written. No other class is made.

    Returns
    -------
    state : dict
        Values by name.

    Raises
    ------
    ValueError
        If the file was not written by :func:`write_state`, is damaged, or is of a later version.
    """
    with _opened(path) as (metadata, file):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("sha256") != _checksum(metadata["skhash"], tensors):
        raise ValueError(f"{str(path)!r} is damaged: its content is not what save wrote.")
    content = json.loads(metadata["skhash"])
    if content["format"] > _FORMAT:
        raise ValueError(
            f"{str(path)!r} has format {content['format']}, of a later version of skhash; this "
            f"one reads formats up to {_FORMAT}."
        )
    known = {kind.__name__: kind for kind in types}
    return {name: _decode(node, tensors, known) for name, node in content["state"].items()}


def digest_state(state, types=()):
    """Return a hash of a dict of attributes.

    Parameters
    ----------
    state : dict
        Values by name. Those that a file without code cannot hold count by their classes.

    types : tuple of type, default=()
        Classes whose instances count by their ``vars``.

    Returns
    -------
    digest : str
        Hexadecimal digits, the same in each process.
    """
    tree, tensors = {}, {}
    for name in sorted(state):
        try:
            tree[name] = _encode(state[name], name, tensors, types)
        except _NotWritableError:
            tree[name] = type(state[name]).__qualname__
    return _checksum(json.dumps(tree), tensors)


def read_class_name(path):
    """Return the name of the class of the hasher that a file holds.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    name : str
        Such as "LSHHasher".

    Raises
    ------
    ValueError
        If the file was not written by :func:`write_state`.
    """
    with _opened(path) as (metadata, _):
        return json.loads(metadata["skhash"])["state"]["class"]


@contextmanager
def _opened(path):
    """Yield the metadata of a file that :func:`write_state` wrote, and the open file, or raise."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "skhash" not in metadata:
                raise ValueError(
                    f"{str(path)!r} was not written by save: it holds tensors of another kind."
                )
            yield metadata, file
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{str(path)!r} is no file that save wrote, or it is damaged: {error}."
        ) from error


def _checksum(text, tensors):
    """Return the hash of all that the file says."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _encode(value, name, tensors, types):
    """Return a tree for JSON, and put arrays into `tensors`."""
    # A bool is an int, and numpy's floats are floats: the plain types come by their own names.
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) in (list, tuple):
        items = [_encode(item, f"{name}.{i}", tensors, types) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": _encode_items(value, name, tensors, types)}
    if type(value) in types:
        return {type(value).__name__: _encode_items(vars(value), name, tensors, types)}
    if isinstance(value, (np.ndarray, np.generic)):
        return _encode_array(value, name, tensors)
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, os.PathLike):
        return {"path": os.fspath(value)}
    if type(value) is np.random.RandomState:
        return {"RandomState": _encode(value.get_state(), name, tensors, types)}
    raise _NotWritableError(
        f"save cannot write {name}, which is of type {type(value).__name__}. joblib.dump can."
    )


def _encode_items(items, name, tensors, types):
    return {key: _encode(item, f"{name}.{key}", tensors, types) for key, item in items.items()}


def _encode_array(value, name, tensors):
    """Return a node that refers to a tensor, or holds strings."""
    node = {"dtype": value.dtype.str, "order": _order(value)}
    if value.dtype.kind in "OU" and all(isinstance(x, str) for x in value.ravel().tolist()):
        return {_form(value, "strings"): value.tolist(), "shape": list(value.shape), **node}
    if value.dtype.kind == "f" and value.dtype.itemsize > 8:
        # What a long float is differs by machine; its shortest text that is read as it does not.
        texts = [str(number) for number in value.ravel()]
        return {_form(value, "strings"): texts, "shape": list(value.shape), **node}
    if value.dtype.kind not in "biufmM":
        raise _NotWritableError(
            f"save cannot write {name}, an array of dtype {value.dtype}. joblib.dump can."
        )
    tensor = np.array(value, order="C")
    if value.dtype.kind in "mM":
        tensor = tensor.astype(value.dtype.newbyteorder("=")).view(np.int64)
    # Tensors have one byte order. The dtype goes beside them.
    tensors[name] = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
    return {_form(value, "array"): name, **node}


def _form(value, kind):
    """Return the name of a node of an array, or of a scalar of the same kind."""
    scalar = {"array": "scalar", "strings": "string scalar"}
    return scalar[kind] if isinstance(value, np.generic) else kind


def _order(value):
    """Return the order of the entries in memory, by which products of matrices round."""
    if value.flags.c_contiguous or value.ndim < 2:
        return "C"
    ascends = abs(value.strides[0]) < abs(value.strides[-1])
    return "F" if value.flags.f_contiguous or ascends else "C"


def _decode(node, tensors, known):
    """Return the value of a tree."""
    if not isinstance(node, dict):
        return node
    kind, content = next(iter(node.items()))
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_decode(x, tensors, known) for x in content)
    if kind in ("dict", *known):
        items = {key: _decode(item, tensors, known) for key, item in content.items()}
        return items if kind == "dict" else _make(known[kind], items)
    if kind == "RandomState":
        random_state = np.random.RandomState()
        random_state.set_state(_decode(content, tensors, known))
        return random_state
    if kind in ("array", "scalar", "strings", "string scalar"):
        array = _decode_array(kind, content, tensors, node)
        return array[()] if kind.endswith("scalar") else array
    return {"float": float, "path": Path, "dtype": np.dtype}[kind](content)


def _decode_array(kind, content, tensors, node):
    """Return the array of a node of :func:`_encode_array`."""
    if kind in ("array", "scalar"):
        array = tensors[content]
        dtype = np.dtype(node.get("dtype", array.dtype))
    else:
        dtype = np.dtype(node["dtype"])
        array = np.array(content, dtype=dtype if dtype.kind in "OU" else str)
        array = array.reshape(node.get("shape", array.shape))
    return np.asarray(array.astype(dtype, copy=False), order=node.get("order", "C"))


def _make(kind, items):
    """Return an instance with these ``vars``, whatever its `__init__` asks for."""
    made = object.__new__(kind)
    vars(made).update(items)
    return made
