"""Queries beside what is found for them, as pictures."""

import os
import textwrap
from numbers import Integral

import numpy as np

from skhash._images import as_rgb, is_image, read_rgb
from skhash._labels import LabelSpace
from skhash._search import nearest
from skhash._sklearn import Interval, check_matplotlib_support, validate_params
from skhash.codes import unpack_codes
from skhash.metrics._problem import RetrievalProblem, fitted_hasher

__all__ = ["RetrievalDisplay"]

_WRONG = "#c62828"
_CONSTRAINTS = {"n_results": [Interval(Integral, 1, None, closed="left")]}


class RetrievalDisplay:
    """Query images beside their results, with shared labels named and wrong results framed.

    Results are in the order of `kneighbors`: by Hamming distance, and at equal distance in the
    order of the database. Their distance is written above them.

    Parameters
    ----------
    queries : sequence of images
        One image a row of the figure: an array of shape (height, width, 3), (3, height, width) or
        (height, width), an image of Pillow, or the path of a file. Files are shown upright, as
        their EXIF orientation says.

    query_labels : sequence of lists of str
        Names of the labels of each query.

    results : sequence of sequences of images
        Results of each query, the nearest first.

    distances : array-like of shape (n_queries, n_results)
        Hamming distances of the results.

    shared_labels : sequence of sequences of lists of str
        Names of the labels that each result shares with its query. A wrong result shares none.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_queries, 1 + n_results)
        Where it was drawn.

    figure_ : matplotlib Figure
        The figure of these.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from skhash import LSHHasher
    >>> from skhash.datasets import make_digit_scenes
    >>> from skhash.metrics import RetrievalDisplay
    >>> images, Y = make_digit_scenes(100, return_X_y=True, random_state=0)
    >>> rows = images.reshape(100, -1) / 255
    >>> hasher = LSHHasher(16, random_state=0).fit(rows[3:], Y[3:])
    >>> display = RetrievalDisplay.from_estimator(
    ...     hasher, rows[:3], Y[:3], query_images=images[:3], database_images=images[3:])
    >>> display.axes_.shape
    (3, 6)
    """

    def __init__(self, queries, query_labels, results, distances, shared_labels):
        self.queries, self.query_labels = queries, query_labels
        self.results, self.distances, self.shared_labels = results, distances, shared_labels

    @classmethod
    @validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        database_images,
        query_images=None,
        n_results=5,
        label_names=None,
        axes=None,
    ):
        """Draw what a fitted hasher finds in its database.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a :class:`~sklearn.pipeline.Pipeline` that ends in one.

        X : array-like of shape (n_queries, ...)
            Queries, as the estimator's `transform` takes them; a row of the figure each.

        y : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like of shape \
                (n_queries,)
            Their label sets.

        database_images : sequence of n_database images
            Images of the database, in its order: arrays, or paths of files.

        query_images : sequence of n_queries images, default=None
            Images of the queries; None if `X` are images itself.

        n_results : int, default=5
            Number of results of each query; all items where the database has fewer.

        label_names : sequence of n_labels str, default=None
            Names of the labels; None takes the classes of the hasher, among them names of columns
            of a data frame.

        axes : array-like of matplotlib Axes of shape (n_queries, 1 + n_results), default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : RetrievalDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are not as many images as queries and items of the database.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        problem = RetrievalProblem.from_estimator(estimator, X, y, asker="A display")
        classes = fitted_hasher(estimator).classes_
        return cls._from_problem(
            problem,
            classes,
            query_images=X if query_images is None else query_images,
            database_images=database_images,
            n_results=n_results,
            label_names=label_names,
            axes=axes,
        )

    @classmethod
    @validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        query_images,
        database_images,
        n_bits=None,
        n_results=5,
        label_names=None,
        axes=None,
    ):
        """Draw what is found by codes.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 or 1; or packed codes, with `n_bits`.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like \
                of shape (n_queries,)
            Label sets of the queries: an indicator matrix of 0 and 1, or class labels.

        database_codes : array-like of shape (n_database, n_bits)
            Codes of the items to be found, in the form of `query_codes`.

        database_labels : {array-like, sparse matrix} of shape (n_database, n_labels), or \
                array-like of shape (n_database,)
            Label sets of the items to be found, in the form of `query_labels`.

        query_images : sequence of n_queries images
            Images of the queries: arrays, or paths of files.

        database_images : sequence of n_database images
            Images of the database.

        n_bits : int, default=None
            Number of bits of a code, where codes are packed, see :func:`skhash.codes.pack_codes`.
            None: they are not.

        n_results : int, default=5
            Number of results of each query; all items where the database has fewer.

        label_names : sequence of n_labels str, default=None
            Names of the labels; None takes the classes, or the columns: their names in a data
            frame, else their numbers.

        axes : array-like of matplotlib Axes of shape (n_queries, 1 + n_results), default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : RetrievalDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are not as many images as codes, or codes and labels are malformed.
        """
        check_matplotlib_support(f"{cls.__name__}.from_codes")
        problem = RetrievalProblem.from_codes(
            query_codes, query_labels, database_codes, database_labels, n_bits=n_bits
        )
        classes = LabelSpace.of(query_labels, database_labels).classes
        return cls._from_problem(
            problem,
            classes,
            query_images=query_images,
            database_images=database_images,
            n_results=n_results,
            label_names=label_names,
            axes=axes,
        )

    @classmethod
    def _from_problem(
        cls, problem, classes, *, query_images, database_images, n_results, label_names, axes
    ):
        n_labels, n_items = len(classes), len(problem.database_codes)
        label_names = classes if label_names is None else label_names
        _check_images(query_images, problem.n_queries, "query_images", "queries")
        _check_images(database_images, n_items, "database_images", "items of the database")
        if len(label_names) != n_labels:
            raise ValueError(
                f"label_names should name the {n_labels} labels, got {len(label_names)} names."
            )
        n_results = min(n_results, n_items)
        distances, found = nearest(problem.query_codes, problem.database_codes, n_results)
        shared = problem.query_labels[:, None] & problem.database_labels[found]

        def names(label_set):
            return [str(label_names[i]) for i in np.flatnonzero(unpack_codes(label_set, n_labels))]

        display = cls(
            [_row(query_images, i) for i in range(problem.n_queries)],
            [names(label_set[None]) for label_set in problem.query_labels],
            [[_row(database_images, i) for i in row] for row in found],
            distances,
            [[names(label_set[None]) for label_set in row] for row in shared],
        )
        return display.plot(axes)

    def plot(self, axes=None):
        """Draw the images.

        Parameters
        ----------
        axes : array-like of matplotlib Axes of shape (n_queries, 1 + n_results), default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : RetrievalDisplay
            The display.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_rows, n_columns = np.shape(self.distances)[0], 1 + np.shape(self.distances)[1]
        if axes is None:
            # A line below an image holds some 20 characters. Results share no more labels.
            captions = [textwrap.wrap(", ".join(labels), 18) for labels in self.query_labels]
            n_lines = max(map(len, captions), default=1)
            size = (1.7 * n_columns, (2.06 + 0.14 * n_lines) * n_rows)
            axes = plt.subplots(
                n_rows, n_columns, figsize=size, squeeze=False, layout="constrained"
            )[1]
        self.axes_ = np.asarray(axes).reshape(n_rows, n_columns)
        self.figure_ = self.axes_[0, 0].figure
        for row in range(n_rows):
            _show(self.axes_[row, 0], self.queries[row], "query", self.query_labels[row])
            for ax, image, distance, shared in zip(
                self.axes_[row, 1:],
                self.results[row],
                self.distances[row],
                self.shared_labels[row],
                strict=True,
            ):
                _show(ax, image, f"distance {distance}", shared, is_wrong=not shared)
        return self


