"""Checks of hashers and of image files, and versions for reports."""

import os
import pickle
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from joblib import effective_n_jobs
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import get_tags

from skhash._images import find_faults
from skhash._search import vote_shares
from skhash._version import __version__
from skhash.codes import hamming_distances, pack_codes
from skhash.metrics._ranking import ndcg_score

__all__ = ["check_hasher", "find_unreadable_images", "show_versions"]

_DEPENDENCIES = (
    "scikit-learn",
    "numpy",
    "scipy",
    "joblib",
    "pillow",
    "safetensors",
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "faiss-cpu",
    "pyarrow",
    "ray",
    "psycopg",
    "clickhouse-connect",
    "lancedb",
    "matplotlib",
)

# More than the 100 ranks that `score` looks at, so that the cut-off counts.
_N_TRAIN = 130


def check_hasher(hasher):
    """Check that a hasher keeps what the API of skhash and scikit-learn promises.

    It fits copies of the hasher to small generated data: 130 samples of 12 features, with sets of
    12 labels or 12 classes. After skhash's own checks it runs those of
    :func:`sklearn.utils.estimator_checks.check_estimator`, some of which have but one feature.

    Parameters
    ----------
    hasher : estimator
        A hasher, such as one derived from :class:`skhash.base.BaseHasher`. Its parameters should
        suit small data: few bits, neighbours and epochs. The object itself is left as it is.

    Raises
    ------
    TypeError
        If it is given a class, or an object that lacks methods of a hasher.

    AssertionError
        If a check of skhash fails. The error names the check, the hasher, what was called, what
        was expected and what was got.

    Exception
        What the first check of scikit-learn that fails raises.

    Examples
    --------
    >>> from skhash import LSHHasher
    >>> from skhash.utils import check_hasher
    >>> check_hasher(LSHHasher(n_bits=4))
    """
    from sklearn.utils.estimator_checks import check_estimator

    _check_is_hasher(hasher)
    data = _make_data()
    for check in _CHECKS:
        try:
            check(hasher, data)
        except Exception as error:
            kind = "" if type(error) is AssertionError else f"{type(error).__name__}: "
            message = f"{check.__name__} failed for {hasher!r}: {kind}{error}"
            raise AssertionError(message) from error
    check_estimator(hasher, on_skip=None)


def _check_is_hasher(hasher):
    """Raise unless `hasher` is an object with the methods of a hasher."""
    if isinstance(hasher, type):
        raise TypeError(f"Expected a hasher, got the class {hasher.__name__}. Pass an instance.")
    methods = "fit fit_transform project transform set_database kneighbors predict score"
    names = [*methods.split(), "encode_labels", "get_feature_names_out"]
    if missing := [name for name in names if not hasattr(hasher, name)]:
        raise TypeError(
            f"Expected a hasher, got {hasher!r}, which lacks {', '.join(missing)}. "
            "skhash.base.BaseHasher has them."
        )


def _make_data():
    """Return samples, label sets and classes that they determine, of training and queries."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(_N_TRAIN + 30, 12))
    Z = X @ rng.normal(size=(12, 12)) / np.sqrt(12) + 0.1 * rng.normal(size=(len(X), 12))
    data = SimpleNamespace()
    for name, values in [("X", X), ("Y", (Z > 0.5).astype(np.uint8)), ("y", Z.argmax(axis=1))]:
        values.flags.writeable = False
        setattr(data, name, values[:_N_TRAIN])
        setattr(data, f"{name}_query", values[_N_TRAIN:])
    return data


def _copy(hasher, **params):
    """Unfitted copy of the hasher with these parameters and a fixed seed."""
    seed = {"random_state": 0} if "random_state" in hasher.get_params() else {}
    return clone(hasher).set_params(**seed, **params)


def _fitted(hasher, data, **params):
    """Copy of the hasher, fitted to the label sets."""
    return _copy(hasher, **params).fit(data.X, data.Y)


def _check_equal(what, got, expected):
    """Raise unless two arrays are equal, dtypes aside."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise AssertionError(f"{what}: expected shape {expected.shape}, got {got.shape}.")
    differ = np.argwhere(np.asarray(got != expected))
    if len(differ):
        at = tuple(differ[0].tolist())
        place = f" at {at}" if at else ""
        raise AssertionError(
            f"{what}: expected {expected.item(at)!r}{place}, got {got.item(at)!r}; "
            f"{len(differ)} of {got.size} differ."
        )


