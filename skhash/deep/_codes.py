"""What the outputs of a network become: codes of queries and of items, shorter codes."""

import copy
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skhash._blocks import map_blocks
from skhash.codes import pack_codes, unpack_codes
from skhash.deep._devices import resolve_device
from skhash.deep._encoding import code_moments, query_map, refined_codes
from skhash.deep._heads import head_rotations, relaxed_codes
from skhash.deep.losses import NestedLoss

__all__ = ["NetworkCodesMixin", "have_several_labels"]

# Samples from which it is learnt how codes are made; more would change little.
_N_SAMPLES = 20_000
# Share of samples with several labels above which label sets are not taken for classes.
_SEVERAL_LABELS = 0.1


def have_several_labels(labels):
    """Whether more than a tenth of label sets, an indicator matrix, have several labels."""
    return (labels.sum(axis=1, dtype=np.int64) > 1).mean() > _SEVERAL_LABELS


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
        if hasattr(self, "head_rotations_"):
            hasher.head_rotations_ = self.head_rotations_[:, :n_bits].copy()
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
            Numbers between -1 and 1; of several heads the mean of theirs, rotated onto those of
            the first.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.
        """
        check_is_fitted(self)
        return self._relaxed(self._run_network(self._validate_X(X, reset=False)))

    def _relaxed(self, projection):
        """Return relaxed codes from what the network returns."""
        return relaxed_codes(projection, getattr(self, "head_rotations_", None))

    def _run_network(self, X, rows=None):
        """Return what the network makes of validated samples, or of those of some rows."""
        network, runner = self.network_.to(resolve_device(self.device)), self._runner()
        projection = runner.run(network, X, rows, what="encoding")
        if np.isfinite(projection).all():
            return projection
        # The loss is taken before each step: the last one may be the one that went astray.
        if not runner.is_finite_at_zero(X):
            raise ValueError(
                "Training diverged: the projection is not finite. A smaller learning_rate than "
                f"{self.learning_rate} would do."
            )
        n_astray = np.count_nonzero(~np.isfinite(projection).all(axis=1))
        raise ValueError(
            f"X should be near the training samples, got {n_astray} samples whose projection is "
            "not finite. Leave them out, or scale X as in fit."
        )

    def _fit_codes(self, X, Y):
        """Learn how queries and items are encoded, from validated samples like them."""
        for name in ("head_rotations_", "code_moments_"):
            vars(self).pop(name, None)
        self.encoding_ = self._chosen_encoding(Y)
        if self.encoding_ == "signs" and self._n_heads() == 1:
            return
        rows = np.linspace(0, len(X) - 1, min(len(X), _N_SAMPLES)).astype(np.int64)
        projection = self._run_network(X, rows)
        if self._n_heads() > 1:
            self.head_rotations_ = head_rotations(relaxed_codes(projection), self.n_bits)
        if self.encoding_ != "signs":
            self._fit_moments(self._relaxed(projection))

    def _chosen_encoding(self, Y):
        """Return `encoding`, "auto" replaced by the choice for labels and what the head reads."""
        if self.encoding != "auto":
            return self.encoding
        if have_several_labels(Y):
            return "joint"
        return "items" if self._reads_features() else "signs"

    def _fit_moments(self, relaxed):
        """Learn from relaxed codes how those like them are encoded as a whole."""
        nested = self.loss.lengths if isinstance(self.loss, NestedLoss) else [self.n_bits]
        self._code_lengths = [int(length) for length in nested]
        self.code_moments_ = code_moments(relaxed, self._code_lengths)

    def _project(self, X):
        projection = self._run_network(X)
        return map_blocks(self._queried, projection) if self._codes_are_relaxed() else projection

    def _queried(self, projection):
        """Return what queries are encoded by, from what the network returns."""
        relaxed = self._relaxed(projection)
        if self.encoding_ != "joint":
            return relaxed
        return relaxed @ query_map(self.code_moments_).astype(relaxed.dtype).T

    def _codes_are_relaxed(self):
        """Whether codes are made of relaxed codes, of which the projection then is one."""
        return hasattr(self, "head_rotations_") or self.encoding_ == "joint"

    def _relax(self, projection):
        return projection if self._codes_are_relaxed() else np.tanh(projection / 2)

    def _encode_items(self, X):
        return map_blocks(self._item_bits, self._run_network(X))

    def _item_bits(self, projection):
        """Return the bits of items, from what the network returns."""
        relaxed = self._relaxed(projection)
        if self.encoding_ == "signs":
            return relaxed >= 0
        return refined_codes(relaxed, self.code_moments_[0], self._code_lengths)

    def _query_weights(self):
        """Return the linear map from relaxed codes of all heads to a projection, or None."""
        if not self._codes_are_relaxed():
            return None
        weights = getattr(self, "head_rotations_", np.eye(self.n_bits)).T
        return query_map(self.code_moments_) @ weights if self.encoding_ == "joint" else weights
