"""How sure a mean over queries is, and a difference of two."""

from itertools import product
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.utils import check_array, check_consistent_length, check_random_state, gen_batches

from skhash._sklearn import Interval, validate_params

__all__ = ["PairedDifference", "bootstrap_interval", "paired_difference"]

# Values that are drawn at once.
_BATCH_VALUES = 2**22


@validate_params(
    {
        "values": ["array-like"],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def bootstrap_interval(values, *, confidence_level=0.95, n_resamples=2000, random_state=None):
    """Confidence interval of the mean over queries, by the percentile bootstrap.

    Each resample draws as many queries as there are, with replacement [1]_. The interval says how
    far the mean would move with other queries of the same kind. It does not say how far the mean
    would move with another database or training set.

    Parameters
    ----------
    values : array-like of shape (n_queries,) or (n_queries, n_cuts)
        Value of each query, from a method of :class:`HammingHistogram`. Queries that are NaN are
        left out.

    confidence_level : float, default=0.95
        Probability with which the interval covers the mean.

    n_resamples : int, default=2000
        Number of resamples.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws; an int gives the same interval every time.

    Returns
    -------
    low, high : float, or ndarrays of shape (n_cuts,)
        Ends of the interval.

    Raises
    ------
    ValueError
        If fewer than two queries have a value, or a value is infinite.

    References
    ----------
    .. [1] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", chapter 13,
           Chapman and Hall, 1993.

    Examples
    --------
    >>> from skhash.metrics import bootstrap_interval
    >>> low, high = bootstrap_interval([0.2, 0.4, 0.4, 0.7, 0.8], random_state=0)
    >>> bool(low < 0.5 < high)
    True
    """
    values = check_array(
        values, dtype=float, ensure_2d=False, ensure_all_finite="allow-nan", input_name="values"
    )
    values = values[~np.isnan(values).reshape(len(values), -1).any(axis=1)]
    if len(values) < 2:
        raise ValueError(
            f"A bootstrap over queries takes at least 2 queries that have a value, "
            f"got {len(values)}."
        )
    interval = stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        method="percentile",
        confidence_level=confidence_level,
        n_resamples=n_resamples,
        batch=max(1, _BATCH_VALUES // values.size),
        random_state=check_random_state(random_state),
    ).confidence_interval
    return interval.low, interval.high


class PairedDifference(NamedTuple):
    """What :func:`paired_difference` returns.

    Attributes
    ----------
    difference : float, or ndarray of shape (n_cuts,)
        Mean of ``values - others``.

    low, high : float, or ndarrays of shape (n_cuts,)
        Ends of its confidence interval.

    p_value : float, or ndarray of shape (n_cuts,)
        Probability of a difference as far from 0, or farther, if the two methods were alike.

    Examples
    --------
    >>> from skhash.metrics import PairedDifference
    >>> PairedDifference(0.25, 0.1, 0.4, p_value=0.125).p_value
    0.125
    """

    difference: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    p_value: float | np.ndarray


@validate_params(
    {
        "values": ["array-like"],
        "others": ["array-like"],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def paired_difference(
    values, others, *, confidence_level=0.95, n_resamples=9999, random_state=None
):
    """Difference of two methods in the mean over the same queries, and how sure it is.

    The interval is that of :func:`bootstrap_interval` for the differences of the queries. The
    p-value is that of a permutation test [1]_: were the methods alike, each query's two values
    could as well be exchanged, which turns the sign of its difference. It is the share of all
    exchanges whose mean difference is as far from 0 as the one that was found, or farther: exact
    where ``2 ** n_queries`` is at most `n_resamples`, and else of that many exchanges at random
    and the one that was found.

    Parameters
    ----------
    values, others : array-like of shape (n_queries,) or (n_queries, n_cuts)
        Values of each query by the two methods, from a method of :class:`HammingHistogram`.
        Queries for which either is NaN are left out.

    confidence_level : float, default=0.95
        Probability with which the interval covers the difference.

    n_resamples : int, default=9999
        Number of resamples, and of exchanges.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws; an int gives the same result every time.

    Returns
    -------
    difference : PairedDifference
        `difference`, `low`, `high` and `p_value`.

    Raises
    ------
    ValueError
        If the two differ in shape, a value is infinite, or fewer than two queries have values.

    See Also
    --------
    bootstrap_interval : Interval of one mean.

    References
    ----------
    .. [1] M. D. Smucker, J. Allan, B. Carterette, "A comparison of statistical significance tests
           for information retrieval evaluation", CIKM 2007.

    Examples
    --------
    >>> from skhash.metrics import paired_difference
    >>> found = paired_difference([0.5, 0.7, 0.9, 0.8], [0.4, 0.5, 0.6, 0.4], random_state=0)
    >>> round(float(found.difference), 3), float(found.p_value)
    (0.25, 0.125)
    """
    params = {"dtype": float, "ensure_2d": False, "ensure_all_finite": "allow-nan"}
    values = check_array(values, input_name="values", **params)
    others = check_array(others, input_name="others", **params)
    check_consistent_length(values, others)
    if values.shape != others.shape:
        raise ValueError(
            "values and others should be of one shape, of the same queries and cut-offs, got "
            f"{values.shape} and {others.shape}."
        )
    rng = check_random_state(random_state)
    differences = values - others
    low, high = bootstrap_interval(
        differences,
        confidence_level=confidence_level,
        n_resamples=n_resamples,
        random_state=rng,
    )
    differences = differences[~np.isnan(differences).reshape(len(differences), -1).any(axis=1)]
    p_value = _sign_flip_p_value(differences, n_resamples, rng)
    return PairedDifference(differences.mean(axis=0), low, high, p_value)


def _sign_flip_p_value(differences, n_resamples, rng):
    """Return the share of exchanges whose sum is as far from 0 as that of the differences."""
    n = len(differences)
    is_exact = n < 63 and 2**n <= n_resamples
    # Sums in another order differ by rounding.
    least = np.abs(differences.sum(axis=0)) - 1e-12 * np.abs(differences).sum(axis=0)
    if is_exact:
        signs = np.array(list(product([-1.0, 1.0], repeat=n)))
        return (np.abs(signs @ differences) >= least).mean(axis=0)
    n_as_far = 1
    for rows in gen_batches(n_resamples, max(1, _BATCH_VALUES // n)):
        signs = 2.0 * rng.randint(0, 2, (rows.stop - rows.start, n), dtype=np.int8) - 1
        n_as_far = n_as_far + (np.abs(signs @ differences) >= least).sum(axis=0)
    return n_as_far / (n_resamples + 1)