def _check_raises(what, call, *args):
    """Raise unless the call raises a ValueError."""
    try:
        call(*args)
    except ValueError:
        return
    raise AssertionError(f"{what}: expected ValueError, got no error.")


def _check_is(what, got, expected):
    """Raise unless one object is the other."""
    if got is not expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {got!r}.")


def _learnt(hasher):
    """Names of the attributes that `fit` has set, private ones aside."""
    return sorted(name for name in vars(hasher) if name.endswith("_") and name[0] != "_")


def _check_learnt(what, hasher, expected):
    """Raise unless the hasher has the attributes of these names."""
    if _learnt(hasher) != expected:
        raise AssertionError(f"attributes {what}: expected {expected}, got {_learnt(hasher)}.")


def _check_same(what, got, expected):
    """Raise unless a hasher answers as another one, or as it did: two results of `_answers`."""
    for name, value in expected.items():
        _check_equal(f"{name} {what}", got[name], value)


def _answers(hasher, data):
    """Return what a hasher fitted with labels answers, and its database."""
    distances, indices = hasher.kneighbors(data.X_query)
    return {
        "transform(X)": hasher.transform(data.X_query),
        "database_codes_": hasher.database_codes_,
        "database_labels_": hasher.database_labels_,
        "classes_": hasher.classes_,
        "n_features_in_": hasher.n_features_in_,
        "distances of kneighbors(X)": distances,
        "indices of kneighbors(X)": indices,
        "predict(X)": hasher.predict(data.X_query),
    }


def check_codes(hasher, data):
    """Check that codes are the bits ``project(X) >= 0``, packed in the database, of any length."""
    for n_bits in (hasher.n_bits, 1, 7, 8, 9):
        try:
            fitted = _fitted(hasher, data, n_bits=n_bits)
        except ValueError as error:
            # A hasher may refuse a length, if it says so.
            if n_bits == hasher.n_bits or "n_bits" not in str(error):
                raise
            continue
        codes, projection = fitted.transform(data.X_query), fitted.project(data.X_query)
        shape = (len(data.X_query), n_bits)
        _check_equal(f"shape of project(X) with n_bits={n_bits}", projection.shape, shape)
        _check_equal("kind of dtype of project(X)", projection.dtype.kind, "f")
        _check_equal("dtype of transform(X)", codes.dtype.name, "uint8")
        _check_equal("transform(X), which should be project(X) >= 0", codes, projection >= 0)
        packed = pack_codes(fitted.encode_database(data.X))
        _check_equal(f"database_codes_ with n_bits={n_bits}", fitted.database_codes_, packed)


def check_fit_again(hasher, data):
    """Check that `fit` forgets an earlier one, and that `random_state` decides all else."""
    fitted, other = _fitted(hasher, data), _fitted(hasher, data)
    expected = _answers(fitted, data)
    _check_same("of a second hasher with the same seed", _answers(other, data), expected)
    again = _copy(hasher).fit(data.X[:100, :-1], data.y[:100]).fit(data.X, data.Y)
    _check_learnt("of a second fit, to other data", again, _learnt(fitted))
    _check_same("of a second fit, to other data", _answers(again, data), expected)


def check_fit_transform(hasher, data):
    """Check that `fit_transform` gives the codes that `fit` and `transform` give."""
    expected = _fitted(hasher, data).transform(data.X)
    _check_equal("fit_transform(X, y)", _copy(hasher).fit_transform(data.X, data.Y), expected)


def check_feature_names_out(hasher, data):
    """Check that each bit has a name of its own."""
    names = _fitted(hasher, data).get_feature_names_out()
    counts = len(names), len(set(names))
    _check_equal("number of feature names out, all and different", counts, (hasher.n_bits,) * 2)


