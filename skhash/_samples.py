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
    name = type(X).__name__
    advice = (
        "list(X) makes a sequence of what it gives, if that ends; partial_fit and add_to_database "
        "take lists of some of it, one after another."
    )
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
    """Whether `X` makes its rows when they are asked for by number, and is no array.

    So are data sets of torch, which are no iterables: to numpy they seem to be without end. Those
    of Hugging Face are iterables, and have a shape without being an array.
    """
    if not hasattr(X, "__getitem__") or not hasattr(X, "__len__"):
        return False
    if hasattr(X, "__array__") or hasattr(X, "dtype"):
        return False
    return hasattr(X, "shape") or not hasattr(X, "__iter__")


def check_in_memory(X):
    """Raise if `X` is nothing that may become an array at once."""
    check_rows(X)
    if is_lazy(X):
        raise ValueError(
            f"X should be an array of shape (n_samples, n_features), got a {type(X).__name__} of "
            "which rows are made when they are asked for. np.stack([X[i] for i in range(len(X))]) "
            "makes an array of rows that are arrays; partial_fit and add_to_database take arrays "
            "of some rows, one after another."
        )


def check_minimum(n_samples, minimum, hasher):
    """Raise in scikit-learn's words if there are fewer samples than a hasher needs."""
    if n_samples < minimum:
        raise ValueError(
            f"Found array with {n_samples} sample(s) while a minimum of {minimum} is required by "
            f"{type(hasher).__name__}."
        )
