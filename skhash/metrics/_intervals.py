"""How sure a mean over queries is."""

from numbers import Integral, Real

import numpy as np
from scipy import stats
from sklearn.utils import check_array, check_random_state

from skhash._sklearn import Interval, validate_params

__all__ = ["bootstrap_interval"]

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