def check_labels(hasher, data):
    """Check that `fit` returns the hasher and keeps the packed labels of the training set."""
    fitted = _copy(hasher)
    _check_is("fit(X, y)", fitted.fit(data.X, data.Y), fitted)
    _check_equal("database_labels_", fitted.database_labels_, pack_codes(data.Y))
    _check_equal("classes_", fitted.classes_, np.arange(data.Y.shape[1]))


def check_kneighbors(hasher, data):
    """Check neighbours against a full sort by distance, and by index among equals."""
    fitted, X = _fitted(hasher, data), data.X_query
    level = hamming_distances(pack_codes(fitted.transform(X)), fitted.database_codes_)
    order = np.argsort(level, axis=1, kind="stable")
    for k in (1, fitted.n_neighbors, _N_TRAIN):
        distances, indices = fitted.kneighbors(X, n_neighbors=k)
        what = f"of kneighbors(X, n_neighbors={k})"
        _check_equal(f"indices {what}", indices, order[:, :k])
        _check_equal(f"distances {what}", distances, np.take_along_axis(level, indices, axis=1))
    indices = fitted.kneighbors(X, return_distance=False)
    _check_equal("kneighbors(X, return_distance=False)", indices, order[:, : fitted.n_neighbors])
    _check_raises("kneighbors(X, n_neighbors=n_database + 1)", fitted.kneighbors, X, _N_TRAIN + 1)


def check_predict(hasher, data):
    """Check that `predict` is the vote of the neighbours, of label sets and of classes."""
    for y in (data.Y, data.y):
        fitted = _copy(hasher).fit(data.X, y)
        codes, labels = pack_codes(fitted.transform(data.X_query)), fitted.encode_labels(y)
        database = fitted.database_codes_, pack_codes(labels), labels.shape[1]
        for k in (fitted.n_neighbors, 100):
            if k != fitted.n_neighbors and "n_neighbors" not in fitted.get_params():
                continue
            if k != fitted.n_neighbors:
                fitted.set_params(n_neighbors=k)
            predicted = fitted.predict(data.X_query)
            shares = np.concatenate([*vote_shares(codes, *database, k)])
            expected = shares > 0.5 if y.ndim == 2 else fitted.classes_[shares.argmax(axis=1)]
            _check_equal(f"predict(X) with n_neighbors={k}", predicted, expected)


def check_label_forms(hasher, data):
    """Check that label sets may be sparse, and classes strings."""
    dense, fitted = _fitted(hasher, data), _copy(hasher).fit(data.X, sparse.csr_array(data.Y))
    _check_same("where y is sparse", _answers(fitted, data), _answers(dense, data))
    # In alphabetical order, so that classes sort as their numbers do.
    names = np.array([f"class {letter}" for letter in "abcdefghijkl"])
    by_number, by_name = (_copy(hasher).fit(data.X, y) for y in (data.y, names[data.y]))
    for name in ("database_codes_", "database_labels_"):
        what = f"{name} where classes are strings"
        _check_equal(what, getattr(by_name, name), getattr(by_number, name))
    _check_equal("classes_ of strings", by_name.classes_, names[by_number.classes_])
    predicted = by_number.predict(data.X_query)
    _check_equal("predict(X) of strings", by_name.predict(data.X_query), names[predicted])


def check_encode_labels(hasher, data):
    """Check that `encode_labels` gives a column for each of `classes_`, and none for others."""
    fitted = _fitted(hasher, data)
    _check_equal("encode_labels(y)", fitted.encode_labels(data.Y_query), data.Y_query)
    _check_raises("encode_labels(y) with a column less", fitted.encode_labels, data.Y[:, 1:])
    fitted = _copy(hasher).fit(data.X, data.y)
    y = np.append(data.y_query, data.y.max() + 1)
    expected = y[:, None] == fitted.classes_
    _check_equal("encode_labels(y) of classes", fitted.encode_labels(y), expected)


