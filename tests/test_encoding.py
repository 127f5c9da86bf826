"""Codes of items, chosen as a whole, and of queries: against all codes, and in the hasher."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge
from test_deep_hasher import make_hasher, make_images, make_rows

from skhash import DeepRankingHasher
from skhash.codes import pack_codes
from skhash.deep._encoding import code_moments, query_map, refined_codes
from skhash.deep.losses import NestedLoss, TieAwareNDCGLoss
from skhash.metrics import make_retrieval_scorer, ndcg_score


def make_relaxed(n=40, n_bits=6, seed=0):
    """Relaxed codes of bits that depend on each other."""
    rng = np.random.default_rng(seed)
    return np.tanh(rng.normal(size=(n, 3)) @ rng.normal(size=(3, n_bits)))


def error_of(codes, relaxed, moment):
    """The error that the codes are to make small, one a row."""
    e = 2.0 * codes - 1 - relaxed
    own = relaxed / np.linalg.norm(relaxed, axis=1, keepdims=True)
    weight = 5 * np.trace(moment) / len(moment)
    return np.einsum("ij,jk,ik->i", e, moment, e) + weight * (e * own).sum(axis=1) ** 2


def moment_of(relaxed):
    return relaxed.T @ relaxed / len(relaxed)


def refined(relaxed, lengths=None):
    return refined_codes(relaxed, moment_of(relaxed), lengths or [relaxed.shape[1]])


def test_moments_are_the_means_of_outer_products():
    h = make_relaxed(30).astype(np.float32)
    b = 2.0 * refined(h.astype(float)) - 1
    moments = code_moments(h, [6])
    for moment, (one, other) in zip(moments, [(h, h), (b, b), (b, h)], strict=True):
        expected = np.mean([np.outer(x, y) for x, y in zip(one, other, strict=True)], axis=0)
        assert_allclose(moment, expected, rtol=1e-5, atol=1e-7)


def test_queries_are_mapped_by_a_ridge_regression():
    h = make_relaxed(200)
    b = 2.0 * refined(h) - 1
    # Of the inner products with relaxed codes on those with binary codes, over items.
    for query, mapped in zip(h[:9], h[:9] @ query_map(code_moments(h, [6])).T, strict=True):
        ridge = Ridge(alpha=0.75 * len(b), fit_intercept=False).fit(b, h @ query)
        assert_allclose(mapped, ridge.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_single_bit_lowers_the_error(seed):
    relaxed = make_relaxed(200, 12, seed)
    moment = moment_of(relaxed)
    codes = refined(relaxed)
    error = error_of(codes, relaxed, moment)
    assert (error <= error_of(relaxed >= 0, relaxed, moment) + 1e-9).all()
    assert error.sum() < 0.9 * error_of(relaxed >= 0, relaxed, moment).sum()
    for bit in range(12):
        flipped = codes.copy()
        flipped[:, bit] ^= True
        assert (error_of(flipped, relaxed, moment) >= error - 1e-6).all()


def test_the_minimum_over_all_codes_is_near():
    relaxed = make_relaxed()
    moment = moment_of(relaxed)
    every = np.array(list(itertools.product([False, True], repeat=6)))
    least = np.min([error_of(np.tile(code, (40, 1)), relaxed, moment) for code in every], axis=0)
    error, signs = (error_of(c, relaxed, moment) for c in (refined(relaxed), relaxed >= 0))
    assert (error >= least - 1e-9).all()
    # Most of what signs lose is made good.
    assert (error - least).sum() < 0.2 * (signs - least).sum()


def test_independent_bits_stay_signs():
    rng = np.random.default_rng(0)
    relaxed = np.tanh(rng.normal(size=(50, 8)))
    codes = refined_codes(relaxed, np.zeros((8, 8)), [8])
    assert_array_equal(codes, relaxed >= 0)


def test_binary_codes_stay_as_they_are():
    relaxed = np.sign(make_relaxed())
    assert_array_equal(refined(relaxed), relaxed > 0)


def test_codes_of_zero():
    relaxed = np.zeros((3, 5))
    assert refined_codes(relaxed, np.eye(5), [5]).all()


@pytest.mark.parametrize("lengths", [[2, 6], [1, 3, 6]])
def test_first_bits_are_those_of_the_shorter_code(lengths):
    relaxed = make_relaxed()
    moment = moment_of(relaxed)
    codes = refined(relaxed, lengths)
    for i, length in enumerate(lengths):
        first = refined_codes(relaxed[:, :length], moment[:length, :length], lengths[: i + 1])
        assert_array_equal(codes[:, :length], first)


# In the hasher.


def make_joint(**params):
    return make_hasher(n_bits=16, encoding="joint", **params)


def expected_codes(hasher, X, lengths=(16,)):
    """Codes of queries and of items, as the formulas have them."""
    relaxed = hasher.relaxed_codes(X)
    moments = code_moments(relaxed, lengths)
    return relaxed @ query_map(moments).T, refined_codes(relaxed, moments[0], lengths)


@pytest.mark.parametrize("make", [make_rows, make_images])
def test_queries_and_items_have_codes_of_their_own(make, tmp_path):
    X, Y = make()
    hasher = make_joint().fit(X, Y)
    signs = make_joint().set_params(encoding="signs").fit(X, Y)
    assert_allclose(hasher.relaxed_codes(X), np.tanh(signs.project(X) / 2), rtol=1e-5, atol=1e-6)
    queries, items = expected_codes(hasher, X)
    assert_allclose(hasher.project(X), queries, rtol=1e-4, atol=1e-5)
    assert hasher.project(X).dtype == np.float32
    assert_array_equal(hasher.transform(X), hasher.project(X) >= 0)
    assert_array_equal(hasher.encode_database(X), items)
    assert_array_equal(hasher.database_codes_, pack_codes(items))
    assert not np.array_equal(hasher.transform(X), items)
    assert_array_equal(hasher.bit_weights(X), np.abs(hasher.project(X)))
    assert_array_equal(make_joint().fit_transform(X, Y), hasher.transform(X))
    # A part of a database is encoded as it is within the whole.
    assert_array_equal(hasher.set_database(X[7:20]).database_codes_, pack_codes(items[7:20]))
    hasher.save(tmp_path / "hasher")
    loaded = DeepRankingHasher.load(tmp_path / "hasher")
    assert_array_equal(loaded.project(X), hasher.project(X))
    assert_array_equal(loaded.encode_database(X), items)


def test_scores_are_those_of_both_codes():
    X, Y = make_rows(100)
    hasher = make_joint().fit(X[:70], Y[:70])
    codes, database = hasher.transform(X[70:]), hasher.encode_database(X[:70])
    expected = ndcg_score(codes, Y[70:], database, Y[:70], k=100)
    assert hasher.score(X[70:], Y[70:]) == expected
    assert make_retrieval_scorer("ndcg", k=100)(hasher, X[70:], Y[70:]) == expected


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("k", [5, None])
def test_leave_one_out_takes_both_codes(asymmetric, k):
    X, Y = make_rows(40)
    hasher = make_joint().fit(X, Y)
    codes, items = hasher.transform(X), hasher.encode_database(X)
    weights = hasher.bit_weights(X)
    values = []
    for row in range(40):
        others = np.arange(40) != row
        weight = {"query_weights": weights[[row]]} if asymmetric else {}
        query = codes[[row]], Y[[row]], items[others], Y[others]
        values.append(ndcg_score(*query, k=k, **weight))
    scorer = make_retrieval_scorer("ndcg", k=k, protocol="leave_one_out", asymmetric=asymmetric)
    assert scorer(hasher, X, Y) == pytest.approx(np.mean(values))


def test_signs_are_alike_for_queries_and_items():
    X, Y = make_rows()
    hasher = make_joint().set_params(encoding="signs").fit(X, Y)
    assert_array_equal(hasher.encode_database(X), hasher.transform(X))
    assert_array_equal(hasher.database_codes_, pack_codes(hasher.transform(X)))
    assert_allclose(hasher.bit_weights(X), np.abs(hasher.relaxed_codes(X)))
    assert not hasattr(hasher, "code_moments_")


@pytest.mark.parametrize(
    ("make", "n_several", "encoding"),
    [
        (make_rows, 0, "items"),
        (make_rows, 10, "items"),
        (make_rows, 11, "joint"),
        (make_rows, 60, "joint"),
        (make_images, 10, "signs"),
        (make_images, 11, "joint"),
    ],
)
def test_auto_depends_on_how_many_samples_have_several_labels(make, n_several, encoding):
    X, _ = make(100)
    Y = np.eye(3, dtype=int)[np.arange(100) % 3]
    Y[:n_several] = 1
    auto, expected = (
        make_joint().set_params(encoding=choice).fit(X, Y) for choice in ("auto", encoding)
    )
    assert auto.encoding_ == expected.encoding_ == encoding
    assert_array_equal(auto.database_codes_, expected.database_codes_)
    assert_array_equal(auto.transform(X), expected.transform(X))


@pytest.mark.parametrize("n_heads", [1, 2])
def test_items_as_a_whole_and_queries_by_signs(n_heads, tmp_path):
    X, Y = make_rows()
    params = {"n_bits": 16, "n_heads": n_heads}
    hasher, signs, joint = (
        make_hasher(encoding=encoding, **params).fit(X, Y)
        for encoding in ("items", "signs", "joint")
    )
    assert_array_equal(hasher.project(X), signs.project(X))
    assert_array_equal(hasher.encode_database(X), joint.encode_database(X))
    assert_array_equal(hasher.database_codes_, joint.database_codes_)
    assert_allclose(hasher.bit_weights(X), np.abs(hasher.relaxed_codes(X)), rtol=1e-6)
    hasher.save(tmp_path / "hasher")
    loaded = DeepRankingHasher.load(tmp_path / "hasher")
    assert_array_equal(loaded.project(X), hasher.project(X))
    assert_array_equal(loaded.encode_database(X), hasher.encode_database(X))


def test_fit_decides_on_the_encoding():
    X, Y = make_rows()
    hasher = make_joint().fit(X, Y)
    codes = hasher.transform(X)
    assert_array_equal(hasher.set_params(encoding="signs").transform(X), codes)
    hasher.fit(X, Y).set_params(encoding="joint")
    assert_array_equal(hasher.encode_database(X), hasher.transform(X))


def test_codes_of_parts_are_made_from_the_last_part():
    X, Y = make_rows(100)
    hasher = make_joint().fit(X[:50], Y[:50]).partial_fit(X[50:], Y[50:])
    expected = code_moments(hasher.relaxed_codes(X[50:]), [16])
    assert_allclose(hasher.code_moments_, expected)
    hasher.set_database(X, Y)
    assert_allclose(hasher.code_moments_, expected)


def test_shorter_codes_are_made_at_each_length_of_a_nested_loss():
    X, Y = make_rows()
    nested = NestedLoss(TieAwareNDCGLoss(), lengths=(8, 16))
    hasher = make_joint(loss=nested).fit(X, Y)
    short = hasher.shorten(8)
    queries, items = expected_codes(short, X, lengths=(8,))
    assert_array_equal(short.database_codes_, hasher.database_codes_[:, :1])
    assert_array_equal(short.database_codes_, pack_codes(items))
    assert_allclose(short.project(X), queries, rtol=1e-4, atol=1e-5)
    assert_array_equal(short.set_database(X, Y).database_codes_, hasher.database_codes_[:, :1])


def test_error_on_the_encoding():
    with pytest.raises(ValueError, match="'encoding' parameter of DeepRankingHasher"):
        make_hasher(encoding="best").fit(*make_rows())


@pytest.mark.parametrize(("square", "factors"), [(0.4, (1e-3, 0.1)), (0.8, (1.5, 10.0))])
def test_codes_do_not_depend_on_a_scale_that_is_out_of_range(square, factors):
    relaxed = make_relaxed(50)
    relaxed *= np.sqrt(square / np.square(relaxed).mean())
    for factor in factors:
        assert_array_equal(refined(factor * relaxed), refined(relaxed))
    assert not np.array_equal(refined(relaxed * np.sqrt(0.6 / square)), refined(relaxed))


def test_short_relaxed_codes_are_not_matched_by_bits_that_cancel_out():
    # Four bits say the same, weakly: unscaled, two of them would say the opposite.
    relaxed = 0.05 * np.array([[1.0, 1, 1, 1], [-1, -1, -1, -1], [1, 1, 1, 1]])
    assert ((refined(relaxed) == (relaxed > 0)).sum(axis=1) >= 3).all()
