"""For those who write hashers, and for reports: checks of a hasher, and versions."""

import functools
import pickle
import platform
import re
import sys
import tempfile
from copy import deepcopy
from importlib import metadata
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import get_tags

from skhash._version import __version__
from skhash.codes import hamming_distances, pack_codes
from skhash.metrics._ranking import ndcg_score

__all__ = ["check_hasher", "parametrize_hasher_checks", "show_versions"]

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
    "faiss-gpu",
    "matplotlib",
    "threadpoolctl",
)

# More than the 100 ranks that `score` looks at, so that the cut-off counts.
_N_TRAIN = 130

_CHECKS = []


def check_hasher(hasher):
    """Check that a hasher keeps what the API of skhash and scikit-learn promises.

    It fits copies of the hasher to small generated data: 130 samples of 12 features, with sets of
    12 labels or 12 classes. After skhash's own checks it runs those of
    :func:`sklearn.utils.estimator_checks.check_estimator`, some of which have but one feature.

    Parameters
    ----------
    hasher : estimator
        A hasher, such as one derived from :class:`skhash.base.BaseHasher`. Its parameters should
        suit small data: few bits, few epochs. The object itself is left as it is.

    Raises
    ------
    TypeError
        If it is given a class, or an object that lacks methods of a hasher.

    AssertionError
        If a check of skhash fails. The error names the check, the hasher, what was expected and
        what was got.

    Exception
        What the first check of scikit-learn that fails raises.

    See Also
    --------
    parametrize_hasher_checks : Each check as a test of its own.

    Examples
    --------
    >>> from skhash import LSHHasher
    >>> from skhash.utils import check_hasher
    >>> check_hasher(LSHHasher(n_bits=4))
    """
    from sklearn.utils.estimator_checks import check_estimator

    _check_is_hasher(hasher)
    for check in _CHECKS:
        check(hasher)
    check_estimator(hasher, on_skip=None)


def parametrize_hasher_checks(hashers):
    """Make the decorator by which pytest runs each check of each hasher as a test of its own.

    Parameters
    ----------
    hashers : list of estimators
        Hashers, as :func:`check_hasher` takes them.

    Returns
    -------
    decorator : pytest.MarkDecorator
        For a function of two parameters, `hasher` and `check`.

    Raises
    ------
    TypeError
        If one is a class, or an object that lacks methods of a hasher.

    See Also
    --------
    check_hasher : All checks of one hasher.

    Examples
    --------
    >>> from skhash import LSHHasher
    >>> from skhash.utils import parametrize_hasher_checks
    >>> @parametrize_hasher_checks([LSHHasher(n_bits=4)])
    ... def test_hasher(hasher, check):
    ...     check(hasher)
    """
    import pytest
    from sklearn.utils.estimator_checks import estimator_checks_generator

    tests = []
    for hasher in hashers:
        _check_is_hasher(hasher)
        pairs = [(hasher, check) for check in _CHECKS] + [*estimator_checks_generator(hasher)]
        shown = re.sub(r"\s+", " ", repr(hasher))
        tests += [pytest.param(*pair, id=f"{shown}-{_name(pair[1])}") for pair in pairs]
    return pytest.mark.parametrize(("hasher", "check"), tests)


def _check_is_hasher(hasher):
    """Raise unless `hasher` is an object with the methods of a hasher."""
    if isinstance(hasher, type):
        raise TypeError(f"Expected a hasher, got the class {hasher.__name__}. Pass an instance.")
    methods = ("fit", "project", "transform", "set_database", "kneighbors", "predict", "score")
    if missing := [name for name in methods if not hasattr(hasher, name)]:
        raise TypeError(
            f"Expected a hasher, got {hasher!r}, which lacks {', '.join(missing)}. "
            "skhash.base.BaseHasher has them."
        )


def _name(check):
    """Name of a check with the arguments that are bound to it."""
    function = getattr(check, "func", check)
    bound = ",".join(f"{key}={value}" for key, value in getattr(check, "keywords", {}).items())
    return f"{function.__name__}({bound})" if bound else function.__name__


def _is_check(function):
    """Add a check to the list, and let its error name it."""

    @functools.wraps(function)
    def check(hasher):
        try:
            function(hasher)
        except Exception as error:
            kind = "" if type(error) is AssertionError else f"{type(error).__name__}: "
            raise AssertionError(
                f"{function.__name__} failed for {hasher!r}: {kind}{error}"
            ) from error

    _CHECKS.append(check)
    return check