def check_without_labels(hasher, data):
    """Check that `fit` without labels raises where they are required, else `predict` does."""
    fitted = _copy(hasher)
    if get_tags(hasher).target_tags.required:
        _check_raises("fit(X), with labels required", fitted.fit, data.X)
        return
    fitted.fit(data.X)
    _check_is("database_labels_ after fit(X)", fitted.database_labels_, None)
    _check_raises("predict(X) after fit(X)", fitted.predict, data.X_query)
    _check_raises("score(X, y) after fit(X)", fitted.score, data.X_query, data.Y_query)


def check_score(hasher, data):
    """Check that `score` is the tie-exact NDCG of the first 100 ranks of the database."""
    fitted = _fitted(hasher, data)
    codes, database = fitted.transform(data.X_query), fitted.encode_database(data.X)
    expected = ndcg_score(codes, data.Y_query, database, data.Y, k=100)
    for y in (data.Y_query, sparse.csr_array(data.Y_query)):
        got = fitted.score(data.X_query, y)
        if not np.isclose(got, expected, rtol=1e-9, atol=0):
            raise AssertionError(
                f"score(X, y): expected ndcg_score(k=100), {expected}, got {got}."
            )


def check_set_database(hasher, data):
    """Check that `set_database` replaces codes and labels, or raises and replaces nothing."""
    fitted, X = _fitted(hasher, data), data.X_query
    codes = fitted.transform(X)
    _check_is("set_database(X, y)", fitted.set_database(X, data.Y_query), fitted)
    _check_equal("transform(X) after set_database", fitted.transform(X), codes)
    items = pack_codes(fitted.encode_database(X))
    _check_equal("database_codes_ of set_database", fitted.database_codes_, items)
    expected = pack_codes(data.Y_query)
    _check_equal("database_labels_ of set_database", fitted.database_labels_, expected)
    before = _answers(fitted, data)
    for y, what in [(data.Y_query[:, 1:], "of other labels"), (data.Y_query[1:], "too short")]:
        what = f"set_database(X, y) with y {what}"
        _check_raises(what, fitted.set_database, X[::-1], y)
        _check_same(f"after {what} raised", _answers(fitted, data), before)
    fitted.set_database(X)
    _check_is("database_labels_ after set_database(X)", fitted.database_labels_, None)
    by_class = _copy(hasher).fit(data.X, data.y)
    unseen = np.full(len(X), data.y.max() + 1)
    _check_raises("set_database(X, y) with an unseen class", by_class.set_database, X, unseen)


def check_failed_fit(hasher, data):
    """Check that a `fit` that raises leaves a hasher as it was, fitted or not."""
    X, Y = data.X, data.Y
    for faulty, labels, what in [
        (np.where(X > 2, np.nan, X), Y, "X has NaN"),
        (X[:, :3], Y[1:], "y is too short"),
        (X[:, :3], 2 * Y, "y is not 0 and 1"),
    ]:
        what = f"fit(X, y) where {what}"
        fitted, unfitted = _fitted(hasher, data), _copy(hasher)
        names, new_names, before = _learnt(fitted), _learnt(unfitted), _answers(fitted, data)
        _check_raises(what, fitted.fit, faulty, labels)
        _check_learnt(f"after {what} raised", fitted, names)
        _check_same(f"after {what} raised", _answers(fitted, data), before)
        _check_raises(what, unfitted.fit, faulty, labels)
        _check_learnt(f"after the first {what} raised", unfitted, new_names)


def check_partial_fit(hasher, data):
    """Check `partial_fit`, if there is one: no database, and what raises changes nothing."""
    if not hasattr(hasher, "partial_fit"):
        return
    parts = _copy(hasher)
    _check_is("partial_fit(X, y)", parts.partial_fit(data.X[:70], data.Y[:70]), parts)
    parts.partial_fit(data.X[70:], data.Y[70:])
    _check_equal("length of database_codes_ after partial_fit", len(parts.database_codes_), 0)
    _check_equal("n_features_in_ after partial_fit", parts.n_features_in_, data.X.shape[1])
    names, projection = _learnt(parts), parts.project(data.X_query)
    for what, faulty in [
        ("has NaN", np.where(data.X > 2, np.nan, data.X)),
        ("has a feature less", data.X[:, 1:]),
    ]:
        _check_raises(f"partial_fit(X, y) where X {what}", parts.partial_fit, faulty, data.Y)
        _check_learnt("after partial_fit raised", parts, names)
        got = parts.project(data.X_query)
        _check_equal("project(X) after partial_fit raised", got, projection)
    again = _copy(hasher).partial_fit(data.X[:70], data.Y[:70])
    got = again.partial_fit(data.X[70:], data.Y[70:]).project(data.X_query)
    _check_equal("project(X) of the same parts with the same seed", got, projection)
    parts.set_database(data.X, data.Y)
    codes = pack_codes(parts.encode_database(data.X))
    _check_equal("database_codes_ after partial_fit, set_database", parts.database_codes_, codes)
    expected = _answers(_fitted(hasher, data), data)
    _check_same("of fit after partial_fit", _answers(parts.fit(data.X, data.Y), data), expected)


