"""Graphs of codes: what they hold, and that scikit-learn's estimators take them."""

import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsTransformer,
    LocalOutlierFactor,
    NearestNeighbors,
    sort_graph_by_row_values,
)
from sklearn.pipeline import make_pipeline

from skhash import ITQHasher, LSHHasher
from skhash.codes import pack_codes
from skhash.neighbors import HammingNeighbors, HammingNeighborsTransformer

every_algorithm = pytest.mark.parametrize("algorithm", ["auto", "brute", "faiss", "multi_index"])


def make_codes(n_samples, n_bits, seed=0):
    """Codes of which some are there several times."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, (n_samples, n_bits), dtype=np.uint8)
    return codes[rng.integers(0, n_samples, n_samples)]


def rows_of(graph):
    """Columns and values of each row, as they are stored."""
    parts = [slice(*ends) for ends in zip(graph.indptr[:-1], graph.indptr[1:], strict=True)]
    return [(graph.indices[part], graph.data[part]) for part in parts]


@every_algorithm
@pytest.mark.parametrize("of_itself", [True, False])
def test_graphs_hold_what_is_found(algorithm, of_itself):
    if algorithm == "faiss":
        pytest.importorskip("faiss", reason="faiss is not installed")
    database, queries = make_codes(60, 10), make_codes(7, 10, seed=1)
    given = None if of_itself else queries
    search = HammingNeighbors(4, radius=2, algorithm=algorithm).fit(database)
    for found, make in [
        (search.kneighbors(given), search.kneighbors_graph),
        (search.radius_neighbors(given), search.radius_neighbors_graph),
    ]:
        graph, ones = make(given, mode="distance"), make(given)
        assert graph.shape == ones.shape == (60 if of_itself else 7, 60)
        assert graph.format == ones.format == "csr"
        assert graph.dtype == ones.dtype == np.float64
        expected = list(zip(*found, strict=True))
        for stored, one, (near, rows) in zip(rows_of(graph), rows_of(ones), expected, strict=True):
            assert_array_equal(stored[0], rows)
            assert_array_equal(stored[1], near)
            assert_array_equal(one[0], rows)
            assert_array_equal(one[1], np.ones(len(rows)))
        # Those of equal codes are there, as zeros.
        assert not of_itself or (graph.data == 0).any()
        assert sort_graph_by_row_values(graph, warn_when_not_sorted=True) is graph


def test_graphs_are_those_of_scikit_learn():
    database, queries = make_codes(60, 16), make_codes(7, 16, seed=1)
    ours = HammingNeighbors(60, radius=5).fit(database)
    theirs = NearestNeighbors(n_neighbors=60, radius=5.5 / 16, metric="hamming").fit(database)
    for mode in ("connectivity", "distance"):
        unit = 16 if mode == "distance" else 1
        for name in ("kneighbors_graph", "radius_neighbors_graph"):
            got, expected = (getattr(s, name)(queries, mode=mode) for s in (ours, theirs))
            assert type(got) is type(expected)
            assert got.nnz == expected.nnz
            assert_allclose(got.toarray(), unit * expected.toarray())
    assert_array_equal(ours.kneighbors_graph(queries, 3).sum(axis=1), 3)
    assert_array_equal(ours.radius_neighbors_graph(queries, 16).sum(axis=1), 60)


@pytest.mark.parametrize(
    ("interface", "kind"), [("sparray", sparse.csr_array), ("spmatrix", sparse.csr_matrix)]
)
def test_graphs_are_of_the_interface_that_is_configured(interface, kind):
    codes = make_codes(20, 8)
    with sklearn.config_context(sparse_interface=interface):
        assert type(HammingNeighbors().fit(codes).kneighbors_graph()) is kind
        assert type(HammingNeighborsTransformer(radius=1).fit_transform(codes)) is kind


def test_error_on_mode():
    search = HammingNeighbors().fit(make_codes(20, 8))
    for make in (search.kneighbors_graph, search.radius_neighbors_graph):
        with pytest.raises(ValueError, match='must be one of "connectivity", or "distance" but'):
            make(mode="distances")
    with pytest.raises(ValueError, match="'mode' parameter of HammingNeighborsTransformer must"):
        HammingNeighborsTransformer(mode="distances").fit(make_codes(20, 8))


# The transformer.


def test_transformer_finds_the_sample_itself_beside_its_neighbours():
    codes = np.unique(make_codes(60, 12), axis=0)
    for mode, n in [("distance", 5), ("connectivity", 4)]:
        transformer = HammingNeighborsTransformer(n_neighbors=4, mode=mode)
        graph = transformer.fit_transform(codes)
        # As the one of scikit-learn.
        theirs = KNeighborsTransformer(n_neighbors=4, mode=mode, metric="hamming")
        assert_array_equal(np.diff(graph.indptr), np.diff(theirs.fit_transform(codes).indptr))
        expected = HammingNeighbors(n).fit(codes).kneighbors_graph(codes, mode=mode)
        assert (graph != expected).nnz == 0
        assert_array_equal(graph.indices[::n], np.arange(len(codes)))


def test_transformer_within_a_radius():
    codes, queries = make_codes(60, 12), make_codes(5, 12, seed=1)
    transformer = HammingNeighborsTransformer(radius=3).fit(codes)
    expected = HammingNeighbors().fit(codes).radius_neighbors_graph(queries, 3, mode="distance")
    assert (transformer.transform(queries) != expected).nnz == 0
    own = transformer.transform(codes)
    stored = sparse.csr_array((np.ones(own.nnz), own.indices, own.indptr), shape=own.shape)
    assert_array_equal(stored.diagonal(), 1)


def test_transformer_of_packed_codes():
    codes = make_codes(60, 12)
    expected = HammingNeighborsTransformer().fit_transform(codes)
    got = HammingNeighborsTransformer(n_bits=12).fit_transform(pack_codes(codes))
    assert (got != expected).nnz == 0
    assert_array_equal(np.diff(expected.indptr), 6)


def test_transformer_attributes():
    codes = make_codes(9, 12)
    transformer = HammingNeighborsTransformer(n_neighbors=2).fit(codes)
    assert transformer.n_features_in_ == 12
    assert transformer.n_samples_fit_ == 9
    names = transformer.get_feature_names_out()
    assert names.tolist() == [f"hammingneighborstransformer{i}" for i in range(9)]
    assert not hasattr(clone(transformer), "search_")


def test_errors_of_the_transformer():
    codes = make_codes(9, 12)
    with pytest.raises(ValueError, match="n_neighbors=3 has no effect where a radius is given"):
        HammingNeighborsTransformer(n_neighbors=3, radius=1).fit(codes)
    with pytest.raises(ValueError, match="radius should be a whole number of bits"):
        HammingNeighborsTransformer(radius=1.5).fit(codes)
    with pytest.raises(ValueError, match="got n_neighbors=10, n_database=9"):
        HammingNeighborsTransformer(n_neighbors=9).fit_transform(codes)
    with pytest.raises(NotFittedError):
        HammingNeighborsTransformer().transform(codes)


# Estimators of scikit-learn.


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600]


def codes_of(X):
    return ITQHasher(32, random_state=0).fit_transform(X)


def piped(*steps):
    """A pipeline from samples by way of codes to the last step."""
    return make_pipeline(ITQHasher(32, random_state=0), *steps)


def test_classifier_on_the_graph(digits):
    X, y = digits
    classifier = KNeighborsClassifier(n_neighbors=10, metric="precomputed")
    pipeline = piped(HammingNeighborsTransformer(n_neighbors=10), classifier)
    pipeline.fit(X[:500], y[:500])
    codes = pipeline[0].transform(X)
    direct = KNeighborsClassifier(n_neighbors=10, metric="hamming").fit(codes[:500], y[:500])
    # Which of the items at the last distance vote is a matter of order.
    near = HammingNeighbors(11).fit(codes[:500]).kneighbors(codes[500:])[0]
    is_one = near[:, 9] < near[:, 10]
    assert is_one.sum() > 5
    predicted = pipeline[-1].predict_proba(pipeline[:-1].transform(X[500:]))
    assert_array_equal(predicted[is_one], direct.predict_proba(codes[500:])[is_one])
    assert pipeline.score(X[500:], y[500:]) > 0.7


@pytest.mark.parametrize("radius", [0, 3, 5])
def test_clusters_of_the_graph(digits, radius):
    pipeline = piped(
        HammingNeighborsTransformer(radius=radius),
        DBSCAN(eps=max(radius, 0.5), min_samples=4, metric="precomputed"),
    )
    direct = DBSCAN(eps=(radius + 0.5) / 32, min_samples=4, metric="hamming")
    labels = direct.fit_predict(codes_of(digits[0]))
    assert radius == 0 or len(np.unique(labels)) > 2
    assert_array_equal(pipeline.fit_predict(digits[0]), labels)


def test_embedding_of_the_graph(digits):
    # All others are neighbours: no tie is broken in another way.
    X = digits[0][:90]
    parameters = {"init": "random", "perplexity": 29.6, "max_iter": 250, "random_state": 0}
    pipeline = piped(
        HammingNeighborsTransformer(n_neighbors=89), TSNE(metric="precomputed", **parameters)
    )
    direct = TSNE(metric=lambda a, b: np.sum(a != b), **parameters)
    assert_allclose(pipeline.fit_transform(X), direct.fit_transform(codes_of(X)), rtol=1e-3)


def test_outliers_of_the_graph(digits):
    codes = codes_of(digits[0])
    graph = HammingNeighborsTransformer(n_neighbors=599).fit_transform(codes)
    got = LocalOutlierFactor(599, metric="precomputed").fit(graph)
    direct = LocalOutlierFactor(599, metric="hamming").fit(codes)
    assert_allclose(got.negative_outlier_factor_, direct.negative_outlier_factor_)


def test_estimators_take_graphs_without_a_warning(digits):
    X, y = digits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for transformer in (
            HammingNeighborsTransformer(n_neighbors=10),
            HammingNeighborsTransformer(radius=32),
        ):
            last = KNeighborsClassifier(metric="precomputed")
            pipeline = make_pipeline(LSHHasher(32, random_state=0), transformer, last)
            pipeline.fit(X, y).predict(X)


def test_transform_takes_parameters_as_they_are_now():
    codes = np.random.default_rng(0).integers(0, 2, (60, 12), dtype=np.uint8)
    fitted = HammingNeighborsTransformer(n_neighbors=5).fit(codes)
    for params in ({"n_neighbors": 9}, {"n_neighbors": None, "radius": 3}, {"radius": 2}):
        expected = HammingNeighborsTransformer(**{"n_neighbors": None, **params}).fit(codes)
        fitted.set_params(**{"n_neighbors": None, **params})
        assert (fitted.transform(codes[:7]) != expected.transform(codes[:7])).nnz == 0


def test_nothing_is_removed():
    codes = np.eye(4, dtype=np.uint8)
    search = HammingNeighbors(1).fit(codes).remove([])
    assert search.n_samples_fit_ == 4
