"""Every private name of scikit-learn that skhash uses: a new version is this file's business."""

from sklearn.base import _fit_context as fit_context
from sklearn.utils import _align_api_if_sparse as align_sparse
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "Interval",
    "InvalidParameterError",
    "Options",
    "StrOptions",
    "align_sparse",
    "check_matplotlib_support",
    "check_sample_weight",
    "fit_context",
    "num_samples",
    "validate_parameter_constraints",
    "validate_params",
]
