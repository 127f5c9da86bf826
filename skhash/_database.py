"""The database of a hasher: the codes and label sets that are searched, kept and replaced."""

from contextlib import contextmanager

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skhash._blocks import map_blocks
from skhash._ids import checked_ids, joined_ids
from skhash._labels import LabelSpace
from skhash.codes import check_packed_codes, pack_codes

__all__ = ["DatabaseMixin", "unchanged_on_error"]


class DatabaseMixin:
    """What a hasher does with its database, beside searching it.

    The class has ``_validate_X(X, reset=...)`` and ``_encode_items(X)``, which returns the bits of
    validated items as booleans.
    """

    def set_database(self, X, y=None, *, ids=None):
        """Replace the database that `predict`, `kneighbors`, `score` and the scorers search.

        If `set_database` raises, the hasher keeps the database that it had.

        Parameters
        ----------
        X : array-like of shape (n_database, n_features)
            Samples to be found; only their packed codes are kept.

        y : {array-like, sparse matrix} of shape (n_database, n_labels), or array-like of shape \
                (n_database,), default=None
            Their label sets, in the form that `fit` was given (in either if it was given none).
            Without them `kneighbors` works, `predict` and `score` do not.

        ids : array-like of shape (n_database,), default=None
            Ids of the items, integers or strings, each once, which `kneighbors` then returns.
            None: `kneighbors` returns the rows of the items.

        Returns
        -------
        self : object
            The hasher.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If `y` has other labels than those of `fit`, or another length than `X`, or `ids` are
            malformed.

        See Also
        --------
        set_database_codes : The same, of codes that there are already.
        add_to_database : Keep what there is, and append.
        """
        check_is_fitted(self)
        X = self._validate_X(X, reset=False)
        with unchanged_on_error(self):
            self._store_database(X, self._labels_of_database(X, y))
            self.database_ids_ = checked_ids(ids, len(self.database_codes_))
        return self

    def set_database_codes(self, codes, y=None, *, ids=None):
        """Replace the database by items whose packed codes are known.

        They are to be codes of this hasher: those of its `encode_database`, packed, or the
        `database_codes_` of a copy of it. If `set_database_codes` raises, the hasher keeps the
        database that it had.

        Parameters
        ----------
        codes : array-like of shape (n_database, ceil(n_bits / 8)), dtype uint8
            Packed codes, see :func:`skhash.codes.pack_codes`. They are not copied, and may be
            memory-mapped.

        y : {array-like, sparse matrix} of shape (n_database, n_labels), or array-like of shape \
                (n_database,), default=None
            Their label sets, as `set_database` takes them.

        ids : array-like of shape (n_database,), default=None
            Ids of the items, integers or strings, each once, which `kneighbors` then returns.
            None: `kneighbors` returns the rows of the items.

        Returns
        -------
        self : object
            The hasher.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If `codes` are not two-dimensional uint8 of the hasher's number of bytes, are empty or
            not padded with zeros, if `y` has other labels than those of `fit`, or another length
            than `codes`, or if `ids` are malformed.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skhash import LSHHasher
        >>> from skhash.codes import pack_codes
        >>> X, y = load_digits(return_X_y=True)
        >>> hasher = LSHHasher(16, random_state=0).fit(X[:500], y[:500])
        >>> packed = pack_codes(hasher.encode_database(X[500:]))
        >>> hasher.set_database_codes(packed, y[500:]).database_codes_.shape
        (1297, 2)
        """
        check_is_fitted(self)
        codes = check_packed_codes(codes, "codes", self._n_features_out)
        with unchanged_on_error(self):
            self._store_codes(codes, self._labels_of_database(codes, y))
            self.database_ids_ = checked_ids(ids, len(codes))
        return self

    def add_to_database(self, X, y=None, *, ids=None):
        """Append samples to the database; the rows that it has keep their numbers.

        Each call copies the codes and label sets of the whole database, so add many samples at a
        time. A database that `partial_fit` left empty is filled, as `set_database` does it. If
        `add_to_database` raises, the hasher keeps the database that it had.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples to be found as well.

        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,), default=None
            Their label sets, in the form and of the labels that the database has. None if it has
            none.

        ids : array-like of shape (n_samples,), default=None
            Their ids, other ones than the database has. None if it has none.

        Returns
        -------
        self : object
            The hasher.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If `y` is given where the database has no label sets, is missing where it has, has
            other labels, or another length than `X`; or if the same holds for `ids`, or an id is
            there already.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skhash import LSHHasher
        >>> X, y = load_digits(return_X_y=True)
        >>> hasher = LSHHasher(16, random_state=0).fit(X[:500], y[:500])
        >>> len(hasher.add_to_database(X[500:600], y[500:600]).database_codes_)
        600
        """
        check_is_fitted(self)
        if not len(self.database_codes_):
            return self.set_database(X, y, ids=ids)
        self._check_labels_alike(y)
        self._check_ids_alike(ids)
        X = self._validate_X(X, reset=False)
        with unchanged_on_error(self):
            codes, labels = self.database_codes_, self.database_labels_
            known = getattr(self, "database_ids_", None)
            Y = self._encode_known(X, y)
            self._store_database(X, Y)
            if ids is not None:
                ids = joined_ids(known, checked_ids(ids, len(self.database_codes_)))
            self.database_ids_ = ids
            self.database_codes_ = np.concatenate([codes, self.database_codes_])
            if Y is not None:
                self.database_labels_ = np.concatenate([labels, self.database_labels_])
        return self

    def _check_labels_alike(self, y):
        """Raise unless `y` is given if and only if the database has label sets."""
        name = type(self).__name__
        if y is None and self.database_labels_ is not None:
            raise ValueError(
                f"The database of this {name} has label sets, and y is None. Pass y, the label "
                "sets of X."
            )
        if y is not None and self.database_labels_ is None:
            raise ValueError(
                f"The database of this {name} has no label sets. Add X without y, or call "
                "set_database(X, y) with all items and their label sets."
            )

    def _check_ids_alike(self, ids):
        """Raise unless `ids` are given if and only if the database has ids."""
        has_ids, name = getattr(self, "database_ids_", None) is not None, type(self).__name__
        if ids is None and has_ids:
            raise ValueError(
                f"The database of this {name} has ids, and ids is None. Pass ids, those of X."
            )
        if ids is not None and not has_ids:
            raise ValueError(
                f"The database of this {name} has no ids. Add X without ids, or call "
                "set_database(X, y, ids=ids) with all items and their ids."
            )

    def _labels_of_database(self, X, y):
        """Return `y`, of a new database, as an indicator matrix, or None."""
        if not self._labels_from_fit:
            self._learn_labels(y)
        return self._encode_known(X, y)

    def _store_database(self, X, Y):
        """Keep the packed codes of validated `X` and the packed labels of indicator `Y`."""
        self._store_codes(map_blocks(lambda rows: pack_codes(self._encode_items(rows)), X), Y)

    def _store_codes(self, codes, Y):
        """Keep packed codes and the packed labels of indicator `Y`, without ids."""
        self.database_codes_ = codes
        self.database_labels_ = None if Y is None else pack_codes(Y)
        self.database_ids_ = None

    def encode_database(self, X):
        """Binary codes of items that are to be found: what `set_database` keeps of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Items.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_bits), dtype uint8
            Bits, 0 or 1: those of `transform`, unless a hasher encodes queries and items
            differently, as :class:`skhash.DeepRankingHasher` does.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.
        """
        check_is_fitted(self)
        X = self._validate_X(X, reset=False)
        return map_blocks(self._encode_items, X).view(np.uint8)

    def encode_labels(self, y):
        """Return label sets as an indicator matrix of the labels that the hasher knows.

        Parameters
        ----------
        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,)
            Label sets, in the form that `fit` was given.

        Returns
        -------
        Y : ndarray of shape (n_samples, n_labels), dtype uint8
            A column for each of `classes_`. A class that is none of these has no column.

        Raises
        ------
        ValueError
            If the hasher knows no labels, or `y` is malformed or of another form.
        """
        if self.classes_ is None:
            raise ValueError(
                f"This {type(self).__name__} knows no labels. Call fit(X, y) or "
                "set_database(X, y) with y."
            )
        return self._label_space().encode(y)

    def labeled_database(self):
        """Return the packed codes and the packed label sets of the database.

        Returns
        -------
        database_codes : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
            `database_codes_`.

        database_labels : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8
            `database_labels_`.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If the database is empty, or has no label sets.
        """
        check_is_fitted(self)
        self._check_database_filled()
        if self.database_labels_ is None:
            raise ValueError(
                f"The database of this {type(self).__name__} has no label sets. "
                "Call fit(X, y) or set_database(X, y) with y."
            )
        return self.database_codes_, self.database_labels_

    def _check_database_filled(self):
        """Raise if the database is empty."""
        if not len(self.database_codes_):
            raise ValueError(
                f"The database of this {type(self).__name__} is empty, as partial_fit leaves it. "
                "Call set_database(X, y)."
            )

    def _learn_labels(self, y):
        """Take over the labels of `y`, or that there are none."""
        space = None if y is None else LabelSpace.of(y)
        self.classes_ = None if y is None else space.classes
        self._one_class_each = y is not None and space.one_class_each

    def _encode_known(self, X, y):
        """Return `y`, of the samples `X`, as an indicator matrix of known labels, or None."""
        if y is None:
            return None
        Y = self._label_space().encode_known(y)
        check_consistent_length(X, Y)
        return Y

    def _label_space(self):
        """Return the labels that `fit`, or the database, was given."""
        return LabelSpace(self.classes_, self._one_class_each)


@contextmanager
def unchanged_on_error(hasher):
    """Put the attributes of `hasher` back as they were if the block raises."""
    before = vars(hasher).copy()
    try:
        yield
    except BaseException:
        vars(hasher).clear()
        vars(hasher).update(before)
        raise
