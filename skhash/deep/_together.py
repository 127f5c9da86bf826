"""A fit that several processes do together: when it begins and ends, and that they agree on it."""

from contextlib import contextmanager

from skhash.deep._checkpoint import described, digest
from skhash.deep._distributed import joined_ranks

__all__ = ["check_alike", "has_callbacks", "together"]

# Parameters in which processes may differ: the first one decides, or each for itself.
_OF_A_PROCESS = {"checkpoint_dir", "device", "random_state", "verbose"}


@contextmanager
def together(hasher):
    """Have the processes of torchrun fit a hasher together; callbacks are those of the first."""
    ranks = hasher._ranks = joined_ranks()
    callbacks = None if ranks.is_first else vars(hasher).pop("_skl_callbacks", None)
    try:
        yield
    finally:
        vars(hasher).pop("_ranks", None)
        if callbacks is not None:
            hasher._skl_callbacks = callbacks


def has_callbacks(hasher):
    """Return whether there are callbacks of scikit-learn to call."""
    return bool(vars(hasher).get("_skl_callbacks"))


def check_alike(ranks, hasher, device, *, X, y, X_val=None, y_val=None):
    """Raise unless all processes have the same samples, label sets, parameters and device.

    Parameters
    ----------
    ranks : Ranks or Alone
        The processes.

    hasher : DeepRankingHasher
        What they fit.

    device : torch.device
        Where this one computes.

    X, X_val : FeatureRows, ImageArray, ImageFiles or ImageSequence
        The samples, and those that are held out or None.

    y, y_val : ndarray of shape (n_samples, n_labels)
        Their label sets.
    """
    if ranks.size == 1:
        return
    if hasher.on_interrupt != "raise":
        raise ValueError(
            f"on_interrupt={hasher.on_interrupt!r} has no effect where processes train together, "
            "which end together; checkpoint_dir keeps what they have learnt. Set it to 'raise'."
        )
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device should be a CPU or CUDA where processes train together, got {device.type!r}; "
            "device='cpu' would do."
        )
    given = {"kind of device": device.type, "checkpoint_dir": hasher.checkpoint_dir is None}
    for names, samples in ((("X", "y"), (X, y)), (("X_val", "y_val"), (X_val, y_val))):
        if samples[0] is not None:
            given |= zip(names, digest(*samples), strict=True)
    for name, value in hasher.get_params(deep=False).items():
        if name not in _OF_A_PROCESS:
            given[name] = _text(value)
    first, *others = ranks.all_of(given)
    for rank, other in enumerate(others, start=1):
        names = sorted(first.keys() | other.keys())
        differing = [name for name in names if first.get(name) != other.get(name)]
        if differing:
            raise ValueError(
                "Processes that train together should be given the same, got other "
                f"{', '.join(differing)} in the process of rank {rank} than in that of rank 0."
            )


def _text(value):
    """Return a text for the value of a parameter, or nothing if it shows nothing of itself."""
    try:
        return described(value)
    except (ValueError, RecursionError):
        return ""
