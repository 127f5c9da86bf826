"""What the projections of a network become: codes of a database, relaxed and shorter codes."""

import copy
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skhash.codes import pack_codes, unpack_codes
from skhash.deep._refine import refined_codes, second_moment
from skhash.deep.losses import NestedLoss

__all__ = ["NetworkCodesMixin"]


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
        if hasattr(self, "code_moment_"):
            hasher.code_moment_ = self.code_moment_[:n_bits, :n_bits].copy()
        codes = unpack_codes(self.database_codes_, self.n_bits)
        hasher.database_codes_ = pack_codes(codes[:, :n_bits])
        return hasher

    def _relax(self, projection):
        return np.tanh(projection / 2)

    def _encode_items(self, projection):
        if self.database_encoding == "signs":
            return projection >= 0
        relaxed = self._relax(projection)
        # In `fit` this is the training set, whose images stand for the queries to come.
        if not hasattr(self, "code_moment_"):
            self.code_moment_ = second_moment(relaxed)
        nested = self.loss.lengths if isinstance(self.loss, NestedLoss) else [self.n_bits]
        return refined_codes(relaxed, self.code_moment_, nested)
