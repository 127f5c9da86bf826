"""The folder that `skhash.encode` writes: which files are in it, and reading it."""

import json
from pathlib import Path

import numpy as np

from skhash.export._arrow import read_parquet
from skhash.export._stored import StoredCodes

__all__ = [
    "MANIFEST",
    "MARKS",
    "SKIPPED",
    "iter_shards",
    "mark_path",
    "read_shards",
    "shard_paths",
]

# Readers of folders of Parquet leave out names that start with "_".
MANIFEST, MARKS, SKIPPED = "_manifest.json", "_shards", "_skipped.csv"


def mark_path(folder, number):
    """Return the path of the file that says that a shard is whole.

    Parameters
    ----------
    folder : path-like
        The folder of all shards.

    number : int
        Number of the shard.

    Returns
    -------
    path : pathlib.Path
        The path.
    """
    return Path(folder) / MARKS / f"{number:08d}.json"


def shard_paths(folder, number, file_format):
    """Return the paths of the files of a shard.

    Parameters
    ----------
    folder : path-like
        The folder of all shards.

    number : int
        Number of the shard.

    file_format : {"npy", "parquet"}
        The format.

    Returns
    -------
    paths : list of pathlib.Path
        The file of codes, and for "npy" that of ids.
    """
    names = ["codes"] if file_format == "parquet" else ["codes", "ids"]
    return [Path(folder) / f"{name}-{number:08d}.{file_format}" for name in names]


def iter_shards(folder):
    """Go through the codes that :func:`skhash.encode` wrote, a shard at a time.

    Parameters
    ----------
    folder : str or path-like
        The folder, whole or not: shards that are there are whole each.

    Yields
    ------
    stored : StoredCodes
        Codes, ids and number of bits of the next shard, in the order of the source. Codes and ids
        of ``.npy`` files are memory-mapped and read-only.

    Raises
    ------
    FileNotFoundError
        If `skhash.encode` has written nothing there.

    ImportError
        If the files are Parquet and pyarrow is not installed.

    See Also
    --------
    read_shards : All of them at once.
    """
    manifest = _manifest(folder)
    for mark in sorted((Path(folder) / MARKS).glob("*.json")):
        if json.loads(mark.read_text(encoding="utf-8"))["n_codes"]:
            yield _read_shard(folder, int(mark.stem), manifest)


def read_shards(folder):
    """Read the codes that :func:`skhash.encode` wrote.

    Parameters
    ----------
    folder : str or path-like
        The folder.

    Returns
    -------
    stored : StoredCodes
        `codes`, `ids` and `n_bits`, in the order of the source. If there is one shard, of ``.npy``
        files, codes and ids are memory-mapped and read-only. Those of several are copied into one
        array.

    Raises
    ------
    FileNotFoundError
        If `skhash.encode` has written nothing there.

    ImportError
        If the files are Parquet and pyarrow is not installed.

    ValueError
        If `skhash.encode` has not ended there, or has left out all that it was given.

    See Also
    --------
    iter_shards : One after the other, each memory-mapped.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_digits
    >>> import skhash
    >>> from skhash.export import read_shards
    >>> X, _ = load_digits(return_X_y=True)
    >>> hasher = skhash.LSHHasher(16, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     encoded = skhash.encode(hasher, X, folder, shard_size=1000)
    ...     stored = read_shards(folder)
    >>> stored.codes.shape, stored.ids[-1].item(), stored.n_bits
    ((1797, 2), 1796, 16)
    """
    finished = _manifest(folder).get("finished")
    if finished is None:
        raise ValueError(
            f"The encoding into {str(folder)!r} has not ended. Call skhash.encode with the same "
            "arguments again, or read the shards that are whole with iter_shards."
        )
    shards = list(iter_shards(folder))
    if not shards:
        raise ValueError(f"{str(folder)!r} holds no codes: all files were skipped.")
    if len(shards) == 1:
        return shards[0]
    codes = np.concatenate([shard.codes for shard in shards])
    return StoredCodes(codes, np.concatenate([shard.ids for shard in shards]), shards[0].n_bits)


def _manifest(folder):
    """Return what the folder says of itself, or raise."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(folder)!r} should be a folder that skhash.encode has written, but has no "
            f"{MANIFEST}."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _read_shard(folder, number, manifest):
    """Return the codes of one shard."""
    paths = shard_paths(folder, number, manifest["file_format"])
    if manifest["file_format"] == "parquet":
        return read_parquet(paths[0])
    codes, ids = (np.load(path, mmap_mode="r") for path in paths)
    return StoredCodes(codes, ids, manifest["n_bits"])
