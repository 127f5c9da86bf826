"""Names of files, and arrays of files, as the commands take them."""

import re
from pathlib import Path

import numpy as np

__all__ = ["load_npy", "read_features", "relative"]

_ROWS = re.compile(r"(.+\.npy):(-?\d+)?(:)?(-?\d+)?")


def relative(path, folder):
    """Return the path of a file below a folder with slashes, or as it is if it is elsewhere.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    folder : str or path-like
        The folder.

    Returns
    -------
    key : str
        The path.
    """
    path, folder = Path(path), Path(folder)
    inside = path.is_relative_to(folder)
    return (path.relative_to(folder) if inside else path).as_posix()


def load_npy(path):
    """Return the array of a ``.npy`` file, memory-mapped where its entries are plain.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    array : ndarray
        The array.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it is no file of that kind, or damaged.
    """
    with Path(path).open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError(f"{path} is no .npy file, as numpy.save writes it.")
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a .npy file: {error}") from error


def read_features(text):
    """Read feature rows.

    Parameters
    ----------
    text : str
        A ``.npy`` file, or some of its rows: ``X.npy:7`` or ``X.npy:0:20``.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Rows, memory-mapped.

    rows : ndarray of shape (n_samples,)
        Their numbers in the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it is no matrix of numbers, or has no such rows.
    """
    path, start, colon, stop = text, None, ":", None
    if not Path(text).exists() and (match := _ROWS.fullmatch(text)):
        path, start, colon, stop = match.groups()
    X = load_npy(path)
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} should hold feature rows, numbers of shape (n_samples, n_features), got "
            f"{X.dtype} of shape {X.shape}."
        )
    rows = np.arange(len(X))
    if colon:
        rows = rows[slice(*(None if end is None else int(end) for end in (start, stop)))]
    else:
        rows = rows[rows == int(start) % len(X)] if abs(int(start)) < len(X) else rows[:0]
    if not len(rows):
        raise ValueError(f"{text} has no rows: {path} has {len(X)}.")
    return (X if len(rows) == len(X) else X[rows]), rows
