"""In which of its forms X is given to a deep hasher."""

import os
from collections.abc import Mapping

import numpy as np
from torch.utils.data import IterableDataset

from skhash._images import is_image, is_pixels
from skhash._samples import check_rows, is_lazy

__all__ = ["input_kind"]


def input_kind(X):
    """Return in which form samples are given.

    Parameters
    ----------
    X : object
        What a user gives.

    Returns
    -------
    kind : {"files", "images", "image sequence", "features"}
        "files" are paths; "images" one array of four dimensions; an "image sequence" gives one
        image a row, such as a data set of torch. All else is "features", also what is malformed,
        which the validation of features words well.

    Raises
    ------
    ValueError
        If `X` is one path, one or several grey images, or a stream of samples, or if it holds
        bytes, or paths beside something else.
    """
    if isinstance(X, (str, bytes, os.PathLike)):
        raise ValueError(
            f"X should be a sequence of paths of image files, got {X!r} alone: pass [path] for "
            "one file, sorted(Path(folder).iterdir()) for those of a folder."
        )
    check_rows(X)
    if isinstance(X, IterableDataset):
        raise ValueError(
            "X should have a length and rows by number, as a map-style data set of torch has, "
            f"got {type(X).__name__}, an IterableDataset. list(X) makes a sequence, if it ends; "
            "partial_fit and add_to_database take lists of some samples, one after another."
        )
    if is_lazy(X):
        return "image sequence"
    return _kind_of_array(X) if hasattr(X, "shape") else _kind_of_sequence(X)


def _kind_of_sequence(X):
    """Return the kind of what has no shape yet."""
    first = next(iter(X), None) if hasattr(X, "__iter__") else None
    if isinstance(first, (str, bytes, os.PathLike)):
        # An array of str would give all the room of the longest.
        return _kind_of_objects(np.fromiter(X, object, len(X)))
    if is_image(first) or _is_sample(first):
        return "image sequence"
    try:
        array = np.asarray(X)
    # Ragged or exotic.
    except (ValueError, TypeError):
        return "image sequence" if is_pixels(first) else "features"
    return _kind_of_array(array)


def _kind_of_array(X):
    """Return the kind of what has a shape."""
    if len(X.shape) == 1 and X.shape[0]:
        return _kind_of_objects(np.asarray(X))
    if len(X.shape) == 1 and np.asarray(X).dtype.kind in "UT":
        return "files"
    if len(X.shape) == 3:
        raise ValueError(
            "X should be images of shape (n_samples, height, width, 3) or feature rows of shape "
            f"(n_samples, n_features), got an array of shape {tuple(X.shape)}. "
            "np.repeat(X[..., None], 3, axis=-1) makes such of grey images, X[None] of one image."
        )
    return "images" if len(X.shape) == 4 else "features"


def _kind_of_objects(X):
    """Return the kind of a 1D array, or raise if only some of it are paths."""
    # A sparse array is one object to numpy.
    if X.ndim != 1 or X.dtype.kind not in "USTO":
        return "features"
    wrong = next((row for row, x in enumerate(X) if not isinstance(x, (str, os.PathLike))), None)
    if wrong is None:
        return "files"
    if isinstance(X[wrong], bytes):
        raise ValueError(
            f"X should hold paths of image files as str or path-like, got bytes as X[{wrong}]. "
            "os.fsdecode makes a str of a path in bytes; contents of files should be written to "
            "files, or decoded."
        )
    if any(isinstance(x, (str, os.PathLike)) for x in X):
        raise ValueError(
            f"X should hold paths of image files alone, got {X[wrong]!r}, of type "
            f"{type(X[wrong]).__name__}, as X[{wrong}]."
        )
    return "image sequence" if is_image(X[0]) or is_pixels(X[0]) else "features"


def _is_sample(value):
    """Whether this is what data sets give: an image, and a label or more, by place or name."""
    if isinstance(value, Mapping):
        return any(is_image(part) or is_pixels(part) for part in value.values())
    return isinstance(value, tuple) and bool(value) and (is_image(value[0]) or is_pixels(value[0]))
