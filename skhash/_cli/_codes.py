"""Codes from files of whatever source, and models."""

import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import skhash
from skhash._cli._files import load_npy
from skhash._cli._parquet import read_code_columns

__all__ = [
    "Codes",
    "check_params",
    "file_kind",
    "find_hasher",
    "read_codes",
    "read_ids",
    "read_model",
]

_MAGIC = {"npy": b"\x93NUMPY", "parquet": b"PAR1", "faiss": b"IB", "checkpoint": b'{"'}


@dataclass
class Codes:
    """Packed codes, and what their file says of the items.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes.

    n_bits : int
        Number of bits of a code.

    ids : ndarray of shape (n_samples,), default=None
        Ids of the items. None: row numbers.

    y : ndarray of shape (n_samples, n_labels) or (n_samples,), default=None
        Their labels. None: not known.

    names : list of str, default=None
        Names of the columns of `y`.
    """

    codes: np.ndarray
    n_bits: int
    ids: np.ndarray | None = None
    y: np.ndarray | None = None
    names: list | None = None

    def __len__(self):
        return len(self.codes)


def read_codes(path, n_bits=None):
    """Read codes from a file of any kind that is known, or the database of a model.

    Parameters
    ----------
    path : str or path-like
        A ``.npy`` file of bits, of -1 and 1, or of packed codes; a Parquet file; an index of
        faiss; a model or search that `save` wrote; or a folder that :func:`skhash.encode` wrote.

    n_bits : int, default=None
        Number of bits of a code, where codes are packed and the file does not say it.

    Returns
    -------
    codes : Codes
        The codes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it holds no codes, or codes of another length.
    """
    path = Path(path)
    found = _read_codes(path, file_kind(path), n_bits)
    if n_bits is not None and found.n_bits != n_bits:
        raise ValueError(f"{path} holds codes of {found.n_bits} bits, expected {n_bits}.")
    return found


def file_kind(path):
    """Return what a file is, by how it begins.

    Parameters
    ----------
    path : pathlib.Path
        The file, or a folder.

    Returns
    -------
    kind : {"npy", "parquet", "faiss", "shards", "checkpoint", "model", "unknown"}
        What it is; "shards" is any folder.
    """
    if path.is_dir():
        return "shards"
    with path.open("rb") as file:
        head = file.read(8)
    for kind, magic in _MAGIC.items():
        if head.startswith(magic):
            return kind
    # Files of safetensors begin with the length of their header, in 8 bytes.
    return "model" if head[7:8] == b"\0" else "unknown"


def _read_codes(path, kind, n_bits):
    if kind == "npy":
        return _of_array(load_npy(path), path, n_bits)
    if kind == "parquet":
        return _of_parquet(path, n_bits)
    if kind == "faiss":
        return _of_stored(skhash.export.read_faiss(path, n_bits=n_bits))
    if kind == "shards":
        return _of_stored(skhash.export.read_shards(path))
    if kind == "model":
        return _of_model(skhash.load(path))
    raise ValueError(
        f"{path} holds no codes: it should be a .npy file, a Parquet file, an index of faiss, a "
        "model of skhash or a folder that encode wrote."
    )


def _of_stored(stored):
    rows = np.arange(len(stored.codes))
    ids = None if np.array_equal(stored.ids, rows) else stored.ids
    return Codes(stored.codes, stored.n_bits, ids)


def _of_parquet(path, n_bits):
    try:
        return _of_stored(skhash.export.read_parquet(path))
    except ValueError:
        array, ids = read_code_columns(path)
    return replace(_of_array(array, path, n_bits), ids=ids)


def _of_array(array, path, n_bits):
    """Return codes in an array of bits, of signs, or of packed codes."""
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} should hold codes, numbers of shape (n_samples, n_bits) or packed codes of "
            f"shape (n_samples, ceil(n_bits / 8)), got {array.dtype} of shape {array.shape}."
        )
    if n_bits != array.shape[1] and array.dtype == np.uint8 and n_bits is not None:
        return Codes(_checked(array, n_bits), n_bits)
    for low in (0, -1):
        if ((array == low) | (array == 1)).all():
            return Codes(skhash.codes.pack_codes(array > low), array.shape[1])
    if array.dtype == np.uint8:
        raise ValueError(
            f"{path} holds bytes: if they are packed codes, give their length with --bits, at "
            f"most {8 * array.shape[1]}."
        )
    raise ValueError(f"{path} should hold codes of 0 and 1, of -1 and 1, or packed ones.")