def _check_images(images, n_images, name, what):
    """Raise unless there are as many images."""
    if len(images) != n_images:
        raise ValueError(f"{name} should be the {n_images} {what}, got {len(images)} images.")


def _row(images, i):
    """Return one of the images; the labels of a Series are not their positions."""
    return images.iloc[i] if hasattr(images, "iloc") else images[int(i)]


def _pixels(image):
    """Return an image as an array of shape (height, width, n_channels) or (height, width)."""
    if isinstance(image, tuple):
        image = image[0]
    if isinstance(image, (str, os.PathLike)):
        try:
            return read_rgb(image)
        except ValueError as error:
            raise ValueError(f"The image to show is the file {image}, which {error}.") from error
    if is_image(image):
        return as_rgb(image)
    image = np.asarray(image)
    is_channels_first = image.ndim == 3 and image.shape[2] not in (1, 3, 4)
    return image.transpose(1, 2, 0) if is_channels_first else image


def _show(ax, image, title, labels, *, is_wrong=False):
    """Show one image with its labels below, in a frame if it is wrong."""
    ax.imshow(_pixels(image), cmap="gray")
    ax.set_xticks([])
    ax.set_yticks([])
    text = ", ".join(labels) or ("none shared" if is_wrong else "no label")
    # Characters of that size are about 4 points wide.
    n_characters = max(6, int(ax.bbox.width * 72 / ax.figure.dpi / 4))
    ax.set_title(textwrap.fill(title, n_characters), fontsize=9)
    ax.set_xlabel(textwrap.fill(text, n_characters), fontsize=8)
    for spine in ax.spines.values():
        spine.set(visible=is_wrong, color=_WRONG, linewidth=3)