@functools.cache
def _data():
    """Return training set and queries: samples, and label sets and classes they determine."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(_N_TRAIN + 30, 12))
    Z = X @ rng.normal(size=(12, 12)) / np.sqrt(12) + 0.1 * rng.normal(size=(len(X), 12))
    parts = X, (Z > 0.5).astype(np.uint8), Z.argmax(axis=1)
    train, queries = [part[:_N_TRAIN] for part in parts], [part[_N_TRAIN:] for part in parts]
    for part in (*train, *queries):
        part.flags.writeable = False
    return train, queries


def _copy(hasher, **params):
    """Unfitted copy of the hasher with these parameters and a fixed seed."""
    seed = {"random_state": 0} if "random_state" in hasher.get_params() else {}
    return clone(hasher).set_params(**seed, **params)


def _fitted(hasher, **params):
    """Copy of the hasher, fitted to the label sets."""
    (X, Y, _), _ = _data()
    return _copy(hasher, **params).fit(X, Y)


def _check_equal(got, expected, what):
    """Raise unless two arrays are equal, dtypes aside."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise AssertionError(f"{what}: expected shape {expected.shape}, got {got.shape}.")
    differ = np.argwhere(np.asarray(got != expected))
    if len(differ):
        at = tuple(differ[0].tolist())
        raise AssertionError(
            f"{what}: expected {expected[at]!r} at {at}, got {got[at]!r}; "
            f"{len(differ)} of {got.size} differ."
        )


def _check_raises(kind, call, what):
    """Raise unless the call raises an error of that kind."""
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{what}: expected {kind.__name__}, got no error.")


def _check_same(hasher, other, what):
    """Raise unless two fitted hashers answer alike."""
    expected = _answers(other)
    for name, got in _answers(hasher).items():
        _check_equal(got, expected[name], f"{name} {what}")


def _answers(hasher):
    """Return what a hasher fitted with labels answers, and its database."""
    _, (X, _, _) = _data()
    distances, indices = hasher.kneighbors(X)
    return {
        "transform(X)": hasher.transform(X),
        "database_codes_": hasher.database_codes_,
        "database_labels_": hasher.database_labels_,
        "classes_": hasher.classes_,
        "n_features_in_": hasher.n_features_in_,
        "distances of kneighbors(X)": distances,
        "indices of kneighbors(X)": indices,
        "predict(X)": hasher.predict(X),
    }


def _check_codes(codes, projection, n_bits):
    """Raise unless codes are the signs of the projection, as bits."""
    if codes.dtype != np.uint8:
        raise AssertionError(f"dtype of transform(X): expected uint8, got {codes.dtype}.")
    if projection.dtype.kind != "f":
        raise AssertionError(f"dtype of project(X): expected floats, got {projection.dtype}.")
    if projection.shape != (len(codes), n_bits):
        expected = (len(codes), n_bits)
        raise AssertionError(f"shape of project(X): expected {expected}, got {projection.shape}.")
    if others := sorted(set(np.unique(codes).tolist()) - {0, 1}):
        raise AssertionError(f"values of transform(X): expected 0 and 1, got also {others}.")
    _check_equal(codes, projection >= 0, "transform(X), which should be project(X) >= 0")


@_is_check
def check_codes_are_signs(hasher):
    """Check that `transform` gives bits, ``project(X) >= 0``."""
    fitted, (_, (X, _, _)) = _fitted(hasher), _data()
    _check_codes(fitted.transform(X), fitted.project(X), hasher.n_bits)


