"""Exact search of packed codes by tables of their substrings, for neighbours that are near."""

from functools import lru_cache
from itertools import pairwise
from math import comb

import numpy as np
from sklearn.utils import gen_batches

from skhash._brute import in_threads, joined_lists
from skhash.codes import distance_type

__all__ = [
    "MultiIndexEngine",
    "packed_keys",
    "places_of_ranges",
    "rows_by_place",
    "unpacked_keys",
]

# Codes whose keys are sorted at once when a table is made.
_BLOCK_CODES = 2**14
# Codes that are searched as a trial when there are tables, for so many neighbours.
_TRIAL_QUERIES, _TRIAL_NEIGHBORS = 32, (1, 10, 100, 1000)
# Queries that are enough for a trial of their own, and those of which one is tried.
_LEAST_QUERIES, _QUERIES_PER_TRIAL, _MOST_TRIALS = 1024, 64, 256
# What is spent on each of fewer within a radius, where that is not known to be too little.
_RADIUS_BUDGET = 0.4
# Queries that are searched together; lookups and candidates that are in memory at once.
_BATCH_QUERIES = 2**9
_BATCH_LOOKUPS = 2**13
_BATCH_CANDIDATES = 2**14
# Nanoseconds that it takes to look up a substring, to compare a candidate, to keep what is found.
_LOOKUP_COST = 12
_CANDIDATE_COST = 30
_FOUND_COST = 100
# Pairs that are kept before those that are too far are forgotten.
_MOST_KEYS = 2**16
# An odd number by which words are multiplied, so that the first bits depend on all.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class MultiIndexEngine:
    """Search in tables of substrings, with a radius that grows until it is wide enough.

    Each code is cut into `n_tables` substrings, and a table has the rows of each value of one of
    them. Codes at a distance of at most ``n_tables * r + j`` differ in at most `r` bits in one of
    the first ``j + 1`` substrings, or in at most ``r - 1`` in one of the others [1]_. So tables
    are asked for the substrings of the query, one table after the other, then for those at a
    distance of 1, and so on, until no nearer code can be missing. A query for which that costs too
    much is left to tables of shorter substrings, and in the end to a scan of all codes.

    Parameters
    ----------
    codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes, fewer than ``2 ** 32``, which are not copied.

    n_bits : int
        Number of bits of a code, below ``2 ** 16``.

    numbers_of_tables : list of int
        Numbers of substrings that codes are cut into, ascending. The first is at least an eighth
        of the number of bytes.

    n_bytes : int
        What the lists of a table may take beside the rows in them.

    scan : object
        Engine that takes the queries that are left, such as :class:`skhash._brute.BruteEngine`.

    References
    ----------
    .. [1] M. Norouzi, A. Punjani, D. J. Fleet, "Fast search in Hamming space with multi-index
           hashing", CVPR 2012.
    """

    def __init__(self, codes, n_bits, numbers_of_tables, n_bytes, scan):
        self.codes, self.n_bits, self.scan = codes, n_bits, scan
        self.words = _rows_of_words(codes)
        self.sets = [
            [
                _Table(codes, start, stop - start, n_bytes)
                for start, stop in pairwise(_cuts(n_bits, n_tables))
            ]
            for n_tables in numbers_of_tables
        ]
        some = codes[:: max(1, len(codes) // _TRIAL_QUERIES)]
        # What is spent where queries are too few for a trial of their own, and what that costs.
        self.plans = {
            # One more: those that are searched find themselves.
            n_neighbors: self._plan(some, self._widest(some), min(n_neighbors + 1, len(codes)))
            for n_neighbors in _TRIAL_NEIGHBORS
        }

    def nearest(self, query_codes, n_neighbors, n_jobs=None):
        """Find the nearest items of each query, see :meth:`skhash._brute.BruteEngine.nearest`.

        Parameters
        ----------
        query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
            Packed codes.

        n_neighbors : int
            Number of items to find, from 1 to `n_database`.

        n_jobs : int, default=None
            Threads that share the queries, as joblib understands it.

        Returns
        -------
        distances, rows : ndarray of shape (n_queries, n_neighbors), integer
            Sorted by distance, then by row.
        """
        distances = np.empty((len(query_codes), n_neighbors), distance_type(query_codes))
        rows = np.empty((len(query_codes), n_neighbors), np.int64)
        found, left = self._search(query_codes, self._widest(query_codes), n_neighbors, n_jobs)
        for query, *near in found:
            done = query[::n_neighbors]
            distances[done], rows[done] = (part.reshape(-1, n_neighbors) for part in near)
        if len(left):
            near = self.scan.nearest(query_codes[left], n_neighbors, n_jobs)
            distances[left], rows[left] = near
        return distances, rows

    def within(self, query_codes, radius, n_jobs=None):
        """Find all items within a radius, see :meth:`skhash._brute.BruteEngine.within`.

        Parameters
        ----------
        query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
            Packed codes.

        radius : int or ndarray of shape (n_queries,), integer
            Largest Hamming distance of an item that is found; or that of each query.

        n_jobs : int, default=None
            Threads that share the queries, as joblib understands it.

        Returns
        -------
        indptr, distances, rows : ndarray
            Items of each query, sorted by distance, then by row.
        """
        radius = np.broadcast_to(radius, len(query_codes))
        found, left = self._search(query_codes, radius, None, n_jobs)
        if len(left):
            indptr, *near = self.scan.within(query_codes[left], radius[left], n_jobs)
            found.append((np.repeat(left, np.diff(indptr)), *near))
        return joined_lists(found, len(query_codes), distance_type(query_codes))

    def _search(self, query_codes, radius, n_neighbors, n_jobs):
        """Return queries, distances and rows that tables find, and the queries that are left."""
        found, left = [], np.arange(len(query_codes))
        budgets = self._budgets(query_codes, radius, n_neighbors)
        for tables, budget in zip(self.sets, budgets, strict=True):
            if not len(left):
                break
            batches = {}

            def search(some, tables=tables, budget=budget, left=left, batches=batches):
                queries = left[some]
                batch = _Batch(self, tables, query_codes[queries], radius[queries], n_neighbors)
                batch.run(budget)
                owner, *near = batch.found()
                batches[some.start] = (queries[owner], *near), queries[batch.left]

            in_threads(search, len(left), n_jobs, _BATCH_QUERIES)
            found.extend(batches[start][0] for start in sorted(batches))
            left = np.concatenate([left[:0], *(batches[start][1] for start in sorted(batches))])
        return found, left

    def _budgets(self, query_codes, radius, n_neighbors):
        """Return what may be spent on each query in each set of tables."""
        if len(query_codes) >= _LEAST_QUERIES:
            some = slice(None, None, max(_QUERIES_PER_TRIAL, len(query_codes) // _MOST_TRIALS))
            return self._plan(query_codes[some], radius[some], n_neighbors)[0]
        if n_neighbors is None:
            return [_RADIUS_BUDGET] * len(self.sets)
        tried = [n_tried for n_tried in _TRIAL_NEIGHBORS if n_tried >= n_neighbors]
        return self.plans[tried[0] if tried else _TRIAL_NEIGHBORS[-1]][0]

    def _plan(self, query_codes, radius, n_neighbors):
        """Find out on some queries what is best spent on one in each set before it is left.

        Returns
        -------
        budgets : list of float
            What is best spent in each set, as a share of what a scan of all codes costs.

        cost : float
            What a query then costs in the mean, as such a share.
        """
        budgets, rest = [], 1.0
        for tables in reversed(self.sets):
            batch = _Batch(self, tables, query_codes, radius, n_neighbors).run(rest)
            spent = np.where(batch.left, np.inf, rest - batch.budget / self.scan.cost)
            choices = np.unique(np.append(0.0, spent[~batch.left]))[:, None]
            costs = np.where(spent <= choices, spent, choices + rest).mean(axis=1)
            # Others cost a little more than those that were tried.
            budgets.insert(0, 1.5 * choices[costs.argmin(), 0])
            rest = costs.min()
        return budgets, rest

    def _widest(self, query_codes):
        """Return the radius that holds all items, for each query."""
        return np.full(len(query_codes), self.n_bits)


class _Batch:
    """Queries that are searched together, and what was found for them so far.

    Parameters
    ----------
    index : MultiIndexEngine
        What they are searched in.

    tables : list of _Table
        The tables that are asked.

    query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
        Packed codes, at most `_BATCH_QUERIES`.

    radius : ndarray of shape (n_queries,), integer
        Largest distance of an item that is found.

    n_neighbors : int or None
        Number of nearest items to find, which narrows the radius.
    """

    def __init__(self, index, tables, query_codes, radius, n_neighbors):
        self.index, self.tables, self.codes = index, tables, query_codes
        self.n_neighbors, self.words = n_neighbors, _rows_of_words(query_codes)
        self.radius = radius.astype(np.int64)
        self.left = np.zeros(len(query_codes), bool)
        # Nanoseconds that may still be spent.
        self.budget = np.zeros(len(query_codes))
        self.n_at = np.zeros((len(query_codes), index.n_bits + 1), np.int64)
        # Those that are found, and how many more there may be before some are forgotten.
        self.keys, self.n_more = [], _MOST_KEYS

    def run(self, budget):
        """Search until each query has all that it asks for, or has spent a share of a scan."""
        self.budget[:] = budget * self.index.scan.cost
        if self.n_neighbors is None:
            self._leave_too_wide()
        # After a step, no item at a distance up to its number is missing.
        for step in range(self.index.n_bits + 1):
            active = np.flatnonzero((self.radius >= step) & ~self.left)
            if not len(active):
                break
            n_differ, table = divmod(step, len(self.tables))
            self._look_up(active, table, n_differ)
        return self

    def _leave_too_wide(self):
        """Leave queries whose radius takes more lookups than they can pay."""
        n_tables = len(self.tables)
        for radius in np.unique(self.radius):
            n_lookups = sum(
                comb(self.tables[step % n_tables].width, step // n_tables)
                for step in range(radius + 1)
            )
            self.left |= (self.radius == radius) & (_LOOKUP_COST * n_lookups > self.budget)

    def found(self):
        """Return what was found for the queries that are not left.

        Returns
        -------
        owner : ndarray of shape (n_found,), dtype int64
            The query of each item, ascending.

        distances : ndarray of shape (n_found,), dtype int64
            Hamming distances, ascending for each query.

        rows : ndarray of shape (n_found,), dtype int64
            Rows of the database; of rows at equal distance, the lower comes first.
        """
        self._prune()
        return unpacked_keys(np.sort(self.keys[0]), self.n_neighbors)

    def _look_up(self, queries, table, n_differ):
        """Compare queries with the items whose substrings differ in so many bits from theirs."""
        width = self.tables[table].width
        n_masks = comb(width, n_differ)
        queries = queries[self._afford(queries, _LOOKUP_COST * n_masks)]
        if not len(queries):
            return
        masks = _masks(width, n_differ)
        for part in gen_batches(n_masks, _BATCH_LOOKUPS):
            for some in gen_batches(len(queries), max(1, _BATCH_LOOKUPS // n_masks)):
                self._look_up_masked(queries[some], table, masks[part])

    def _look_up_masked(self, queries, table, masks):
        """Compare queries with the items whose substrings differ from theirs in these bits."""
        lists = self.tables[table]
        keys = (lists.keys(self.codes[queries])[:, None] ^ masks).ravel()
        # Most substrings that are asked for, if they are long, are of no item.
        asked = np.flatnonzero(lists.may_have(keys))
        starts, counts = lists.span(keys[asked])
        owner, masks = np.repeat(queries, len(masks))[asked], np.tile(masks, len(queries))[asked]
        costs = np.bincount(owner, _CANDIDATE_COST * counts, minlength=len(self.budget))
        self._afford(queries, costs[queries])
        counts[self.left[owner]] = 0
        for lookups, rows in _listed(lists.rows, starts, counts):
            # What is found costs too: a query may have been left since its list was begun.
            kept = np.flatnonzero(~self.left.take(owner.take(lookups)))
            self._compare(owner, masks, lookups[kept], rows[kept], table)

    def _afford(self, queries, cost):
        """Return which queries can still pay; the others are left."""
        self.budget[queries] -= cost
        kept = self.budget[queries] >= 0
        self.left[queries] = ~kept
        return kept

    def _compare(self, queries, masks, lookups, rows, table):
        """Keep the pairs of a query and an item that are near and were not found before.

        Each lookup is of a query and of a mask, the bits in which its substring differs.
        """
        owner = queries.take(lookups)
        # With this mode places are not checked, which would take longer than all else.
        different = self.index.words.take(rows, axis=0, mode="clip")
        different ^= self.words.take(owner, axis=0, mode="clip")
        distances = _row_sums(np.bitwise_count(different))
        near = np.flatnonzero(distances <= self.radius.take(owner, mode="clip"))
        owner, rows, lookups, distances = (
            part[near] for part in (owner, rows, lookups, distances)
        )
        different = self.index.codes[rows] ^ self.codes[owner]
        new = self._is_new(different, table, masks[lookups])
        owner, rows, distances = owner[new], rows[new], distances[new]
        if not len(owner):
            return
        self.keys.append(packed_keys(owner, distances, rows))
        if self.n_neighbors is not None:
            self._narrow(owner, distances)
        n_found = np.bincount(owner, minlength=len(self.budget))
        self._afford(np.unique(owner), _FOUND_COST * n_found[n_found > 0])
        self.n_more -= len(owner)
        if self.n_more < 0:
            self._prune()

    def _is_new(self, different, table, masks):
        """Return which items are those that were asked for, and were not found by another table.

        The bits that differ have shape (n_pairs, n_bytes); of the substring, those of the masks
        are to differ.
        """
        n_differ = np.bitwise_count(masks)
        # Substrings of other values may be in the same list.
        new = self.tables[table].keys(different) == masks
        for number, lists in enumerate(self.tables):
            # Tables before this one were asked for as many bits that differ as this one.
            new &= np.bitwise_count(lists.keys(different)) >= n_differ + (number < table)
        return new

    def _narrow(self, owner, distances):
        """Narrow the radius of queries that have enough neighbours."""
        some, n_levels = slice(owner[0], owner[-1] + 1), self.n_at.shape[1]
        n_at = self.n_at[some]
        cells = (owner - owner[0]) * n_levels + distances
        n_at += np.bincount(cells, minlength=n_at.size).reshape(n_at.shape)
        enough = n_at.cumsum(axis=1) >= self.n_neighbors
        self.radius[some] = np.where(enough[:, -1], enough.argmax(axis=1), self.radius[some])

    def _prune(self):
        """Forget pairs that are too far, and those of queries that are left."""
        keys = np.concatenate([np.empty(0, np.int64), *self.keys])
        owner, distances, _ = unpacked_keys(keys)
        self.keys = [keys[(distances <= self.radius[owner]) & ~self.left[owner]]]
        self.n_more = max(_MOST_KEYS, len(self.keys[0]))


def packed_keys(owner, distances, rows):
    """Return integers that sort pairs by query, distance and row.

    Parameters
    ----------
    owner : ndarray of shape (n_pairs,), dtype int64
        Queries, fewer than ``2 ** 15``.

    distances : ndarray of shape (n_pairs,), dtype int64
        Distances, fewer than ``2 ** 16``.

    rows : ndarray of shape (n_pairs,), dtype int64
        Rows, fewer than ``2 ** 32``.

    Returns
    -------
    keys : ndarray of shape (n_pairs,), dtype int64
        One integer a pair.
    """
    return owner << 48 | distances << 32 | rows


def unpacked_keys(keys, n_neighbors=None):
    """Return the pairs of integers, see :func:`packed_keys`.

    Parameters
    ----------
    keys : ndarray of shape (n_pairs,), dtype int64
        Integers, sorted where `n_neighbors` is given.

    n_neighbors : int, default=None
        Number of pairs of each query to return: the first ones. None: all.

    Returns
    -------
    owner, distances, rows : ndarray of shape (n_kept,), dtype int64
        The pairs.
    """
    owner = keys >> 48
    if n_neighbors is not None:
        rank = np.arange(len(keys)) - np.searchsorted(owner, owner)
        keys, owner = (part[rank < n_neighbors] for part in (keys, owner))
    return owner, keys >> 32 & 0xFFFF, keys & 0xFFFFFFFF


def places_of_ranges(starts, counts):
    """Return all integers of ranges, one range after the other.

    Parameters
    ----------
    starts, counts : ndarray of shape (n_ranges,), integer
        The first integer of each range, and how many it has.

    Returns
    -------
    places : ndarray of shape (n_places,), dtype int64
        The integers.
    """
    ends = counts.cumsum()
    return np.repeat(starts - (ends - counts), counts) + np.arange(counts.sum())


def rows_by_place(places, n_rows, n_places):
    """Sort rows by their places, in little more memory than the result takes.

    Parameters
    ----------
    places : callable
        It yields the places of all rows, a block after the other, each time that it is called.

    n_rows : int
        Number of rows.

    n_places : int
        Number of places.

    Returns
    -------
    offsets : ndarray of shape (n_places + 1,), dtype uint32
        The rows of place `i` are those from ``offsets[i]`` to ``offsets[i + 1]``.

    rows : ndarray of shape (n_rows,), dtype uint32
        Rows, ascending at each place.
    """
    rows, start = np.empty(n_rows, np.uint32), 0
    # While rows are written, the entry behind that of a place says where its next row goes. In the
    # end that is where the rows of the next place start.
    offsets = np.zeros(n_places + 2, np.uint32)
    for block in places():
        np.add.at(offsets, block + 2, np.uint32(1))
    np.cumsum(offsets, out=offsets)
    for block in places():
        order = block.argsort(kind="stable")
        ordered = block[order]
        first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        place, counts = ordered[first] + 1, np.diff(np.append(first, len(block)))
        rows[places_of_ranges(offsets[place], counts)] = order + start
        offsets[place] += counts.astype(np.uint32)
        start += len(block)
    return offsets[:-1], rows


class _Table:
    """Rows of a database by a substring of their codes, in lists of one or several values of it.

    Parameters
    ----------
    codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes.

    start : int
        First bit of the substring.

    width : int
        Number of its bits, at most 56, or 64 where they are whole bytes.

    n_bytes : int
        What lists may take beside the rows in them.
    """

    def __init__(self, codes, start, width, n_bytes):
        self.start, self.width = start, width
        # Each list takes four bytes. A bit for each of more places tells which have a substring.
        self.list_bits = _log2(n_bytes * 3 / 4 / 4, width)
        self.place_bits = _log2(n_bytes * 8 / 4, width)
        self.present = np.zeros(-(-(2**self.place_bits) // 8), np.uint8)
        for block in gen_batches(len(codes), _BLOCK_CODES):
            places = self._places(self.keys(codes[block]), self.place_bits)
            np.bitwise_or.at(self.present, places >> 3, np.left_shift(1, places & 7).astype("u1"))

        def places():
            blocks = gen_batches(len(codes), _BLOCK_CODES)
            return (self._places(self.keys(codes[block]), self.list_bits) for block in blocks)

        self.offsets, self.rows = rows_by_place(places, len(codes), 2**self.list_bits)

    def keys(self, codes):
        """Return the substrings of packed codes as integers."""
        first, shift = divmod(self.start, 8)
        n_bytes = -(-(shift + self.width) // 8)
        keys = np.zeros(len(codes), np.uint64)
        for column in codes[:, first : first + n_bytes].T:
            keys <<= np.uint64(8)
            keys |= column
        keys >>= np.uint64(8 * n_bytes - shift - self.width)
        return keys & np.uint64(2**self.width - 1)

    def may_have(self, keys):
        """Return 0 for substrings that no item has, and 1 for those that one may have."""
        places = self._places(keys, self.place_bits)
        return self.present.take(places >> 3, mode="clip") >> (places & 7).astype("u1") & 1

    def span(self, keys):
        """Return where the lists of substrings start, and how many rows they have."""
        places = self._places(keys, self.list_bits)
        starts = self.offsets.take(places, mode="clip").astype(np.int64)
        return starts, self.offsets.take(places + 1, mode="clip") - starts

    def _places(self, keys, n_bits):
        """Return integers of so many bits for substrings: themselves if they are as short."""
        if self.width > n_bits:
            keys = keys * _SPREAD >> np.uint64(64 - n_bits)
        return keys.astype(np.int64)


def _log2(number, largest):
    """Return the whole part of a logarithm, between 1 and a largest value."""
    return int(min(largest, np.log2(max(2, number))))


def _listed(rows, starts, counts):
    """Yield the lookups of lists, and the rows in these, a limited number at a time."""
    ends = counts.cumsum()
    shifts = starts - (ends - counts)
    n_rows = int(ends[-1]) if len(ends) else 0
    for low in range(0, n_rows, _BATCH_CANDIDATES):
        high = min(n_rows, low + _BATCH_CANDIDATES)
        first, last = np.searchsorted(ends, [low, high - 1], side="right")
        some = slice(first, last + 1)
        n_each = np.minimum(ends[some], high) - np.maximum(ends[some] - counts[some], low)
        lookups = np.repeat(np.arange(first, last + 1), n_each)
        places = np.repeat(shifts[some], n_each) + np.arange(low, high)
        yield lookups, rows.take(places, mode="clip").astype(np.int64)


def _cuts(n_bits, n_tables):
    """Return where the substrings of each table start, and the number of bits."""
    if n_bits <= 56 * n_tables:
        return [n_bits * number // n_tables for number in range(n_tables + 1)]
    # Substrings of more bits are whole bytes: their integers are made of eight at most.
    n_bytes = -(-n_bits // 8)
    return [*(8 * (n_bytes * number // n_tables) for number in range(n_tables)), n_bits]


@lru_cache(maxsize=64)
def _masks(width, n_differ):
    """Return all integers of so many bits of which so many are set."""
    if not n_differ:
        return np.zeros(1, np.uint64)
    fewer, bits = _masks(width, n_differ - 1), 2 ** np.arange(width, dtype=np.uint64)
    # One more bit each, above all others.
    number, bit = np.nonzero(bits > fewer[:, None])
    return fewer[number] | bits[bit]


def _rows_of_words(codes):
    """View packed codes as the longest words that divide them, without a copy."""
    size = next(size for size in (8, 4, 2, 1) if codes.shape[1] % size == 0)
    return np.ascontiguousarray(codes).view(f"u{size}")


def _row_sums(counts):
    """Return the sums of rows that are short, faster than by an axis."""
    sums = counts[:, 0].astype(np.int64)
    for column in counts.T[1:]:
        sums += column
    return sums
