"""The public function: from anything that a hasher encodes to shards of packed codes."""

import os
import time
from contextlib import closing
from numbers import Integral
from pathlib import Path

from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from skhash._encode._local import run_local
from skhash._encode._pieces import Coder
from skhash._encode._shards import Shards
from skhash._encode._sources import open_source
from skhash._persistence import digest_state
from skhash._sklearn import Interval, StrOptions, validate_params
from skhash.base import BaseHasher
from skhash.deep._progress import Reporter
from skhash.export._arrow import import_pyarrow
from skhash.export._shards import SKIPPED

__all__ = ["encode"]

_COUNT = Interval(Integral, 1, None, closed="left")
# What has no part in what codes are: parameters, and what is learnt beside them.
_NEUTRAL = {
    *("batch_size", "checkpoint_dir", "classes_", "device", "history_", "loss_curve_"),
    *("n_iter_", "n_neighbors", "on_interrupt", "random_state", "verbose", "warm_start"),
    *("_labels_from_fit", "_one_class_each", "_partial"),
}


@validate_params(
    {
        "hasher": [BaseHasher],
        "out": [str, os.PathLike],
        "columns": [str, "array-like", None],
        "method": [StrOptions({"encode_database", "transform"})],
        "file_format": [StrOptions({"npy", "parquet"})],
        "shard_size": [_COUNT],
        "batch_size": [_COUNT, None],
        "on_error": [StrOptions({"raise", "skip"})],
        "engine": [StrOptions({"local", "ray"})],
        "n_workers": [_COUNT, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def encode(
    hasher,
    source,
    out,
    *,
    ids=None,
    columns=None,
    method="encode_database",
    file_format="npy",
    shard_size=2**16,
    batch_size=None,
    on_error="raise",
    engine="local",
    n_workers=None,
    verbose=False,
):
    """Encode any number of images or rows into a folder of packed codes.

    Codes are written in shards, each as a whole. Killed at any moment and called again with the
    same arguments, `encode` encodes the shards that are missing and ends with the same files. The
    memory that it takes does not grow with the number of rows.

    Parameters
    ----------
    hasher : BaseHasher
        A fitted hasher.

    source : str, path-like, array-like, sequence or iterable
        What to encode. One of

        * paths of image files: a list, an array or a Series of them;
        * a folder: its image files and those of the folders in it, by name. Files count whose
          suffix is one that Pillow reads; names that start with a point do not;
        * an array of feature rows or of images, in memory or memory-mapped, or the path of a
          ``.npy`` file, which is then memory-mapped; or a data frame;
        * a Parquet file, or a folder of them: a column of paths, one of lists of numbers, or
          several columns of numbers;
        * a data set with `__len__` and `__getitem__`, as `hasher` takes it;
        * an iterable that ends and gives batches: `X`, in any form that `hasher` takes, paths
          among them, or pairs ``(ids, X)``. To go on from where it was killed, `encode` has to be
          given an iterable that gives the same batches from the start.

    out : str or path-like
        Folder for the codes. It is made if it is not there, and is for one encoding.

    ids : array-like of shape (n_rows,) or str, default=None
        Ids, integers or strings, each once; for Parquet the column that holds them. None: of files
        their paths as they are given, or, in a folder, relative to it with "/" between names; of
        other rows their numbers. A folder and an iterable take none.

    columns : str or list of str, default=None
        For Parquet the columns that are encoded. None: all but that of ids; or the features that
        `hasher` knows by name.

    method : {"encode_database", "transform"}, default="encode_database"
        The method of `hasher` that encodes: that for items to be found, or that for queries.

    file_format : {"npy", "parquet"}, default="npy"
        Files of a shard: ``codes-00000000.npy`` and ``ids-00000000.npy``, which can be
        memory-mapped; or ``codes-00000000.parquet``, which is what
        :func:`skhash.export.write_parquet` writes.

    shard_size : int, default=65536
        Rows of `source` that make a shard, of which those that are skipped are left out.

    batch_size : int, default=None
        Rows that are read and encoded at once. None: of images `batch_size` of `hasher`, of
        features 8192. With another one, bits whose projection is within rounding of 0 may differ.

    on_error : {"raise", "skip"}, default="raise"
        What to do about image files that cannot be read: raise an error that names the first, or
        leave them out and list them in ``_skipped.csv``. What was encoded before an error stays.

    engine : {"local", "ray"}, default="local"
        "local" encodes in this process and reads files ahead in threads. "ray" reads in tasks of
        Ray Data and encodes in processes that each hold the hasher, on a GPU where `hasher` is to
        use one: on the cluster that ``ray.init`` was called for, else on this machine. Paths are
        to be the same on all machines. An iterable is for "local", unless it gives paths.

    n_workers : int, default=None
        Number of processes of Ray that hold the hasher. None: one for each GPU, or for every
        second CPU. For ``engine="ray"`` alone.

    verbose : bool or int, default=False
        Whether to tell the progress every ten seconds, above 1 after each batch, as
        :class:`skhash.DeepRankingHasher` does.

    Returns
    -------
    encoded : :class:`~sklearn.utils.Bunch`
        `folder`, the path of `out`; `n_rows`, of `source`; `n_codes`, that were written;
        `n_skipped`, and `skipped`, the path of the list of these; `n_shards`.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path `source`, or, with ``on_error="raise"``, a file does not
        exist.

    ImportError
        If Ray is missing (``pip install scikit-hash[ray]``), or pyarrow.

    NotFittedError
        If `hasher` is not fitted.

    ValueError
        If `source` is nothing that `hasher` encodes; if `out` holds something else, the codes of
        another hasher, or those of a `source` that has changed since; or, with
        ``on_error="raise"``, if a file cannot be read.

    See Also
    --------
    skhash.export.read_shards : Read the codes again.
    skhash.export.iter_shards : Read them a shard at a time, memory-mapped.
    DeepRankingHasher.encode_files : Codes of some files, in memory.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import skhash
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> hasher = skhash.LSHHasher(32, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     encoded = skhash.encode(hasher, X, folder)
    ...     stored = skhash.export.read_shards(folder)
    >>> encoded.n_codes, encoded.n_skipped
    (1797, 0)
    >>> hasher = hasher.set_database_codes(stored.codes, ids=stored.ids)
    """
    check_is_fitted(hasher)
    if n_workers is not None and engine != "ray":
        raise ValueError(f"n_workers={n_workers} has no effect with engine={engine!r}.")
    if file_format == "parquet":
        import_pyarrow()
    coder = Coder(hasher, method)
    run = _engine(engine, n_workers)
    opened = open_source(source, hasher, ids=ids, columns=columns, batch_size=batch_size)
    manifest = {
        "layout": 1,
        "hasher": type(hasher).__name__,
        "learnt": _fingerprint(hasher),
        "n_bits": coder.n_bits,
        "method": method,
        "file_format": file_format,
        "shard_size": shard_size,
        "source": opened.what,
    }
    shards = Shards(out, manifest)
    progress = _Progress(opened.n_rows, shards, verbose)
    # Closed also by an error, which else would keep threads, or Ray, at work.
    with closing(run(shards.missing(opened.pieces(shard_size)), opened, coder)) as chunks:
        for coded in chunks:
            if coded.skipped and on_error == "raise":
                _raise_unreadable(coded)
            shards.add(coded)
            progress.step(coded.n_rows)
    counts = shards.finish()
    progress.end(counts)
    return Bunch(folder=Path(out), skipped=Path(out) / SKIPPED, **counts)


def _engine(name, n_workers):
    """Return the function that makes codes of pieces."""
    if name == "local":
        return run_local
    from skhash._encode._ray import ray_engine

    return ray_engine(n_workers)


def _fingerprint(hasher):
    """Return a hash of all of a hasher that decides its codes."""
    state = hasher._learnt() | hasher.get_params(deep=False)
    names = (x for x in state if x not in _NEUTRAL and not x.startswith("database_"))
    return digest_state({name: state[name] for name in names}, hasher._saved_types())


def _raise_unreadable(coded):
    """Raise for the first file of a chunk that cannot be read."""
    name, reason = coded.skipped[0]
    others = len(coded.skipped) - 1
    kind = FileNotFoundError if reason == "does not exist" else ValueError
    raise kind(
        f"source holds the file {name!r}, which {reason}."
        + (f" {others} of the {coded.n_rows} read with it cannot be read either." * bool(others))
        + " encode(..., on_error='skip') leaves such files out, lists them, and keeps what was "
        "encoded so far."
    )


class _Progress:
    """Lines of the log that tell how far an encoding is.

    Parameters
    ----------
    n_rows : int or None
        Rows of the source.

    shards : Shards
        Of which some may be there already.

    verbose : bool or int
        As in `encode`.
    """

    def __init__(self, n_rows, shards, verbose):
        self._reporter = Reporter("encode", verbose)
        self._known = n_rows is not None
        n_there = shards.n_whole * shards.shard_size
        self._work = self._reporter.work(max(0, n_rows - n_there) if self._known else 0)
        self._started = time.perf_counter()
        self._finished = shards.finished is not None
        if shards.n_whole:
            self._reporter.say(f"{shards.n_whole} shards are there already")

    def step(self, n_rows):
        """Note that so many more rows are encoded."""
        if not self._work.step(n_rows):
            return
        of = f" of {self._work.n_steps}" if self._known else ""
        line = f"{self._work.n_done}{of} rows, {self._rate():.0f} a second"
        self._reporter.say(line + self._work.left())

    def end(self, counts):
        """Tell the end."""
        codes = f"{counts['n_codes']} codes in {counts['n_shards']} shards"
        skipped = f", {counts['n_skipped']} files skipped" if counts["n_skipped"] else ""
        if self._finished and not self._work.n_done:
            self._reporter.say(f"had ended before: {codes}{skipped}")
        else:
            self._reporter.say(f"{codes}{skipped}, {self._rate():.0f} rows a second")

    def _rate(self):
        return self._work.n_done / max(time.perf_counter() - self._started, 1e-9)
