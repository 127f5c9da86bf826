"""Read a fitted hasher, or search, of whatever class from a file."""

import skhash
from skhash._persistence import read_class_name
from skhash.base import BaseHasher
from skhash.neighbors._hamming import HammingNeighbors

__all__ = ["load"]


def load(path, **params):
    """Read a hasher that `save` wrote, of whatever class of skhash it is, or a search.

    Parameters
    ----------
    path : str or path-like
        The file.

    **params
        Parameters that are to be others than those saved, such as `device`. Those that the file
        could not hold, such as a `network` that is a function, have to be given.

    Returns
    -------
    hasher : BaseHasher or HammingNeighbors
        The fitted hasher, or search.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file was not written by `save`, is damaged, is of a later version of skhash or of a
        hasher that is not part of skhash, or if a parameter has to be given.

    See Also
    --------
    skhash.base.BaseHasher.save : Write the file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import skhash
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> with TemporaryDirectory() as folder:
    ...     skhash.LSHHasher(8, random_state=0).fit(X, y).save(Path(folder) / "hasher")
    ...     skhash.load(Path(folder) / "hasher")
    LSHHasher(n_bits=8, random_state=0)
    """
    name = read_class_name(path)
    place = skhash.neighbors if name == HammingNeighbors.__name__ else skhash
    kind = getattr(place, name) if name in place.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, (BaseHasher, HammingNeighbors))):
        raise ValueError(
            f"{str(path)!r} holds a {name}, which is not part of skhash: read it with {name}.load."
        )
    return kind.load(path, **params)
