"""What the outputs of a network become: codes of queries and of items, shorter codes."""

import copy
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skhash.codes import pack_codes, unpack_codes
from skhash.deep._encoding import code_moments, query_map, refined_codes
from skhash.deep.losses import NestedLoss

__all__ = ["NetworkCodesMixin"]

# Samples from which it is learnt how codes are made; more would change little.
_N_SAMPLES = 20_000
# Share of training samples with several labels above which "auto" is "joint".
_SEVERAL_LABELS = 0.1


class NetworkCodesMixin:
    """Mixin of a hasher with a `network_`, whose loss takes relaxed codes."""

    def shorten(self, n_bits):
        """Return a hasher of the first bits of the codes, with its database.

        The first bits are a good code of their own where the loss has seen to it, see
        :class:`skhash.deep.losses.NestedLoss`.

        Parameters
        ----------
        n_bits : int
            Length of the shorter codes.

        Returns
        -------
        hasher : DeepRankingHasher
            Fitted; this one stays as it is.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If `n_bits` is no int from 1 to the length of the codes.
        """
        check_is_fitted(self)
        if not isinstance(n_bits, Integral) or not 1 <= n_bits <= self.n_bits:
            raise ValueError(
                f"n_bits should be an int from 1 to {self.n_bits}, the length of the codes, got "
                f"{n_bits!r}."
            )
        hasher = copy.deepcopy(self)
        vars(hasher).pop("_partial", None)
        if isinstance(self.loss, NestedLoss):
            hasher.loss = self.loss.shorten(n_bits)
        hasher.network_.shorten(n_bits)
        hasher.n_bits = hasher._n_features_out = n_bits
        if hasattr(self, "code_moments_"):
            hasher.code_moments_ = self.code_moments_[:, :n_bits, :n_bits].copy()
            shorter = [length for length in self._code_lengths if length < n_bits]
            hasher._code_lengths = [*shorter, n_bits]
        codes = unpack_codes(self.database_codes_, self.n_bits)
        hasher.database_codes_ = pack_codes(codes[:, :n_bits])
        return hasher

    def relaxed_codes(self, X):
        """Relaxed codes: what the loss is taken of, and binary codes are made from.

        Parameters
        ----------
        X : array-like
            Samples, as `transform` takes them.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_bits), dtype float32
            Numbers between -1 and 1.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.
        """
        check_is_fitted(self)
        return np.tanh(self._run_network(self._validate_X(X, reset=False)) / 2)

    def _fit_codes(self, X, Y):
        """Learn how queries and items are encoded, from validated samples like them."""
        vars(self).pop("code_moments_", None)
        several = (Y.sum(axis=1, dtype=np.int64) > 1).mean() > _SEVERAL_LABELS
        if self.encoding == "signs" or (self.encoding == "auto" and not several):
            return
        rows = np.linspace(0, len(X) - 1, min(len(X), _N_SAMPLES)).astype(np.int64)
        nested = self.loss.lengths if isinstance(self.loss, NestedLoss) else [self.n_bits]
        self._code_lengths = [int(length) for length in nested]
        relaxed = np.tanh(self._run_network(X, rows) / 2)
        self.code_moments_ = code_moments(relaxed, self._code_lengths)

    def _project(self, X):
        projection = self._run_network(X)
        if not hasattr(self, "code_moments_"):
            return projection
        weights = query_map(self.code_moments_).astype(projection.dtype)
        return np.tanh(projection / 2) @ weights.T

    def _relax(self, projection):
        # What queries are mapped to is relaxed already.
        return projection if hasattr(self, "code_moments_") else np.tanh(projection / 2)

    def _encode_items(self, X):
        projection = self._run_network(X)
        if not hasattr(self, "code_moments_"):
            return projection >= 0
        relaxed = np.tanh(projection / 2)
        return refined_codes(relaxed, self.code_moments_[0], self._code_lengths)
