"""Graphs of neighbours in a pipeline."""

from numbers import Integral, Real

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skhash._site import DocLinkMixin
from skhash._sklearn import Interval, StrOptions, fit_context
from skhash.neighbors._graphs import SEARCH_CONSTRAINTS
from skhash.neighbors._hamming import HammingNeighbors

__all__ = ["HammingNeighborsTransformer"]


class HammingNeighborsTransformer(
    DocLinkMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Graph of neighbours of binary codes in Hamming distance, in a pipeline.

    It is for codes what :class:`sklearn.neighbors.KNeighborsTransformer` and
    :class:`sklearn.neighbors.RadiusNeighborsTransformer` are for rows of features. Behind a hasher
    it hands the graph of its codes to estimators of scikit-learn with ``metric="precomputed"``.

    Parameters
    ----------
    mode : {"distance", "connectivity"}, default="distance"
        Whether entries of the graph are Hamming distances, among which zeros are explicit, or
        ones.

    n_neighbors : int, default=None
        Number of neighbours of each sample. As a sample that was fitted is a neighbour of itself,
        ``mode="distance"`` finds one more. None: 5, unless there is a `radius`.

    radius : int or float, default=None
        Distance up to which all samples are neighbours: a whole number of bits. None: there are
        `n_neighbors`.

    algorithm : {"auto", "brute", "faiss", "multi_index"}, default="auto"
        What searches, see :class:`HammingNeighbors`.

    n_jobs : int, default=None
        Number of threads of a search; None means one, -1 all cores.

    n_bits : int, default=None
        Number of bits of a code, where codes are given packed. None: they are given as bits, as
        hashers return them.

    Attributes
    ----------
    search_ : HammingNeighbors
        The search of the fitted codes.

    n_features_in_ : int
        Number of bits.

    n_samples_fit_ : int
        Number of samples that were fitted, which the columns of graphs are.

    See Also
    --------
    HammingNeighbors.kneighbors_graph : Such a graph without a pipeline.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from skhash import ITQHasher
    >>> from skhash.neighbors import HammingNeighborsTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> pipeline = make_pipeline(
    ...     ITQHasher(32, random_state=0),
    ...     HammingNeighborsTransformer(n_neighbors=5),
    ...     KNeighborsClassifier(n_neighbors=5, metric="precomputed"),
    ... )
    >>> bool(pipeline.fit(X[300:], y[300:]).score(X[:300], y[:300]) > 0.8)
    True
    """

    _parameter_constraints: dict = {
        "mode": [StrOptions({"distance", "connectivity"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "radius": [Interval(Real, 0, None, closed="left"), None],
        **SEARCH_CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        mode="distance",
        n_neighbors=None,
        radius=None,
        algorithm="auto",
        n_jobs=None,
        n_bits=None,
    ):
        self.mode = mode
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.algorithm = algorithm
        self.n_jobs = n_jobs
        self.n_bits = n_bits

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):  # noqa: ARG002
        """Keep the codes that are to be neighbours.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_bits)
            Bits, 0 or 1; or packed codes, if there are `n_bits`.

        y : None
            Ignored; present for the scikit-learn API.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If both `n_neighbors` and `radius` are given, or `X` is malformed, see
            :meth:`HammingNeighbors.fit`.
        """
        if self.n_neighbors is not None and self.radius is not None:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} has no effect where a radius is given, got "
                f"radius={self.radius}. Pass one of them."
            )
        names = "algorithm", "n_jobs", "n_bits"
        search = HammingNeighbors(
            self.n_neighbors or 5,
            radius=1 if self.radius is None else self.radius,
            **{name: getattr(self, name) for name in names},
        )
        self.search_ = search.fit(X)
        self.n_features_in_ = search.n_features_in_
        self.n_samples_fit_ = self._n_features_out = search.n_samples_fit_
        return self

    def transform(self, X):
        """Return the graph from samples to the neighbours that they have in those of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_bits)
            Bits, 0 or 1; or packed codes, if there are `n_bits`.

        Returns
        -------
        graph : sparse matrix of shape (n_samples, n_samples_fit), dtype float64
            In CSR format, of each row the nearest first. A sample of `fit` is among its own
            neighbours, unless more samples before it than are looked for have an equal code.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.

        ValueError
            If `X` is malformed or of another length, or fewer samples were fitted than each is to
            have neighbours.

        ImportError
            If `algorithm` is "faiss" and faiss is not installed.
        """
        check_is_fitted(self)
        if self.radius is not None:
            return self.search_.radius_neighbors_graph(X, self.radius, mode=self.mode)
        n_neighbors = (self.n_neighbors or 5) + (self.mode == "distance")
        return self.search_.kneighbors_graph(X, n_neighbors, mode=self.mode)

    def fit_transform(self, X, y=None):
        """Keep the codes, and return their graph.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_bits)
            Bits, 0 or 1; or packed codes, if there are `n_bits`.

        y : None
            Ignored; present for the scikit-learn API.

        Returns
        -------
        graph : sparse matrix of shape (n_samples, n_samples), dtype float64
            What ``fit(X).transform(X)`` returns.
        """
        return self.fit(X, y).transform(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
