"""Work that threads do ahead of who takes its results."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

__all__ = ["N_FILE_THREADS", "map_ahead"]

# Threads that read files ahead.
N_FILE_THREADS = min(8, os.cpu_count() or 1)


def map_ahead(function, items, n_threads):
    """Yield ``function(item)`` for each of `items`, in their order, computed ahead in threads.

    Parameters
    ----------
    function : callable
        What to do with an item.

    items : iterable
        It is gone through in the thread of the caller, as far ahead as there are threads.

    n_threads : int
        Number of threads; 0 computes a result when it is asked for.

    Yields
    ------
    result : object
        The next result. An error of `function` is raised where its result would be.
    """
    if n_threads == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        pending = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > n_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Who stops in between does not wait for results that nobody takes.
            for future in pending:
                future.cancel()
