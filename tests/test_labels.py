"""Labels as people bring them: of another type, missing, with names; through every hasher."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from test_common import HASHERS

from skhash import LSHHasher, metrics
from skhash.metrics import (
    HammingHistogram,
    RankingCurveDisplay,
    RetrievalDisplay,
    get_scorer_names,
    make_retrieval_scorer,
)

all_hashers = pytest.mark.parametrize("hasher", HASHERS, ids=lambda h: type(h).__name__)
NAMES = ["sea", "sky", "dog"]


@pytest.fixture(scope="module")
def data():
    """Samples with label sets, and with one class each, that can be read off them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    Z = X @ rng.normal(size=(6, 3))
    return X, (Z > 0).astype(np.uint8), Z.argmax(axis=1)


class Frame:
    """What is asked of a data frame of any package: names of columns, and an array."""

    def __init__(self, values, columns):
        self.values, self.columns = np.asarray(values), columns
        self.shape = self.values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype, copy=copy)

    def __len__(self):
        return len(self.values)


# Queries of another type.

OTHER_TYPES = {
    "str": lambda y: y.astype(str),
    "object": lambda y: y.astype(str).astype(object),
    "list": lambda y: [str(label) for label in y],
    "datetime": lambda y: y.astype("M8[D]"),
    "other numbers": lambda y: y + 10,
}


@all_hashers
@pytest.mark.parametrize("convert", OTHER_TYPES.values(), ids=OTHER_TYPES)
def test_queries_of_classes_that_no_one_knows(hasher, convert, data):
    X, _, y = data
    fitted = clone(hasher).fit(X, y)
    message = rf"no class that this {type(hasher).__name__} knows: got .* it knows \[0 1 2\]"
    with pytest.raises(ValueError, match=message):
        fitted.score(X, convert(y))
    with pytest.raises(ValueError, match="classes that fit has not seen"):
        fitted.set_database(X, convert(y))
    # The same the other way round.
    if convert is OTHER_TYPES["str"]:
        with pytest.raises(ValueError, match="no class that this"):
            fitted.fit(X, convert(y)).score(X, y)


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("metric", get_scorer_names())
def test_scorers_of_classes_that_no_one_knows(metric, asymmetric, data):
    X, _, y = data
    scorer = make_retrieval_scorer(metric, k=5, asymmetric=asymmetric)
    hasher = LSHHasher(4, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="no class that this LSHHasher knows"):
        scorer(hasher, X, y.astype(str))
    assert scorer(hasher, X, y.astype(float)) == scorer(hasher, X, y) > 0
    # One that is known is enough: folds of a cross-validation may lack some.
    assert scorer(hasher, X[:2], [y[0], 99]) == scorer(hasher, X[:1], y[:1]) / 2


def test_displays_of_classes_that_no_one_knows(data):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    X, _, y = data
    hasher = LSHHasher(4, random_state=0).fit(X, y)
    for Display in (RankingCurveDisplay, metrics.PrecisionRecallDisplay):
        with pytest.raises(ValueError, match="no class that this LSHHasher knows"):
            Display.from_estimator(hasher, X, y.astype(str))


def test_classes_that_the_database_lacks_are_known(data):
    X, _, y = data
    hasher = LSHHasher(4, random_state=0).fit(X, y).set_database(X[y == 0], y[y == 0])
    assert hasher.score(X[y == 1], y[y == 1]) == 0


@pytest.mark.parametrize("metric", get_scorer_names())
def test_metrics_of_class_labels_of_two_kinds(metric, data):
    X, _, y = data
    codes, score = (X[:, :4] > 0).astype(int), getattr(metrics, f"{metric}_score")
    expected = score(codes, y, codes, y)
    assert score(codes, y.astype(float), codes, y) == expected
    for one, other in [(y, y.astype(str)), (y.astype(str), y), (y.astype("M8[D]"), y)]:
        with pytest.raises(ValueError, match=r"must be class labels of one kind, .* got dtypes"):
            score(codes, one, codes, other)
        with pytest.raises(ValueError, match="class labels of one kind"):
            HammingHistogram.from_codes(codes, one, codes, other)
    # Classes that the database lacks are no mistake of type.
    assert score(codes, y + 10, codes, y) == 0


