"""What X has to be whatever the hasher: rows of a known number, each there when asked for."""

__all__ = ["check_in_memory", "check_minimum", "check_rows", "is_lazy"]


def check_rows(X):
    """Raise if `X` has no length, or is gone after one pass.

    Parameters
    ----------
    X : object
        What a user gives as samples.

    Raises
    ------
    ValueError
        If `X` is an iterator, or no sequence at all. What is an array, or may become one, passes.
    """
    if hasattr(X, "shape") or hasattr(X, "__array__"):
        return
    name, advice = type(X).__name__, "list(X) makes a sequence of what it gives, if that ends."
    if hasattr(X, "__next__"):
        raise ValueError(
            f"X should be an array or a sequence, which can be gone through again, got a {name}. "
            f"{advice}"
        )
    if hasattr(X, "__iter__") and not hasattr(X, "__getitem__"):
        raise ValueError(
            f"X should be an array or a sequence, with rows by number, got a {name}, which can "
            f"only be gone through. {advice}"
        )
    if hasattr(X, "__getitem__") and not hasattr(X, "__len__"):
        raise ValueError(
            f"X should be an array or a sequence, with a length, got a {name} without __len__. "
            f"{advice}"
        )


def is_lazy(X):
    """Whether `X` has a length and rows by number, and nothing else of a sequence.

    So are data sets of torch. To numpy they seem to be without end.
    """
    return (
        hasattr(X, "__getitem__")
        and hasattr(X, "__len__")
        and not any(hasattr(X, name) for name in ("__iter__", "__array__", "shape"))
    )


def check_in_memory(X):
    """Raise if `X` is nothing that may become an array at once."""
    check_rows(X)
    if is_lazy(X):
        raise ValueError(
            f"X should be an array of shape (n_samples, n_features), got a {type(X).__name__} of "
            "which rows are made when they are asked for. np.stack([X[i] for i in range(len(X))]) "
            "makes an array of rows that are arrays."
        )


def check_minimum(n_samples, minimum, hasher):
    """Raise in scikit-learn's words if there are fewer samples than a hasher needs."""
    if n_samples < minimum:
        raise ValueError(
            f"Found array with {n_samples} sample(s) while a minimum of {minimum} is required by "
            f"{type(hasher).__name__}."
        )
