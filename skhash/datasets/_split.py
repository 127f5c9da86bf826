"""The split of samples into queries, training set and database."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch, check_random_state

from skhash._sklearn import Interval, num_samples, validate_params

__all__ = ["retrieval_split"]


@validate_params(
    {
        "n_samples": [Interval(Integral, 2, None, closed="left"), "array-like", "sparse matrix"],
        "n_queries": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "n_train": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            None,
        ],
        "train_in_database": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def retrieval_split(
    n_samples, *, n_queries, n_train=None, train_in_database=True, random_state=None
):
    """Split samples into queries, training set and database.

    By default the training set is drawn from the database, as in most papers. There a hasher is
    scored, in part or in whole, on how it ranks samples whose labels it has seen. With
    ``train_in_database=False`` the three parts are disjoint: what is ranked was never seen.

    Parameters
    ----------
    n_samples : int or array-like of shape (n_samples, ...)
        Number of samples, or the samples or labels themselves.

    n_queries : int or float
        Number of queries, drawn at random, or, as a float between 0 and 1, their share of the
        samples, rounded up.

    n_train : int or float, default=None
        Number of training samples, drawn at random from those that are no queries, or their share
        of these, rounded up. None takes all of them, or half if they are not in the database.

    train_in_database : bool, default=True
        Whether the database is all that is no query. If not, it is what is no training sample
        either.

    random_state : int, RandomState instance or None, default=None
        Decides the split.

    Returns
    -------
    split : :class:`~sklearn.utils.Bunch`
        Sorted row numbers `query`, `database` and `train`. No query is in the other two.

    Raises
    ------
    ValueError
        If there are not more samples than queries, or `n_train` leaves no database.

    Examples
    --------
    >>> from skhash.datasets import retrieval_split
    >>> split = retrieval_split(100, n_queries=10, n_train=50, random_state=0)
    >>> len(split.query), len(split.database), len(split.train)
    (10, 90, 50)
    >>> split = retrieval_split(100, n_queries=10, train_in_database=False, random_state=0)
    >>> len(split.query), len(split.database), len(split.train)
    (10, 45, 45)
    """
    n_samples = n_samples if isinstance(n_samples, Integral) else num_samples(n_samples)
    n_queries = _count(n_queries, n_samples)
    if n_queries >= n_samples:
        raise ValueError(
            "n_queries should be less than n_samples, so that a database is left; got "
            f"n_queries={n_queries}, n_samples={n_samples}."
        )
    n_others = n_samples - n_queries
    if n_train is None:
        n_train = n_others if train_in_database else n_others // 2
    n_train = _count(n_train, n_others)
    most = n_others if train_in_database else n_others - 1
    if not 1 <= n_train <= most:
        raise ValueError(
            f"n_train should be from 1 to {most}, with {n_others} samples that are no queries and "
            f"train_in_database={train_in_database}; got n_train={n_train}."
        )
    order = check_random_state(random_state).permutation(n_samples)
    # They are in random order, so that the head of the others is a random subset.
    query, train, others = np.split(order, [n_queries, n_queries + n_train])
    database = order[n_queries:] if train_in_database else others
    return Bunch(query=np.sort(query), database=np.sort(database), train=np.sort(train))


def _count(number, n_samples):
    """Return a number of samples that is given as one, or as a share that is rounded up."""
    return number if isinstance(number, Integral) else math.ceil(number * n_samples)
