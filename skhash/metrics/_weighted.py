"""Rankings by weighted bits: what queries have at each distance and relevance, up to a rank.

Weighted distances take far more values than the bits have, so a table of all of them would be as
large as the database. Here only those that there are have cells, and only up to a rank. What is
beyond it is counted by relevance, for the denominators of metrics.
"""

from typing import NamedTuple

import numpy as np

from skhash.codes import unpack_codes, whole_distances, whole_weights
from skhash.metrics._closed_forms import evaluate
from skhash.metrics._counting import memory_bytes, slices

__all__ = ["WeightedRanking", "weighted_rankings"]

# Bytes of a pair of a query and an item: distance, relevance, and what they are made of.
_PAIR_BYTES = 24
# Entries of label sets that are unpacked at once.
_BLOCK_LABELS = 2**22


class WeightedRanking(NamedTuple):
    """Items of a query at its distances and relevances, as far as some number of ranks.

    Items at the distance of the last rank are all there. Rankings of the parts of a database, of
    the same query and number of ranks, merge to that of the whole.

    Parameters
    ----------
    cells : ndarray of shape (n_cells,), dtype int64
        Where there are items: distance times `n_relevances` plus relevance, in ascending order.

    counts : ndarray of shape (n_cells,), dtype int64
        How many there are.

    beyond : ndarray of shape (n_relevances,), dtype int64
        Items at larger distances, by relevance.
    """

    cells: np.ndarray
    counts: np.ndarray
    beyond: np.ndarray

    @classmethod
    def of_items(cls, distances, relevances, n_relevances, n_ranks=None):
        """Rank the items that have these distances and relevances, up to a rank or, None, all."""
        cells = distances * n_relevances + relevances
        beyond = np.zeros(n_relevances, np.int64)
        if n_ranks is not None and n_ranks < len(cells):
            last = np.partition(cells, n_ranks - 1)[n_ranks - 1]
            near = cells < (last // n_relevances + 1) * n_relevances
            beyond += np.bincount(relevances[~near], minlength=n_relevances)
            cells = cells[near]
        return cls(*np.unique(cells, return_counts=True), beyond)

    def merge(self, other, n_ranks):
        """Return the ranking of the items of both, up to a rank."""
        cells, place = np.unique(np.concatenate([self.cells, other.cells]), return_inverse=True)
        counts = np.zeros(len(cells), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return type(self)(cells, counts, self.beyond + other.beyond).cut(n_ranks)

    def cut(self, n_ranks):
        """Return the ranking up to a lower rank."""
        levels = self.cells // len(self.beyond)
        nearer = (self.counts.cumsum() - self.counts)[np.searchsorted(levels, levels)]
        near = nearer < n_ranks
        beyond = self.beyond.copy()
        np.add.at(beyond, self.cells[~near] % len(beyond), self.counts[~near])
        return type(self)(self.cells[near], self.counts[near], beyond)

    def without(self, distance, relevance):
        """Return the ranking without an item that is in it, up to one rank less."""
        cell = distance * len(self.beyond) + relevance
        is_own = self.cells == cell
        beyond = self.beyond.copy()
        beyond[relevance] -= not is_own.any()
        counts = self.counts - is_own
        return type(self)(self.cells[counts > 0], counts[counts > 0], beyond)

    def evaluate(self, metric, *, k=None, **options):
        """Return a metric of the ranking, up to the rank that it goes to; NaN without relevant.

        Parameters
        ----------
        metric : str
            Name of the metric.

        k : int, default=None
            Number of ranks that the ranking goes to; None is all.

        **options : dict
            As :func:`skhash.metrics._closed_forms.evaluate` takes them.
        """
        # Alone, since sums round as the width of a table says, which others would decide.
        levels, row = np.unique(self.cells // len(self.beyond), return_inverse=True)
        table = np.zeros((1, len(levels) + self.beyond.any(), len(self.beyond)), np.int64)
        table[0, row, self.cells % len(self.beyond)] = self.counts
        table[0, len(levels) :] = self.beyond
        return evaluate(metric, table, k=k, **options)[0]


def weighted_rankings(problem, n_ranks=None, working_memory=None):
    """Rank the database for every query, by the weights of its bits.

    Parameters
    ----------
    problem : RetrievalProblem
        Queries, with weights of their bits, and database.

    n_ranks : int, default=None
        Number of ranks that will be looked at. None means all.

    working_memory : float, default=None
        Bound on the temporaries in MiB. None takes ``sklearn.get_config()["working_memory"]``.

    Yields
    ------
    ranking : WeightedRanking
        Of the next query.

    Examples
    --------
    >>> from skhash.metrics._problem import RetrievalProblem
    >>> from skhash.metrics._weighted import weighted_rankings
    >>> problem = RetrievalProblem.from_codes([[0, 0]], ["cat"], [[0, 1], [1, 1]], ["cat", "dog"],
    ...                                       query_weights=[[1, 2]])
    >>> [round(ranking.evaluate("precision", k=1)) for ranking in weighted_rankings(problem, 1)]
    [1]
    """
    size = memory_bytes(working_memory) // (_PAIR_BYTES * max(1, len(problem.database_codes)))
    n_relevances = problem.max_relevance + 1
    for rows in slices(problem.n_queries, max(1, int(size))):
        part = problem.of_queries(rows)
        whole, _ = whole_weights(part.query_weights)
        pairs = whole_distances(part.query_codes, part.database_codes, whole), _relevances(part)
        if part.own_codes is None:
            yield from (
                WeightedRanking.of_items(*items, n_relevances, n_ranks)
                for items in zip(*pairs, strict=True)
            )
        else:
            yield from _leave_one_out(part, whole, pairs, n_relevances, n_ranks)


def _leave_one_out(problem, whole, pairs, n_relevances, n_ranks):
    """Yield the rankings of queries that are items, without themselves."""
    different = unpack_codes(problem.query_codes ^ problem.own_codes, whole.shape[1])
    own = (whole * different).sum(axis=1).astype(np.int64)
    # A sample shares all labels with itself.
    n_own = np.bitwise_count(problem.query_labels).sum(axis=1, dtype=np.int64)
    for *items, distance, relevance in zip(*pairs, own, n_own, strict=True):
        one_more = None if n_ranks is None else n_ranks + 1
        ranking = WeightedRanking.of_items(*items, n_relevances, one_more)
        ranking = ranking.without(distance, relevance)
        yield ranking if n_ranks is None else ranking.cut(n_ranks)


def _relevances(problem):
    """Return the numbers of labels that queries and items share; labels are unpacked in parts."""
    # Labels that no query has do not matter.
    used = problem.query_labels.any(axis=0)
    queries = np.unpackbits(problem.query_labels[:, used], axis=1).astype(np.float32)
    items = problem.database_labels[:, used]
    relevances = np.empty((problem.n_queries, len(items)), np.int64)
    for rows in slices(len(items), max(1, _BLOCK_LABELS // max(1, queries.shape[1]))):
        relevances[:, rows] = queries @ np.unpackbits(items[rows], axis=1).T.astype(np.float32)
    return relevances
