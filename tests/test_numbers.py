"""Numbers that no hasher may go wrong on in silence: far from the origin, large, small, all alike.

One table of hashers, and of each kind of number the right value or an error that names it.
"""

import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_blobs

from skhash import (
    BREHasher,
    CCAITQHasher,
    DeepRankingHasher,
    HDMLHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    MLHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash.deep.losses import LOSSES

DEEP = {"hidden_size": 16, "device": "cpu", "random_state": 0}
HASHERS = {
    "lsh": lambda: LSHHasher(16, random_state=0),
    "lsh, not centred": lambda: LSHHasher(16, center=False, random_state=0),
    "itq": lambda: ITQHasher(4, random_state=0),
    "cca-itq": lambda: CCAITQHasher(3, random_state=0),
    "spectral": lambda: SpectralHasher(8),
    "ksh": lambda: KSHHasher(6, n_anchors=20, n_labeled=500, random_state=0),
    "sdh": lambda: SDHHasher(6, n_anchors=20, random_state=0),
    "bre": lambda: BREHasher(8, max_iter=5, random_state=0),
    "mlh": lambda: MLHHasher(24, max_epochs=3, batch_size=200, random_state=0),
    "hdml": lambda: HDMLHasher(24, max_epochs=3, batch_size=200, random_state=0),
    "deep": lambda: DeepRankingHasher(8, max_epochs=3, batch_size=50, **DEEP),
}
# Hyperplanes through the origin are to see where the origin is.
CENTRED = [name for name in HASHERS if name != "lsh, not centred"]


@pytest.fixture(scope="module")
def data():
    """Float64 rows in five clusters about the origin, that float32 holds too, and classes."""
    X, y = make_blobs(260, 6, centers=5, random_state=0)
    return (X - X.mean(axis=0)).astype(np.float32).astype(np.float64), y


@pytest.fixture(autouse=True)
def no_warnings_of_numpy():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def codes_of(name, X, y):
    """Codes of 60 queries after a fit to the other rows."""
    return HASHERS[name]().fit(X[60:], y[60:]).transform(X[:60])


# Far from the origin.


@pytest.mark.parametrize("name", CENTRED)
def test_many_float32_rows_far_from_the_origin(name):
    # Their sum is so large that float32 would add each row with an error of many times its spread.
    X, y = make_blobs(20_000, 4, centers=5, center_box=(-8, 8), random_state=1)
    far = (50 * X + 1e6).astype(np.float32)
    exact = far.astype(np.float64) - 1e6
    params = {"max_epochs": 1, "batch_size": 400} if name == "deep" else {}
    scores = [
        HASHERS[name]().set_params(**params).fit(rows[60:], y[60:]).score(rows[:60], y[:60])
        for rows in (far, exact)
    ]
    assert scores[0] > scores[1] - 0.03


@pytest.mark.parametrize(
    "name", ["lsh", "itq", "cca-itq", "spectral", "bre", "mlh", "hdml", "deep"]
)
def test_means_of_many_float32_rows(name):
    rng = np.random.default_rng(0)
    X, y = rng.normal(1e6, 50, (20_000, 3)).astype(np.float32), rng.integers(3, size=20_000)
    params = {"mlh": {"max_epochs": 1}, "hdml": {"max_epochs": 1}, "deep": {"max_epochs": 0}}
    hasher = HASHERS[name]().set_params(n_bits=2, **params.get(name, {})).fit(X, y)
    assert hasher.mean_.dtype == np.float32
    assert_allclose(hasher.mean_, X.mean(axis=0, dtype=np.float64), rtol=1e-7)


@pytest.mark.parametrize("offset", [1e5, 1e8])
@pytest.mark.parametrize("name", CENTRED)
def test_float64_rows_far_from_the_origin(name, offset, data):
    X, y = data
    # What is left after rounding at the offset.
    exact = (X + offset) - offset
    near, far = codes_of(name, exact, y), codes_of(name, exact + offset, y)
    assert (near == far).mean() > 0.98


def test_wrong_components_far_from_the_origin():
    # The direction of least variance, of three, is lost if squares are summed before centring.
    X = np.random.default_rng(0).normal(size=(5000, 3)) * [1, 0.3, 0.1]
    for hasher in (SpectralHasher(3), ITQHasher(3, random_state=0)):
        near, far = (hasher.fit(rows.astype(np.float32)).components_ for rows in (X, X + 500))
        if isinstance(hasher, SpectralHasher):
            assert_allclose(np.abs(near), np.abs(far), atol=1e-3)
        assert_allclose(near.T @ near, far.T @ far, atol=1e-3)


# Large and small.


@pytest.mark.parametrize("exponent", [-280, 280])
@pytest.mark.parametrize("name", HASHERS)
def test_codes_do_not_depend_on_the_unit(name, exponent, data):
    X, y = data
    assert_array_equal(codes_of(name, np.ldexp(X, exponent), y), codes_of(name, X, y))


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4"])
@pytest.mark.parametrize("name", HASHERS)
def test_codes_do_not_depend_on_the_order_of_bytes(name, dtype, data):
    pandas = pytest.importorskip("pandas")
    X, y = (100 * data[0]).astype(dtype), data[1]
    expected = codes_of(name, X.astype(X.dtype.newbyteorder("=")), y)
    assert_array_equal(codes_of(name, X, y), expected)
    assert_array_equal(codes_of(name, pandas.DataFrame(X).to_numpy(), y), expected)
    # A frame keeps the order of bytes on its way through scikit-learn.
    assert_array_equal(codes_of(name, pandas.DataFrame(X), y), expected)


@pytest.mark.parametrize("exponent", [-45, 45, -105, 105])
@pytest.mark.parametrize("name", HASHERS)
def test_codes_of_float32_do_not_depend_on_the_unit(name, exponent, data):
    X, y = data[0].astype(np.float32), data[1]
    # Beyond the range in which float32 has squares, the work is done in float64.
    expected = codes_of(name, X if abs(exponent) < 50 else data[0], y)
    assert_array_equal(codes_of(name, np.ldexp(X, exponent), y), expected)


@pytest.mark.parametrize("exponent", [1000, 1018, -1000, -310])
@pytest.mark.parametrize("name", HASHERS)
def test_error_on_what_no_float_squares(name, exponent, data):
    X, y = data
    extreme = np.ldexp(X, exponent)
    match = "X should be between" if exponent > 0 else "X should vary by 5e-91 or more"
    with pytest.raises(ValueError, match=match) as error:
        HASHERS[name]().fit(extreme, y)
    # What it says would do does.
    advised = int(re.search(r"numpy.ldexp\(X, (-?\d+)\)", str(error.value))[1])
    assert_array_equal(codes_of(name, np.ldexp(extreme, advised), y), codes_of(name, X, y))


@pytest.mark.parametrize("name", HASHERS)
def test_error_on_one_row_beyond_the_range(name, data):
    X, y = data
    broken = X.copy()
    broken[17, 2] = -1e300
    with pytest.raises(
        ValueError, match=r"X should be between .* got an absolute value of 1e\+300"
    ):
        HASHERS[name]().fit(broken, y)
    hasher = HASHERS[name]().fit(X, y)
    before = hasher.database_codes_
    for method in (hasher.transform, hasher.kneighbors, hasher.predict, hasher.set_database):
        with pytest.raises(ValueError, match=r"X should be between .* got an absolute value"):
            method(broken)
    assert hasher.database_codes_ is before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in HASHERS if name != "deep"])