@_is_check
def check_code_lengths(hasher):
    """Check that codes have as many bits as asked for, whether or not they fill bytes."""
    _, (X, _, _) = _data()
    for n_bits in (1, 7, 8, 9):
        try:
            fitted = _fitted(hasher, n_bits=n_bits)
        except ValueError as error:
            # A hasher may refuse a length, if it says so.
            if "n_bits" not in str(error):
                raise
            continue
        _check_codes(fitted.transform(X), fitted.project(X), n_bits)
        _check_equal(
            fitted.database_codes_.shape,
            (_N_TRAIN, -(-n_bits // 8)),
            f"shape of database_codes_ with n_bits={n_bits}",
        )


@_is_check
def check_fit_transform(hasher):
    """Check that `fit_transform` gives the codes that `fit` and `transform` give."""
    (X, Y, _), _ = _data()
    expected = _fitted(hasher).transform(X)
    _check_equal(_copy(hasher).fit_transform(X, Y), expected, "fit_transform(X, y)")


@_is_check
def check_feature_names_out(hasher):
    """Check that each bit has a name of its own."""
    names = _fitted(hasher).get_feature_names_out()
    n_different = len(set(names))
    _check_equal((len(names), n_different), (hasher.n_bits,) * 2, "number of feature names out")


@_is_check
def check_database_is_training_set(hasher):
    """Check that `fit` keeps the packed codes and labels of the training set."""
    (X, Y, _), _ = _data()
    fitted = _copy(hasher)
    if fitted.fit(X, Y) is not fitted:
        raise AssertionError("fit(X, y): expected the hasher itself.")
    codes = pack_codes(fitted.encode_database(X))
    _check_equal(fitted.database_codes_, codes, "database_codes_")
    _check_equal(fitted.database_labels_, pack_codes(Y), "database_labels_")
    _check_equal(fitted.classes_, np.arange(Y.shape[1]), "classes_")


@_is_check
def check_kneighbors(hasher):
    """Check neighbours against a full sort by distance, and by index among equals."""
    fitted, (_, (X, _, _)) = _fitted(hasher), _data()
    level = hamming_distances(pack_codes(fitted.transform(X)), fitted.database_codes_)
    order = np.argsort(level, axis=1, kind="stable")
    for k in (1, fitted.n_neighbors, _N_TRAIN):
        distances, indices = fitted.kneighbors(X, n_neighbors=k)
        what = f"of kneighbors(X, n_neighbors={k})"
        _check_equal(indices, order[:, :k], f"indices {what}")
        _check_equal(distances, np.take_along_axis(level, indices, axis=1), f"distances {what}")
    indices = fitted.kneighbors(X, return_distance=False)
    _check_equal(indices, order[:, : fitted.n_neighbors], "kneighbors(X, return_distance=False)")
    _check_raises(
        ValueError,
        lambda: fitted.kneighbors(X, n_neighbors=_N_TRAIN + 1),
        "kneighbors(X, n_neighbors=n_database + 1)",
    )


@_is_check
def check_predict_label_sets(hasher):
    """Check that `predict` gives an indicator matrix where `fit` was given label sets."""
    fitted, (_, (X, Y, _)) = _fitted(hasher), _data()
    predicted = fitted.predict(X)
    _check_equal(predicted.shape, Y.shape, "shape of predict(X)")
    _check_equal(predicted, predicted == 1, "predict(X), which should be 0 and 1")


@_is_check
def check_class_labels(hasher):
    """Check that classes may be integers or strings, and that `predict` gives one a query."""
    (X, _, y), (X_query, _, y_query) = _data()
    # In alphabetical order, so that classes sort as their numbers do.
    names = np.array([f"class {letter}" for letter in "abcdefghijkl"])
    by_number = _copy(hasher).fit(X, y)
    by_name = _copy(hasher).fit(X, names[y])
    predicted = by_number.predict(X_query)
    _check_equal(predicted.shape, y_query.shape, "shape of predict(X)")
    if others := sorted(set(predicted.tolist()) - set(y.tolist())):
        raise AssertionError(f"predict(X): expected classes of y, got also {others}.")
    for name in ("database_codes_", "database_labels_"):
        expected = getattr(by_number, name)
        _check_equal(getattr(by_name, name), expected, f"{name} where classes are strings")
    _check_equal(by_name.classes_, names[by_number.classes_], "classes_ where they are strings")
    _check_equal(by_name.predict(X_query), names[predicted], "predict(X) of strings")


@_is_check
def check_sparse_labels(hasher):
    """Check that a sparse matrix of label sets does what the dense one does."""
    (X, Y, _), (X_query, Y_query, _) = _data()
    fitted = _copy(hasher).fit(X, sparse.csr_array(Y))
    dense = _fitted(hasher)
    _check_same(fitted, dense, "where y is sparse")
    score = fitted.score(X_query, sparse.csr_array(Y_query))
    _check_equal(score, dense.score(X_query, Y_query), "score(X, y) where y is sparse")


@_is_check
def check_without_labels(hasher):
    """Check that `fit` without labels raises where they are required, else `predict` does."""
    (X, _, _), (X_query, Y_query, _) = _data()
    fitted = _copy(hasher)
    if get_tags(hasher).target_tags.required:
        _check_raises(ValueError, lambda: fitted.fit(X), "fit(X), with labels required")
        return
    fitted.fit(X)
    if fitted.database_labels_ is not None:
        raise AssertionError("database_labels_ after fit(X): expected None.")
    _check_raises(ValueError, lambda: fitted.predict(X_query), "predict(X) after fit(X)")
    _check_raises(ValueError, lambda: fitted.score(X_query, Y_query), "score(X, y) after fit(X)")


@_is_check
def check_score_is_ndcg(hasher):
    """Check that `score` is the tie-exact NDCG of the first 100 ranks of the database."""
    (X, Y, _), (X_query, Y_query, _) = _data()
    fitted = _fitted(hasher)
    codes, database = fitted.transform(X_query), fitted.encode_database(X)
    expected = ndcg_score(codes, Y_query, database, Y, k=100)
    got = fitted.score(X_query, Y_query)
    if not np.isclose(got, expected, rtol=1e-9, atol=0):
        raise AssertionError(f"score(X, y): expected ndcg_score(k=100), {expected}, got {got}.")


@_is_check
def check_set_database(hasher):
    """Check that `set_database` replaces codes and labels, and nothing that was learnt."""
    fitted, (_, (X, Y, _)) = _fitted(hasher), _data()
    codes = fitted.transform(X)
    if fitted.set_database(X, Y) is not fitted:
        raise AssertionError("set_database(X, y): expected the hasher itself.")
    _check_equal(fitted.transform(X), codes, "transform(X) after set_database")
    items = pack_codes(fitted.encode_database(X))
    _check_equal(fitted.database_codes_, items, "database_codes_ of set_database")
    _check_equal(fitted.database_labels_, pack_codes(Y), "database_labels_ of set_database")
    fitted.set_database(X)
    if fitted.database_labels_ is not None:
        raise AssertionError("database_labels_ after set_database(X): expected None.")


@_is_check
def check_set_database_refuses_other_labels(hasher):
    """Check that labels that `fit` has not seen raise, and the database stays."""
    (X, _, y), (X_query, Y_query, _) = _data()
    unseen = np.full(len(X_query), y.max() + 1)
    for fitted, labels in [
        (_copy(hasher).fit(X, y), unseen),
        (_fitted(hasher), Y_query[:, 1:]),
        (_fitted(hasher), Y_query[1:]),
    ]:
        before = deepcopy(fitted)
        what = f"set_database(X, y) with y of shape {labels.shape}"
        _check_raises(ValueError, lambda: fitted.set_database(X_query, labels), what)  # noqa: B023
        _check_same(fitted, before, f"after {what} raised")


@_is_check
def check_failed_fit_changes_nothing(hasher):
    """Check that a `fit` that raises leaves a fitted hasher as it was."""
    (X, Y, _), _ = _data()
    fitted = _fitted(hasher)
    before, names = deepcopy(fitted), set(vars(fitted))
    for faulty, labels, what in [
        (np.where(X > 2, np.nan, X), Y, "fit(X, y) where X has NaN"),
        (X[:, :3], Y[1:], "fit(X, y) where y is too short"),
        (X[:, :3], 2 * Y, "fit(X, y) where y is not 0 and 1"),
    ]:
        _check_raises(ValueError, lambda: fitted.fit(faulty, labels), what)  # noqa: B023
        if changed := names ^ set(vars(fitted)):
            raise AssertionError(f"{what} took or added the attributes {sorted(changed)}.")
        _check_same(fitted, before, f"after {what} raised")


@_is_check
def check_random_state_decides(hasher):
    """Check that two fits with the same `random_state`, if there is one, give the same hasher."""
    _check_same(_fitted(hasher), _fitted(hasher), "of a second fit with the same random_state")


@_is_check
def check_copies(hasher):
    """Check that a hasher that was pickled, cloned or saved answers as it did."""
    fitted = _fitted(hasher)
    _check_same(pickle.loads(pickle.dumps(fitted)), fitted, "of the pickled hasher")
    refitted = clone(fitted).fit(*_data()[0][:2])
    _check_same(refitted, fitted, "of a clone that was fitted")
    if hasattr(fitted, "save"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hasher.safetensors"
            fitted.save(path)
            # A file cannot hold all parameters: functions have to be passed again.
            loaded = type(fitted).load(path, **fitted.get_params(deep=False))
        _check_same(loaded, fitted, "of the saved hasher")


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
