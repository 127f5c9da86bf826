"""Leading eigenvectors: those of the full solution, on both sides of the size that decides."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import eigh
from sklearn.datasets import make_low_rank_matrix
from sklearn.decomposition import PCA

from skhash import ITQHasher, SpectralHasher
from skhash._eigen import MOST_FOR_ALL, leading_eigenvectors

SIZES = [1, 7, MOST_FOR_ALL, MOST_FOR_ALL + 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 5, 10_000])
def test_leading_eigenvectors_are_those_of_the_full_solution(n, size):
    A = np.random.default_rng(0).normal(size=(size, size))
    A = A + A.T
    values, vectors = leading_eigenvectors(A, n)
    k = min(n, size)
    expected, full = eigh(A)
    assert_allclose(values, expected[::-1][:k], atol=1e-10)
    assert vectors.shape == (k, size)
    assert np.all(np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], 1) > 0)
    cosines = np.abs((vectors * full[:, ::-1].T[:k]).sum(axis=1))
    assert_allclose(cosines, 1, atol=1e-10)


@pytest.fixture(scope="module")
def wide():
    """Rows with more features than are solved in full, of a rank of about 30."""
    rows = make_low_rank_matrix(700, MOST_FOR_ALL + 20, effective_rank=30, random_state=0)
    return rows * 20 + np.random.default_rng(0).normal(size=rows.shape[1])


def all_at_once(hasher, X, monkeypatch):
    with monkeypatch.context() as patch:
        # As for a matrix of fewer features.
        patch.setattr("skhash._eigen.MOST_FOR_ALL", 10_000)
        return hasher.fit(X)


@pytest.mark.parametrize("n_bits", [1, 24])
@pytest.mark.parametrize("Hasher", [ITQHasher, SpectralHasher])
def test_codes_do_not_depend_on_the_solver(Hasher, n_bits, wide, monkeypatch):
    params = {"random_state": 0} if Hasher is ITQHasher else {}
    codes = Hasher(n_bits, **params).fit(wide).transform(wide)
    expected = all_at_once(Hasher(n_bits, **params), wide, monkeypatch).transform(wide)
    assert_array_equal(codes, expected)


def test_spectral_directions_are_principal_components(wide):
    hasher = SpectralHasher(12).fit(wide)
    pca = PCA(12, svd_solver="full").fit(wide)
    assert_allclose(hasher.components_, pca.components_, atol=1e-8)
    assert SpectralHasher(12).fit(wide.astype(np.float32)).components_.dtype == np.float32


def test_itq_warns_of_the_rank_all_the_same():
    X = np.zeros((50, MOST_FOR_ALL + 20))
    X[:, :5] = np.random.default_rng(0).normal(size=(50, 5))
    with pytest.warns(UserWarning, match="n_bits=8 is more than the 5 principal components of X"):
        ITQHasher(8, random_state=0).fit(X)