def test_far_queries_of_shallow_hashers(name, dtype, data):
    X, y = data
    hasher = HASHERS[name]().fit(X.astype(dtype), y)
    codes = [hasher.transform(factor * X[:5].astype(dtype)) for factor in (1e20, 1e37)]
    # Along a ray codes end up constant, but for those that are periodic.
    if name != "spectral":
        assert_array_equal(*codes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_far_query_of_the_deep_hasher_is_what_the_error_names(dtype, data):
    X, y = data[0].astype(dtype), data[1]
    hasher = HASHERS["deep"]().fit(X, y)
    codes = hasher.transform(X[:3])
    far = np.full((1, 6), 3e38 if dtype == np.float32 else 1e40, dtype)
    with pytest.raises(
        ValueError, match=r"X should be between .* standard deviations from the mean"
    ):
        hasher.transform(np.vstack([X[:3], far]))
    assert_array_equal(hasher.transform(X[:3]), codes)


def test_far_rows_of_a_network_that_takes_them_as_they_are(data):
    from torch import nn

    X, y = data
    hasher = DeepRankingHasher(8, network=lambda: nn.Linear(6, 4), max_epochs=1, **DEEP)
    with pytest.raises(ValueError, match=r"X should be between .* got an absolute value"):
        hasher.fit(1e20 * X, y)
    with pytest.raises(ValueError, match="X should vary over the training samples"):
        hasher.fit(1e-60 * X, y)
    with pytest.raises(ValueError, match=r"X should be between .* got an absolute value"):
        hasher.fit(X, y).transform(1e20 * X)


# All alike.


@pytest.mark.parametrize("name", [name for name in HASHERS if not name.startswith("lsh")])
def test_error_on_equal_rows(name, data):
    _, y = data
    X = np.tile([0.1, -2.0, 1e6], (len(y), 1))
    for rows in (X, X.astype(np.float32)):
        with pytest.raises(ValueError, match="X should vary over the training samples"):
            HASHERS[name]().fit(rows, y)


@pytest.mark.parametrize("name", ["cca-itq", "ksh", "sdh", "bre", "mlh", "hdml", "deep"])
def test_error_on_one_class(name, data):
    X, _ = data
    match = "y should (vary over|tell some)|Pass label sets that differ"
    for y in (np.zeros(len(X), int), np.ones((len(X), 2), int)):
        with pytest.raises(ValueError, match=match):
            HASHERS[name]().fit(X, y)


def test_error_on_equal_images():
    X = np.full((20, 8, 8, 3), 7, np.uint8)
    hasher = DeepRankingHasher(8, max_epochs=1, **DEEP)
    for fit in (hasher.fit, hasher.partial_fit):
        with pytest.raises(ValueError, match="X should vary over the training samples, got 20"):
            fit(X, np.arange(20) % 2)


# Labels by the thousand.


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_that_nearly_all_share(loss, data):
    X, y = data
    Y = np.hstack([np.ones((len(X), 1030), int), np.eye(5, dtype=int)[y]])
    Y[np.random.default_rng(0).random(Y.shape) < 0.001] = 0
    hasher = DeepRankingHasher(8, max_epochs=2, batch_size=50, loss=loss, **DEEP).fit(X, Y)
    assert np.isfinite(hasher.loss_curve_).all()
    assert 0 < hasher.score(X, Y) <= 1


# Files of before.


def test_hashers_whose_network_standardises_rows_itself(data, tmp_path):
    X, y = data
    hasher = HASHERS["deep"]().set_params(warm_start=True).fit(X, y)
    projection = hasher.project(X)
    # As a former version has left it.
    hasher.network_.standardize(hasher.mean_, hasher.scale_)
    del hasher.mean_, hasher.scale_
    hasher.save(tmp_path / "before")
    loaded = DeepRankingHasher.load(tmp_path / "before")
    assert_allclose(loaded.project(X), projection, atol=1e-4)
    assert_allclose(loaded.set_params(max_epochs=0).fit(X, y).project(X), projection, atol=1e-4)


def test_warm_start_keeps_the_standardisation_of_rows(data):
    X, y = data
    hasher = HASHERS["deep"]().set_params(warm_start=True).fit(X, y)
    mean, projection = hasher.mean_, hasher.project(X)
    hasher.set_params(max_epochs=0).fit(X[:100] + 1, y[:100])
    assert_array_equal(hasher.mean_, mean)
    # What codes are made from is learnt anew.
    assert_allclose(hasher.fit(X, y).project(X), projection, atol=1e-5)
    hasher.set_params(warm_start=False).fit(X[:100] + 1, y[:100])
    assert_allclose(hasher.mean_, X[:100].mean(axis=0) + 1)
