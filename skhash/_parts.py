"""Learning in parts: what is kept of them, and `partial_fit`, which is written here once."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from skhash._blocks import row_blocks
from skhash._database import unchanged_on_error
from skhash._sklearn import fit_context

__all__ = ["MOST_KEPT", "PartialFitMixin", "Sample", "SampledPartsMixin", "Sums", "rng_at"]

# Most rows that are kept of all parts where a hasher has no parameter for it.
MOST_KEPT = 50_000


def rng_at(state):
    """Return a generator of random numbers at the state that another one had."""
    rng = np.random.RandomState()
    rng.set_state(state)
    return rng


class PartialFitMixin:
    """`partial_fit` for a hasher that learns from parts of the training set.

    A subclass defines ``_learn_part(X, Y, first)`` on validated input. What it keeps for the next
    part is `_parts`, unless it has a `_has_parts` of its own.
    """

    # Whether label sets are learnt from where they are given, though `fit` does not need them.
    _learns_from_any_labels = False

    @abstractmethod
    def _learn_part(self, X, Y, first):
        """Learn from one more part: validated `X`, and `Y` (indicator uint8, or None)."""

    def _has_parts(self):
        """Return whether there is something learnt that the next part goes on from."""
        return hasattr(self, "_parts")

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, classes=None):
        """Learn from one more part of the training set.

        The database is left empty, for the codes of earlier parts are not known: call
        `set_database` after the last part. The notes of the class say what is kept between calls.
        If `partial_fit` raises, the hasher is left as it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples, in any of the forms that `fit` takes.

        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,), default=None
            Label sets as an indicator matrix of 0 and 1, or class labels. Hashers that learn
            without them ignore them, but for :class:`skhash.BREHasher`, which learns from them
            where all parts have them.

        classes : array-like of shape (n_classes,), default=None
            In the first call, all class labels of the parts to come, where `y` holds class labels
            and the first part may lack some. In later calls it is ignored.

        Returns
        -------
        self : object
            The fitted hasher.

        Raises
        ------
        ValueError
            If a parameter is out of range, `X` or `y` is malformed, `y` is missing where the
            hasher learns from it or holds other labels than in the first call, or nothing can be
            learnt from what was given so far.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skhash import ITQHasher
        >>> X, y = load_digits(return_X_y=True)
        >>> hasher = ITQHasher(16, random_state=0)
        >>> for start in range(200, len(X), 400):
        ...     hasher = hasher.partial_fit(X[start : start + 400])
        >>> hasher = hasher.set_database(X[200:], y[200:])
        >>> hasher.score(X[:200], y[:200]) > 0.6
        True
        """
        learns_from_y = self._supervised or self._learns_from_any_labels
        with unchanged_on_error(self):
            self._fit_part(X, y if learns_from_y else None, classes)
        return self

    def _fit_part(self, X, y, classes):
        """Do the work of `partial_fit`, in whatever state an error leaves behind."""
        self._check_labels_given(y)
        first = not self._has_parts()
        if not first and self._labels_from_fit != (y is not None):
            raise ValueError(
                f"{type(self).__name__} learns from label sets if all parts have them: y should "
                f"{'not ' if y is None else ''}be None, as in the first call of partial_fit."
            )
        X = self._validate_X(X, reset=first)
        if first:
            self._labels_from_fit = y is not None
            self._learn_labels(y if y is None or classes is None else classes)
        Y = self._encode_known(X, y)
        self._learn_part(X, Y, first)
        self._n_features_out = self.n_bits
        empty = np.empty((0, -(-self.n_bits // 8)), np.uint8)
        self._store_codes(empty, None if Y is None else Y[:0])


@dataclass(frozen=True)
class Sums:
    """Means and covariances of samples in float64, with the dtype of these; they add up."""

    n_samples: int
    dtype: np.dtype
    mean: np.ndarray
    xx: np.ndarray
    mean_y: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    @classmethod
    def of(cls, X, Y):
        """Sum a block of rows at a time, in double precision."""
        Y = np.empty((len(X), 0), X.dtype) if Y is None else Y
        return sum((cls._of_block(X[rows], Y[rows]) for rows in row_blocks(len(X))), None)

    @classmethod
    def _of_block(cls, X, Y):
        dtype, (mean, X, rest), (mean_y, Y, rest_y) = X.dtype, _centred(X), _centred(Y)
        return cls(
            len(X),
            dtype,
            mean,
            X.T @ X / len(X) - np.outer(rest, rest),
            mean_y,
            X.T @ Y / len(X) - np.outer(rest, rest_y),
            Y.T @ Y / len(X) - np.outer(rest_y, rest_y),
        )

    def __radd__(self, other):
        return self if other is None else NotImplemented

    def __add__(self, other):
        """Those of both sets of samples (pairwise updating of Chan, Golub and LeVeque)."""
        n = self.n_samples + other.n_samples
        share = other.n_samples / n
        step, step_y = other.mean - self.mean, other.mean_y - self.mean_y
        between = share * (1 - share)

        def joined(name, left, right):
            own = (1 - share) * getattr(self, name) + share * getattr(other, name)
            return own + between * np.outer(left, right)

        return Sums(
            n,
            np.result_type(self.dtype, other.dtype),
            self.mean + share * step,
            joined("xx", step, step),
            self.mean_y + share * step_y,
            joined("xy", step, step_y),
            joined("yy", step_y, step_y),
        )


def _centred(rows):
    """Return the mean of the rows, the rows less about their mean, and the mean of these."""
    # Less the first row, equal rows are exactly 0, and have a covariance of exactly 0.
    origin, rows = rows[0].astype(np.float64), rows.astype(np.float64)
    rows -= origin
    mean = rows.mean(axis=0)
    rows -= mean
    return origin + mean, rows, rows.mean(axis=0)


@dataclass(frozen=True)
class Sample:
    """Rows of a stream that are kept: those of the smallest random numbers, one drawn for each.

    Which they are does not depend on how the stream is cut. With them their label sets are kept,
    if there are any, and their places in the stream.
    """

    state: tuple
    n_seen: int
    rows: np.ndarray | None
    labels: np.ndarray | None
    places: np.ndarray
    priorities: np.ndarray

    @classmethod
    def empty(cls, seed):
        """Start the stream."""
        state, places = np.random.RandomState(seed).get_state(), np.empty(0, np.int64)
        return cls(state, 0, None, None, places, np.empty(0))

    def updated(self, X, size, Y=None):
        """Return the sample of the stream with the rows of `X`, and their labels, at its end."""
        rng = rng_at(self.state)
        priorities = np.concatenate([self.priorities, rng.random_sample(len(X))])
        keep = np.arange(len(priorities))
        if len(keep) > size:
            keep = np.sort(np.argpartition(priorities, size - 1)[:size])
        n_old = len(self.priorities)
        old, new = keep[keep < n_old], keep[keep >= n_old] - n_old
        return Sample(
            rng.get_state(),
            self.n_seen + len(X),
            _joined(self.rows, old, X, new),
            None if Y is None else _joined(self.labels, old, Y, new),
            np.concatenate([self.places[old], self.n_seen + new]),
            priorities[keep],
        )


def _joined(kept, old, given, new):
    """Return the rows `old` of what was kept, if any, and then the rows `new` of what is given."""
    return given[new] if kept is None else np.concatenate([kept[old], given[new]])


@dataclass(frozen=True)
class _SampledParts:
    """A sample of all parts, and the state of the random numbers that learning starts at."""

    state: tuple
    sample: Sample


class SampledPartsMixin(PartialFitMixin):
    """`partial_fit` for a hasher which learns, as in `fit`, from a uniform sample of all parts.

    Its `_fit` draws from ``self._start_rng()``.
    """

    # Attributes that hold rows of the training set.
    _row_attributes = ()

    @staticmethod
    def _saved_types():
        return Sample, _SampledParts

    def _start_rng(self):
        """Return what `_fit` draws from: in each call of `partial_fit` the same numbers."""
        if not self._has_parts():
            return check_random_state(self.random_state)
        return rng_at(self._parts.state)

    def _learn_part(self, X, Y, first):
        if first:
            rng = self._start_rng()
            state = rng.get_state()
            seed = rng.randint(np.iinfo(np.int32).max)
            self._parts = _SampledParts(state, Sample.empty(seed))
        sample = self._parts.sample.updated(X, MOST_KEPT, Y)
        self._parts = _SampledParts(self._parts.state, sample)
        self._fit(sample.rows, sample.labels)
        for name in self._row_attributes:
            setattr(self, name, sample.places[getattr(self, name)])
