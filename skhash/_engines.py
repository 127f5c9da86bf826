"""What searches packed codes, by name: engines of one interface."""

import numpy as np

from skhash.codes import hamming_distances

__all__ = ["ALGORITHMS", "make_engine"]

ALGORITHMS = ("auto", "brute", "faiss", "multi_index")


def make_engine(algorithm, codes, n_bits):  # noqa: ARG001
    """Return an engine for the packed codes."""
    if algorithm == "faiss":
        try:
            import faiss  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "algorithm='faiss' needs the package faiss; `pip install faiss-cpu` brings it. "
                "'brute' needs none."
            ) from error
    return _Engine(codes)


class _Engine:
    """A full sort."""

    def __init__(self, codes):
        self.codes = codes

    def nearest(self, query_codes, n_neighbors, n_jobs=None):  # noqa: ARG002
        """Return distances and rows of the nearest, by (distance, row)."""
        distances = hamming_distances(query_codes, self.codes)
        rows = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
        return np.take_along_axis(distances, rows, axis=1), rows

    def within(self, query_codes, radius, n_jobs=None):  # noqa: ARG002
        """Return indptr, distances and rows of all within the radius, by (distance, row)."""
        distances = hamming_distances(query_codes, self.codes)
        radius = np.broadcast_to(radius, len(query_codes))
        query, rows = np.nonzero(distances <= radius[:, None])
        near = distances[query, rows]
        order = np.lexsort((rows, near, query))
        indptr = np.append(0, np.cumsum(np.bincount(query, minlength=len(query_codes))))
        return indptr, near[order], rows[order]