def check_copies(hasher, data):
    """Check that a hasher that was pickled, cloned or saved answers as it did."""
    fitted = _fitted(hasher, data)
    copies = {"pickled": pickle.loads(pickle.dumps(fitted))}
    copies["cloned and fitted"] = _fitted(clone(fitted), data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hasher.safetensors"
        if hasattr(fitted, "save"):
            fitted.save(path)
            # A file cannot hold all parameters: functions have to be passed again.
            copies["saved"] = type(fitted).load(path, **fitted.get_params(deep=False))
    for how, copy in copies.items():
        _check_same(f"of the {how} hasher", _answers(copy, data), _answers(fitted, data))


_CHECKS = (
    check_codes,
    check_fit_again,
    check_fit_transform,
    check_feature_names_out,
    check_labels,
    check_kneighbors,
    check_predict,
    check_label_forms,
    check_encode_labels,
    check_without_labels,
    check_score,
    check_set_database,
    check_failed_fit,
    check_partial_fit,
    check_copies,
)


def find_unreadable_images(paths, *, decode=True, n_jobs=None):
    """Find the image files that :class:`skhash.DeepRankingHasher` would not read.

    Parameters
    ----------
    paths : array-like of shape (n_files,), of str or path-like
        Image files.

    decode : bool, default=True
        Whether to decode them, which takes about as long as an epoch of training reads them. If
        not, files are looked at only as far as `fit` does at its start: whether they are there,
        are empty, and have the header of an image. That does not tell files that were cut off.

    n_jobs : int, default=None
        Number of threads, as joblib understands it.

    Returns
    -------
    faults : dict of int to str
        What is wrong with files, by their positions in `paths`, ascending; empty if all is well.

    Raises
    ------
    ValueError
        If `paths` is a single path.

    Examples
    --------
    >>> from skhash.utils import find_unreadable_images
    >>> find_unreadable_images(["absent.jpg"])
    {0: 'does not exist'}

    Rows are kept for training with ``kept = np.setdiff1d(np.arange(len(paths)), [*faults])``.
    """
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise ValueError(
            "paths should be a sequence of paths of image files, got "
            f"{paths!r} alone: pass [path]."
        )
    paths = [os.fsdecode(path) for path in paths]
    return find_faults(paths, decode=decode, n_threads=effective_n_jobs(n_jobs))


def show_versions():
    """Print what a report of a fault needs: system, Python, and versions of dependencies.

    No dependency is imported for it. Where torch is imported already, its devices are printed too.

    Examples
    --------
    >>> from skhash.utils import show_versions
    >>> show_versions()
    <BLANKLINE>
    System:
             python: 3...
    """
    system = {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "machine": platform.platform(),
    }
    versions = {"scikit-hash": __version__} | {name: _version(name) for name in _DEPENDENCIES}
    _print_table("System", system)
    _print_table("Python dependencies", versions)
    if "torch" in sys.modules:
        _print_table("torch", _devices(sys.modules["torch"]))


def _print_table(title, values):
    print(f"\n{title}:")
    for name, value in values.items():
        print(f"{name:>15}: {value}")


def _version(distribution):
    """Return the installed version of a distribution, or None; it is not imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _devices(torch):
    """Return what torch says of the devices."""
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"threads": torch.get_num_threads(), "CUDA": torch.version.cuda, "GPUs": names or None}
