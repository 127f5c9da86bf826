"""Label sets: what `y` may be, and how it becomes an indicator matrix of known labels."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import type_of_target

from skhash.codes import as_bits

__all__ = ["LabelSpace", "as_labels", "check_label_names", "column_names"]


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """The labels that are known, by which label sets are encoded.

    Parameters
    ----------
    classes : ndarray of shape (n_labels,)
        Class labels, sorted; or of an indicator matrix the names of the columns, if it is a data
        frame whose columns have strings for names, else their numbers.

    one_class_each : bool
        Whether label sets are given as 1D class labels, and not as an indicator matrix.

    Examples
    --------
    >>> from skhash._labels import LabelSpace
    >>> space = LabelSpace.of(["cat", "dog", "cat"])
    >>> space.encode(["dog", "cow"])
    array([[0, 1],
           [0, 0]], dtype=uint8)
    >>> space.decode([[0.2, 0.7]])
    array(['dog'], dtype='<U3')
    """

    classes: np.ndarray
    one_class_each: bool

    @classmethod
    def of(cls, *ys):
        """Return the labels of one or more `y`, all of them 1D or all indicator matrices."""
        names = [names for names in map(column_names, ys) if names is not None]
        ys = [as_labels(y) for y in ys]
        if ys[0].ndim == 1:
            return cls(np.unique(np.concatenate(ys)), one_class_each=True)
        classes = names[0] if names else np.arange(ys[0].shape[1])
        return cls(classes, one_class_each=False)

    def encode(self, y, *, name="y"):
        """Return `y` as an indicator matrix of the known labels; other classes have no column.

        Parameters
        ----------
        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,)
            Label sets, in the form in which the known labels were given.

        name : str, default="y"
            What errors call it.

        Returns
        -------
        Y : ndarray of shape (n_samples, n_labels), dtype uint8
            0 and 1.

        Raises
        ------
        ValueError
            If `y` is malformed, of the other form, has another number of columns, or is a data
            frame of other columns.
        """
        if not self.one_class_each and self.classes.dtype.kind == "O":
            check_label_names(y, self.classes, "that were passed during fit", name=name)
        Y = as_labels(y, name=name)
        if self.one_class_each:
            if Y.ndim != 1:
                raise ValueError(
                    f"{name} should be 1D class labels, as in fit, got an array of shape "
                    f"{Y.shape}."
                )
            return (Y[:, None] == self.classes).view(np.uint8)
        if Y.ndim != 2 or Y.shape[1] != len(self.classes):
            raise ValueError(
                f"{name} should be an indicator matrix of shape "
                f"(n_samples, {len(self.classes)}), as in fit, got shape {Y.shape}."
            )
        return Y

    def encode_known(self, y):
        """Return what `encode` does, or raise ValueError if a class is not known."""
        Y = self.encode(y)
        if self.one_class_each and not Y.any(axis=1).all():
            unseen = np.unique(as_labels(y)[~Y.any(axis=1)])
            raise ValueError(
                f"y contains classes that fit has not seen: {unseen}. It has seen {self.classes}, "
                f"of dtype {self.classes.dtype}, and y is of dtype {unseen.dtype}."
            )
        return Y

    def decode(self, shares):
        """Return the label sets that votes decide for.

        Parameters
        ----------
        shares : array-like of shape (n_samples, n_labels)
            Share of the votes that each label has.

        Returns
        -------
        y : ndarray of shape (n_samples,), or of shape (n_samples, n_labels), dtype uint8
            The class with most votes (the first of equals); or the indicator matrix of the labels
            with more than half of the votes.
        """
        shares = np.asarray(shares)
        if self.one_class_each:
            return self.classes[shares.argmax(axis=1)]
        return (shares > 0.5).view(np.uint8)


def as_labels(y, *, name="y"):
    """Return `y` as a dense uint8 indicator matrix or a 1D array of class labels, or raise.

    Parameters
    ----------
    y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
            (n_samples,)
        Label sets.

    name : str, default="y"
        What errors call it.

    Returns
    -------
    Y : ndarray of shape (n_samples, n_labels), dtype uint8, or of shape (n_samples,)
        Not encoded yet where it is 1D.

    Raises
    ------
    ValueError
        If it is neither, holds NaN, infinity or missing values, or entries of a matrix are neither
        0 nor 1.
    """
    if sparse.issparse(y):
        y = y.toarray()
    try:
        Y = np.asarray(y)
    except ValueError as error:
        raise ValueError(
            f"{name} should be an indicator matrix of shape (n_samples, n_labels) or 1D class "
            "labels; got sequences of different lengths. "
            "sklearn.preprocessing.MultiLabelBinarizer turns lists of labels into an indicator "
            "matrix."
        ) from error
    if Y.dtype.kind == "T":
        # Strings of variable width, which scikit-learn does not know.
        Y = Y.astype(object)
    if Y.dtype.kind == "c":
        raise ValueError(f"{name} should be labels, got complex numbers, of dtype {Y.dtype}.")
    _check_none_missing(Y, name)
    assert_all_finite(Y, input_name=name)
    if Y.ndim == 1:
        return _as_classes(Y, name)
    if Y.ndim != 2 or Y.shape[1] == 0:
        raise ValueError(
            f"{name} should be an indicator matrix of shape (n_samples, n_labels) or 1D class "
            f"labels, got an array of shape {Y.shape}."
        )
    return as_bits(Y, name, "Label sets are an indicator matrix, class labels are 1D.").view(
        np.uint8
    )


def check_label_names(y, expected, where, *, name="y"):
    """Raise if the columns of `y` have names that are not those expected.

    Parameters
    ----------
    y : object
        Label sets. Only data frames have names of columns; all else passes.

    expected : sequence of str or None
        The names, in their order. None expects none, and all pass.

    where : str
        What the error says of the names that are expected.

    name : str, default="y"
        What the error calls `y`.

    Raises
    ------
    ValueError
        If a name is missing, is not expected, or the order is another.
    """
    given = column_names(y)
    if given is None or expected is None or list(given) == list(expected):
        return
    message = f"The label names of {name} should match those {where}.\n"
    unseen, missing = sorted({*given} - {*expected}), sorted({*expected} - {*given})
    for what, names in (("that are not expected", unseen), ("that are missing", missing)):
        if names:
            lines = [f"- {label}" for label in names[:5]] + ["- ..."] * (len(names) > 5)
            message += "\n".join([f"Label names {what}:", *lines, ""])
    if not unseen and not missing:
        message += f"They must be in the same order: {list(expected)}, got {list(given)}.\n"
    raise ValueError(message)


def column_names(y):
    """Return names of the columns of label sets.

    Parameters
    ----------
    y : object
        Label sets.

    Returns
    -------
    names : ndarray of shape (n_labels,), dtype object, or None
        None unless it is a data frame, all of whose columns have strings for names.
    """
    columns = getattr(y, "columns", None)
    if columns is None or not all(isinstance(column, str) for column in columns):
        return None
    return np.array(list(columns), dtype=object)


def _check_none_missing(y, name):
    """Raise if an array holds None, pandas.NA, NaT or, among objects, NaN."""
    if y.dtype.kind in "mM":
        missing = np.isnat(y)
    elif y.dtype.kind == "O":
        missing = np.frompyfunc(_is_missing, 1, 1)(y).astype(bool)
    else:
        return
    if missing.any():
        at = tuple(np.argwhere(missing)[0])
        raise ValueError(
            f"Input {name} contains NaN or missing values, such as {y[at]!r} in row {at[0]}. "
            "Leave such rows out, or give them a label of their own."
        )


def _is_missing(value):
    """Whether a value is None, or is not known to be equal to itself."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:
        # pandas.NA says of no comparison whether it holds.
        return True
    except ValueError:
        # An array, which is no label and no missing one.
        return False


def _as_classes(y, name):
    """Return 1D `y` if it holds class labels, or raise."""
    kind = "records" if y.dtype.kind == "V" else None
    kind = kind or type_of_target(y, input_name=name, raise_unknown=True)
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind}. {name} should be an indicator matrix of label sets or "
            "1D class labels."
        )
    return column_or_1d(y)
