"""What metrics take: their parameters, checked, and functions that have those of one metric."""

from inspect import Parameter, signature
from numbers import Integral, Real

import numpy as np

from skhash._sklearn import Interval, Options, StrOptions, validate_params
from skhash.metrics._closed_forms import METRICS, OPTIONS
from skhash.metrics._prose import docstring

__all__ = [
    "CODES_AND_LABELS",
    "CUT",
    "CUTS",
    "METRIC",
    "N_BITS",
    "POLICIES",
    "RESOURCES",
    "check_cuts",
    "check_one_cut",
    "check_options",
    "of_metric",
]

# Constraints of parameters, in the form of scikit-learn.
METRIC = {"metric": [StrOptions(set(METRICS))]}
CODES_AND_LABELS = {
    "query_codes": ["array-like"],
    "query_labels": ["array-like", "sparse matrix"],
    "database_codes": ["array-like"],
    "database_labels": ["array-like", "sparse matrix"],
}
CUT = {
    "k": [Interval(Integral, 1, None, closed="left"), None],
    "radius": [Interval(Integral, 0, None, closed="left"), None],
}
CUTS = {name: [number, "array-like", none] for name, (number, none) in CUT.items()}
POLICIES = {
    "ties": [StrOptions({"mean", "best", "worst"})],
    "empty": [StrOptions({"nan", "raise"}), Options(Integral, {0, 1})],
}
N_BITS = {"n_bits": [Interval(Integral, 1, None, closed="left"), None]}
RESOURCES = {
    "n_jobs": [Integral, None],
    "working_memory": [Interval(Real, 0, None, closed="left"), None],
}


def of_metric(function, metric, name, constraints):
    """Make a function for any metric that of one, with its options, name and docstring.

    Parameters
    ----------
    function : function
        Function with ``**options``, whose docstring :func:`docstring` can fill. In its signature
        the options of the metric come after `empty`.

    metric : str
        Name of the metric.

    name : str
        Qualified name that the function is to have.

    constraints : dict
        Constraints of the parameters that all metrics take.

    Returns
    -------
    function : function
        The function, which validates its parameters.
    """
    options = OPTIONS.get(metric, {})
    function.__signature__ = _signature_with(function, options)
    function.__name__, function.__qualname__ = name.rpartition(".")[2], name
    function.__doc__ = docstring(function.__doc__, metric)
    values = {option: [StrOptions(set(values))] for option, values in options.items()}
    validated = validate_params({**constraints, **values}, prefer_skip_nested_validation=True)
    return validated(function)


def _signature_with(function, options):
    """Return the signature of a function with options in place of its ``**options``."""
    own = [Parameter(name, Parameter.KEYWORD_ONLY, default=options[name][0]) for name in options]
    shared = [p for p in signature(function).parameters.values() if p.name != "options"]
    at = 1 + [parameter.name for parameter in shared].index("empty")
    return signature(function).replace(parameters=[*shared[:at], *own, *shared[at:]])


def check_options(asker, metric, options):
    """Raise unless a metric takes these options with these values.

    Parameters
    ----------
    asker : str
        Name of the function that they were passed to.

    metric : str
        Name of the metric.

    options : dict
        The options.

    Raises
    ------
    TypeError
        If the metric does not take an option.

    ValueError
        If an option does not take its value.
    """
    known = OPTIONS.get(metric, {})
    for name, value in options.items():
        if name not in known:
            raise TypeError(
                f"{asker}({metric!r}) got an unexpected option {name!r}. Beside the "
                f"parameters of all metrics it takes {sorted(known) or 'none'}."
            )
        if value not in known[name]:
            raise ValueError(
                f"The {name!r} option of {asker}({metric!r}) must be one of "
                f"{known[name]}. Got {value!r} instead."
            )


def check_one_cut(k, radius):
    """Raise if a ranking is to be cut in two ways.

    Parameters
    ----------
    k, radius : object
        The cut-offs, None if not given.

    Raises
    ------
    ValueError
        If both are given.
    """
    if k is not None and radius is not None:
        raise ValueError(
            f"k and radius are two ways to cut a ranking, got k={k!r} and radius={radius!r}. "
            "Pass one of them."
        )


def check_cuts(cuts, name, least):
    """Return one or several cut-offs as NumPy's integers, or raise.

    Parameters
    ----------
    cuts : int, array-like of shape (n_cuts,) or None
        The cut-offs.

    name : str
        What the error calls them.

    least : int
        The least that there is.

    Returns
    -------
    cuts : integer, ndarray of shape (n_cuts,) or None
        The same.

    Raises
    ------
    ValueError
        If they are not integers, are below `least`, or there is none.
    """
    if cuts is None:
        return None
    array = np.asarray(cuts)
    if array.dtype.kind not in "iu" or array.ndim > 1 or (array < least).any() or not array.size:
        raise ValueError(
            f"{name} must be an int or a one-dimensional array of at least one int, "
            f"none below {least}, got {cuts!r}."
        )
    return array[()]
