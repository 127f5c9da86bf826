"""Feature rows before they reach a network: standardised, and not all the same."""

import numpy as np
from sklearn.utils import gen_batches

from skhash._blocks import row_blocks
from skhash.deep._inputs import FeatureRows

__all__ = ["StandardizedRowsMixin", "check_varies", "mean_and_scale"]

# Samples that are compared with the first one at once.
_BLOCK_SAMPLES = 16


class StandardizedRowsMixin:
    """Mixin of a hasher whose network is given feature rows, standardised or as they are."""

    _takes_blocks = True

    def _rows(self, X, *, learns):
        """Return validated feature rows as a source, standardised where the network asks for it.

        A warm start goes on with the standardisation of the last fit.
        """
        if learns and self._chosen_network() == "mlp":
            start_from = vars(self).get("_start_from", {})
            if "network_" not in start_from:
                mean, scale = mean_and_scale(X)
                self.mean_ = mean.astype(X.dtype)
                # A standard deviation of the least floats would round to 0.
                self.scale_ = np.maximum(scale, np.finfo(X.dtype).tiny).astype(X.dtype)
            elif len(start_from.get("mean_", ())) == X.shape[1]:
                self.mean_, self.scale_ = start_from["mean_"], start_from["scale_"]
        return FeatureRows(X, getattr(self, "mean_", None), getattr(self, "scale_", None))


def mean_and_scale(X):
    """Mean and standard deviation of each feature, summed in float64, a block of rows at a time.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), floating
        Rows, in memory or mapped.

    Returns
    -------
    mean, scale : ndarray of shape (n_features,), dtype float64
        The scale is 1 where a feature is constant, but for rounding.
    """
    blocks = list(row_blocks(len(X)))
    origin = X[0].astype(np.float64)
    mean = origin + sum((X[rows] - origin).sum(axis=0) for rows in blocks) / len(X)
    lower, upper = (end(axis=0).astype(np.float64) for end in (X.min, X.max))
    width = upper - lower
    varies = width > 8 * np.finfo(np.float64).eps * np.maximum(np.abs(lower), np.abs(upper))
    # In units of the width, squares neither overflow nor vanish.
    unit = np.where(varies, width, 1)
    variances = sum((((X[rows] - mean) / unit) ** 2).sum(axis=0) for rows in blocks) / len(X)
    return mean, np.where(varies, unit * np.sqrt(variances), 1)


def check_varies(source):
    """Raise if all samples of a source are equal: no network tells them apart."""
    first = source.batch(slice(0, 1))
    for rows in gen_batches(len(source), _BLOCK_SAMPLES):
        if (source.batch(rows) != first).any():
            return
    raise ValueError(
        f"X should vary over the training samples, got {len(source)} that are equal as the "
        "network sees them."
    )
