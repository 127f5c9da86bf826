"""Codes of a database that are chosen as a whole: against all codes, and in the hasher."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_deep_hasher import make_hasher, make_images, make_rows

from skhash import DeepRankingHasher
from skhash.codes import pack_codes
from skhash.deep._refine import refined_codes, second_moment
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


def refined(relaxed, lengths=None, moment=None):
    moment = second_moment(relaxed) if moment is None else moment
    return refined_codes(relaxed, moment, lengths or [relaxed.shape[1]])


@pytest.mark.parametrize("n", [1, 3, 5000])
def test_second_moment_is_the_mean_of_outer_products(n):
    relaxed = make_relaxed(n).astype(np.float32)
    expected = np.einsum("ij,ik->jk", relaxed.astype(float), relaxed.astype(float)) / n
    assert_allclose(second_moment(relaxed), expected)


@pytest.mark.parametrize("seed", range(5))
def test_no_single_bit_lowers_the_error(seed):
    relaxed = make_relaxed(200, 12, seed)
    moment = second_moment(relaxed)
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
    moment = second_moment(relaxed)
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
    moment = second_moment(relaxed)
    codes = refined(relaxed, lengths)
    for i, length in enumerate(lengths):
        first = refined_codes(relaxed[:, :length], moment[:length, :length], lengths[: i + 1])
        assert_array_equal(codes[:, :length], first)


# In the hasher.


def make_refined(**params):
    return make_hasher(n_bits=16, database_encoding="refined", **params)


@pytest.mark.parametrize("make", [make_rows, make_images])
def test_database_is_refined_and_queries_are_signs(make, tmp_path):
    X, Y = make()
    hasher = make_refined().fit(X, Y)
    relaxed = np.tanh(hasher.project(X) / 2)
    expected = refined(relaxed)
    assert_allclose(hasher.code_moment_, second_moment(relaxed))
    assert_array_equal(hasher.encode_database(X), expected)
    assert_array_equal(hasher.database_codes_, pack_codes(expected))
    assert_array_equal(hasher.transform(X), hasher.project(X) >= 0)
    assert not np.array_equal(hasher.transform(X), expected)
    assert_array_equal(make_refined().fit_transform(X, Y), hasher.transform(X))
    # A part of a database is encoded as it is within the whole.
    assert_array_equal(hasher.set_database(X[7:20]).database_codes_, pack_codes(expected[7:20]))
    hasher.save(tmp_path / "hasher")
    loaded = DeepRankingHasher.load(tmp_path / "hasher")
    assert_array_equal(loaded.encode_database(X), expected)


def test_scores_are_those_of_the_refined_database():
    X, Y = make_rows(100)
    hasher = make_refined().fit(X[:70], Y[:70])
    codes, database = hasher.transform(X[70:]), hasher.encode_database(X[:70])
    expected = ndcg_score(codes, Y[70:], database, Y[:70], k=100)
    assert hasher.score(X[70:], Y[70:]) == expected
    assert make_retrieval_scorer("ndcg", k=100)(hasher, X[70:], Y[70:]) == expected


def test_signs_are_what_transform_gives():
    X, Y = make_rows()
    hasher = make_refined().set_params(database_encoding="signs").fit(X, Y)
    assert_array_equal(hasher.encode_database(X), hasher.transform(X))
    assert_array_equal(hasher.database_codes_, pack_codes(hasher.transform(X)))
    assert not hasattr(hasher, "code_moment_")


def test_parts_take_the_moment_of_the_first_database():
    X, Y = make_rows(100)
    hasher = make_refined().fit(X[:50], Y[:50]).partial_fit(X[50:], Y[50:])
    assert not hasattr(hasher, "code_moment_")
    hasher.set_database(X, Y)
    moment = second_moment(np.tanh(hasher.project(X) / 2))
    assert_allclose(hasher.code_moment_, moment)
    hasher.set_database(X[:9], Y[:9])
    assert_allclose(hasher.code_moment_, moment)


def test_shorter_codes_of_a_nested_loss_are_refined_at_each_length():
    X, Y = make_rows()
    nested = NestedLoss(TieAwareNDCGLoss(), lengths=(8, 16))
    hasher = make_refined(loss=nested).fit(X, Y)
    short = hasher.shorten(8)
    assert_array_equal(short.database_codes_, hasher.database_codes_[:, :1])
    assert_array_equal(short.set_database(X, Y).database_codes_, hasher.database_codes_[:, :1])


def test_error_on_the_encoding():
    with pytest.raises(ValueError, match="'database_encoding' parameter of DeepRankingHasher"):
        make_hasher(database_encoding="best").fit(*make_rows())