# Missing labels.

MISSING = {
    "None": np.array(["a", None] * 30, dtype=object),
    "NaN": np.array(["a", np.nan] * 30, dtype=object),
    "NaT": np.array(["2020-01-01", "NaT"] * 30, dtype="M8[D]"),
    "None in sets": np.array([[1, None]] * 60, dtype=object),
}


@all_hashers
@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
def test_error_on_missing_labels(hasher, y, data):
    message = r"Input y contains NaN or missing values, such as .* in row [01]\. Leave such rows"
    with pytest.raises(ValueError, match=message):
        clone(hasher).fit(data[0], y)


@all_hashers
def test_error_on_complex_labels(hasher, data):
    with pytest.raises(ValueError, match="y should be labels, got complex numbers, of dtype c"):
        clone(hasher).fit(data[0], data[2] + 1j)


PANDAS = {
    "string": (["a", "b"], "string"),
    "str": (["a", "b"], "str"),
    "object": (["a", "b"], object),
    "boolean": ([False, True], "boolean"),
    "category": (["a", "b"], "category"),
    "Int64": ([1, 2], "Int64"),
    "Float64": ([1.0, 2.0], "Float64"),
    "datetime": (["2020-01-01", "2020-01-02"], "datetime64[ns]"),
}


@pytest.mark.parametrize(("values", "dtype"), PANDAS.values(), ids=PANDAS)
def test_pandas_columns_as_class_labels(values, dtype, data):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = data[0]
    y = pandas.Series(values * 30, dtype=dtype)
    hasher = LSHHasher(8, random_state=0).fit(X, y)
    assert_array_equal(hasher.classes_, np.unique(np.asarray(y)))
    numbers = LSHHasher(8, random_state=0).fit(X, [0, 1] * 30)
    assert_array_equal(hasher.predict(X), hasher.classes_[numbers.predict(X)])
    assert hasher.score(X, y) == numbers.score(X, [0, 1] * 30)
    y = pandas.Series([values[0], None] * 30, dtype=dtype)
    for call in (hasher.fit, hasher.set_database, hasher.score):
        with pytest.raises(ValueError, match="Input y contains NaN"):
            call(X, y)


def test_pandas_frames_with_missing_values(data):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = data[0]
    for dtype in ("boolean", "Int64", "float64", object):
        y = pandas.DataFrame({"sea": [1, None] * 30, "sky": [0, 1] * 30}).astype(dtype)
        with pytest.raises(ValueError, match="Input y contains NaN"):
            LSHHasher(8).fit(X, y)


def test_strings_of_variable_width(data):
    X, _, y = data
    names = np.array(NAMES)[y]
    hasher = LSHHasher(8, random_state=0).fit(X, names.astype(np.dtypes.StringDType()))
    expected = LSHHasher(8, random_state=0).fit(X, names)
    assert_array_equal(hasher.predict(X), expected.predict(X))
    assert hasher.score(X, names) == expected.score(X, names)


def test_error_on_records_as_labels(data):
    y = np.zeros(60, dtype=[("a", int)])
    with pytest.raises(ValueError, match="Unknown label type: records"):
        LSHHasher(8).fit(data[0], y)


# Names of labels.