def _checked(packed, n_bits):
    """Return packed codes, or raise unless they are of that length."""
    if packed.shape[1] != -(-n_bits // 8):
        raise ValueError(
            f"Packed codes of {n_bits} bits take {-(-n_bits // 8)} bytes each, got "
            f"{packed.shape[1]}. Give their length with --bits."
        )
    search = skhash.neighbors.HammingNeighbors(n_bits=n_bits).fit(packed)
    return search.codes_


def _of_model(model):
    if isinstance(model, skhash.neighbors.HammingNeighbors):
        return Codes(model.codes_, model.n_features_in_, model.ids_)
    y, names = None, None
    if model.database_labels_ is not None:
        names = [str(name) for name in model.classes_]
        y = skhash.codes.unpack_codes(model.database_labels_, len(names))
    n_bits = len(model.get_feature_names_out())
    return Codes(model.database_codes_, n_bits, model.database_ids_, y, names)


def read_ids(path, n_samples):
    """Read ids of items from a ``.npy`` file or a text file of a line each.

    Parameters
    ----------
    path : str or path-like
        The file.

    n_samples : int
        How many there are to be.

    Returns
    -------
    ids : ndarray of shape (n_samples,)
        The ids.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If there are more, or fewer.
    """
    path = Path(path)
    if file_kind(path) == "npy":
        ids = np.asarray(load_npy(path))
    else:
        ids = np.array(path.read_text(encoding="utf-8").splitlines())
    if ids.shape != (n_samples,):
        raise ValueError(f"{path} should hold {n_samples} ids, got shape {ids.shape}.")
    return ids


def read_model(path, hasher=None, **params):
    """Read a hasher that `save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    hasher : str, default=None
        Its class as ``package.module:Class``, if it is not one of skhash.

    **params
        Parameters that are to be others than those saved, where they are not None.

    Returns
    -------
    hasher : BaseHasher
        The hasher.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it holds no hasher, or is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(2, "There is no such file", str(path))
    given = {name: value for name, value in params.items() if value is not None}
    model = skhash.load(path) if hasher is None else find_hasher(hasher).load(path)
    if not hasattr(model, "transform"):
        raise ValueError(f"{path} holds a {type(model).__name__}, not a hasher, which encodes.")
    check_params(type(model), given)
    return type(model).load(path, **given) if given else model


def find_hasher(name):
    """Return the class of a hasher.

    Parameters
    ----------
    name : str
        The class in skhash in whatever case, with or without its ending, such as "itq" or
        "cca-itq"; "deep"; or ``package.module:Class``.

    Returns
    -------
    kind : type
        The class.

    Raises
    ------
    ValueError
        If there is none.
    """
    known = {_short(kind): kind for kind in skhash.__all__ if kind.endswith("Hasher")}
    known["deep"] = "DeepRankingHasher"
    if (kind := known.get(_short(name))) is not None:
        return getattr(skhash, kind)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"There is no hasher {name!r}: it should be one of {', '.join(sorted(known))}, or "
            "package.module:Class."
        )
    return _imported(module, attribute)


def _short(name):
    """Return the name of a hasher in small letters, without what all have."""
    return name.lower().replace("-", "").replace("_", "").removesuffix("hasher")


def _imported(module, attribute):
    """Return a hasher of another package, or of a file in the working directory."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    kind = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(kind, type) and issubclass(kind, skhash.base.BaseHasher)):
        raise ValueError(
            f"{module}:{attribute} should be a class that is derived from "
            f"skhash.base.BaseHasher, got {kind!r}."
        )
    return kind


def check_params(kind, given):
    """Raise if a class has not these parameters.

    Parameters
    ----------
    kind : type
        Class of a hasher.

    given : iterable of str
        Names of parameters.

    Raises
    ------
    ValueError
        If there is no such parameter.
    """
    names = kind._get_param_names()
    if unknown := [name for name in given if name.partition("__")[0] not in names]:
        raise ValueError(
            f"{kind.__name__} has no parameter {unknown[0]!r}: it has {', '.join(names)}."
        )