def frames():
    """Ways to make a data frame, by name."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return lambda values, columns: pandas.DataFrame(values, columns=columns)


@pytest.fixture(params=["own", "pandas"])
def frame(request):
    """A function that makes a data frame."""
    if request.param == "own":
        return Frame
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return lambda values, columns: pandas.DataFrame(values, columns=columns)


@all_hashers
def test_names_of_columns_are_classes(hasher, data, frame):
    X, Y, _ = data
    plain, named = clone(hasher).fit(X, Y), clone(hasher)
    if "random_state" in hasher.get_params():
        plain.set_params(random_state=0).fit(X, Y)
        named.set_params(random_state=0)
    named.fit(X, frame(Y, NAMES))
    assert named.classes_.tolist() == NAMES
    assert plain.classes_.tolist() == [0, 1, 2]
    assert_array_equal(named.database_codes_, plain.database_codes_)
    assert_array_equal(named.predict(X), plain.predict(X))
    for y in (frame(Y, NAMES), Y, sparse.csr_array(Y), frame(Y, [0, 1, 2])):
        assert named.score(X, y) == plain.score(X, Y)
    assert_array_equal(named.set_database(X[:9], frame(Y[:9], NAMES)).predict(X).shape, (60, 3))


BAD_NAMES = {
    "order": (["sky", "sea", "dog"], r"same order: \['sea', 'sky', 'dog'\], got \['sky', 'sea'"),
    "other": (["sea", "sky", "cat"], "not expected:\n- cat\nLabel names that are missing:\n- dog"),
    "more": ([*NAMES, *"abcdefg"], r"- a\n- b\n- c\n- d\n- e\n- \.\.\.\n$"),
    "fewer": (NAMES[:2], "Label names that are missing:\n- dog\n"),
}


@all_hashers
@pytest.mark.parametrize(("names", "message"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_error_on_other_names(hasher, names, message, data):
    X, Y, _ = data
    fitted = clone(hasher).fit(X, Frame(Y, NAMES))
    y = Frame(np.resize(Y, (60, len(names))), names)
    expected = (
        rf"(?s)^The label names of y should match those that were passed during fit\..*{message}"
    )
    for call in (fitted.score, fitted.set_database, fitted.add_to_database, fitted.encode_labels):
        with pytest.raises(ValueError, match=expected):
            call(*([y] if call == fitted.encode_labels else [X, y]))
    assert fitted.classes_.tolist() == NAMES
    assert len(fitted.database_codes_) == 60


def test_names_that_a_database_brings(data):
    X, Y, _ = data
    hasher = LSHHasher(4, random_state=0).fit(X).set_database(X, Frame(Y, NAMES))
    assert hasher.classes_.tolist() == NAMES
    with pytest.raises(ValueError, match="label names of y"):
        hasher.score(X, Frame(Y, NAMES[::-1]))
    # A new database brings new ones.
    assert hasher.set_database(X, Frame(Y, NAMES[::-1])).score(X, Frame(Y, NAMES[::-1])) > 0


def test_names_in_parts(data):
    from skhash import CCAITQHasher

    X, Y, _ = data
    hasher = CCAITQHasher(2, random_state=0).partial_fit(X, Frame(Y, NAMES))
    with pytest.raises(ValueError, match="label names of y"):
        hasher.partial_fit(X, Frame(Y, NAMES[::-1]))
    assert hasher.partial_fit(X, Frame(Y, NAMES)).classes_.tolist() == NAMES


@pytest.mark.parametrize("metric", get_scorer_names())
def test_metrics_check_names(metric, data):
    X, Y, _ = data
    codes, score = (X[:, :4] > 0).astype(int), getattr(metrics, f"{metric}_score")
    expected = score(codes, Y, codes, Y)
    for database in (Y, Frame(Y, NAMES), Frame(Y, range(3))):
        assert score(codes, Frame(Y, NAMES), codes, database) == expected
        assert score(codes, database, codes, Frame(Y, NAMES)) == expected
    message = "label names of database_labels should match those of query_labels"
    with pytest.raises(ValueError, match=message):
        score(codes, Frame(Y, NAMES), codes, Frame(Y, NAMES[::-1]))


def test_captions_are_names(data):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    X, Y, _ = data
    images = np.zeros((60, 4, 4, 3), np.uint8)
    hasher = LSHHasher(4, random_state=0).fit(X, Frame(Y, NAMES))
    shown = {"query_images": images[:3], "database_images": images}
    codes = hasher.transform(X)
    for display in (
        RetrievalDisplay.from_estimator(hasher, X[:3], Frame(Y[:3], NAMES), **shown),
        RetrievalDisplay.from_estimator(hasher, X[:3], Y[:3], **shown),
        RetrievalDisplay.from_codes(codes[:3], Y[:3], codes, Frame(Y, NAMES), **shown),
    ):
        expected = [[NAMES[i] for i in np.flatnonzero(row)] for row in Y[:3]]
        assert display.query_labels == expected
        caption = display.axes_[0, 0].get_xlabel().replace("\n", " ")
        assert caption == (", ".join(expected[0]) or "no label")
