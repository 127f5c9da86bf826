"""The engine of many processes or machines: tasks of Ray Data read, actors encode."""

import logging
import os
import pickle
from contextlib import contextmanager
from functools import partial
from itertools import islice

__all__ = ["ray_engine"]

# Pieces of which a pipeline is made at once: what the driver holds of them is bounded so.
_WINDOW = 4096


def ray_engine(n_workers=None):
    """Return an engine that encodes in actors of Ray, or raise ImportError without Ray.

    Parameters
    ----------
    n_workers : int, default=None
        Number of actors. None: one for each GPU if the hasher is to use one, else one for every
        second CPU.

    Returns
    -------
    run : callable
        Of pieces, their source and a :class:`Coder` to an iterator of :class:`Coded`, in any
        order. If an actor or a task dies, Ray runs its work again, so a chunk may come twice.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "engine='ray' needs Ray Data; `pip install scikit-hash[ray]` brings it."
        ) from error
    return partial(_run, n_workers=n_workers)


def _run(pieces, source, coder, *, n_workers):
    """Yield the codes of pieces, a window of them after the other."""
    import ray

    pieces = map(_checked, pieces)
    with _running(), _quiet():
        coder = coder.without_database()
        options = _actor_options(coder.hasher, n_workers)
        if options["num_gpus"]:
            # The actor sees its own GPU alone, whatever number it has on the machine.
            coder.hasher.device = "cuda"
        reader, coder = ray.put(source.reader), ray.put(coder)
        while window := list(islice(pieces, _WINDOW)):
            yield from _run_window(window, reader, coder, options)


def _checked(piece):
    """Return a piece, or raise if it holds rows that are not there for other processes."""
    content = piece.content
    if content is None or isinstance(content, tuple):
        return piece
    if isinstance(content, list) and isinstance(content[0], str):
        return piece
    raise ValueError(
        "engine='ray' reads source in many processes: give it paths, a folder, an array, Parquet "
        "files, a data set, or batches of paths. Batches of rows come one after the other; encode "
        "them with engine='local'."
    )


def _run_window(window, reader, coder, options):
    """Yield the codes of some pieces: tasks read them, actors encode what was read."""
    import ray

    def read(row):
        chunks = ray.get(reader)(pickle.loads(row["piece"]))
        return ({"chunk": pickle.dumps(chunk, protocol=5)} for chunk in chunks)

    items = [{"piece": pickle.dumps(piece)} for piece in window]
    data = ray.data.from_items(items, override_num_blocks=len(items))
    # Rows, and not their columns, are what goes on: blocks may be put together on the way.
    data = data.flat_map(read, num_cpus=1)
    data = data.map(_Actor, fn_constructor_args=([coder],), **options)
    for row in data.iter_rows():
        yield pickle.loads(row["coded"])


class _Actor:
    """Holds the hasher.

    Parameters
    ----------
    coder : list of one reference
        To the :class:`Coder`.
    """

    def __init__(self, coder):
        import ray

        # Of an actor that cannot be made Ray makes another, without end; an error of a row ends.
        self._coder = self._error = None
        try:
            self._coder = ray.get(coder[0])
        except Exception as error:
            self._error = error

    def __call__(self, row):
        if self._coder is None:
            raise RuntimeError(
                "A process of Ray cannot load the hasher. What it is made of should be there to "
                "import on all machines."
            ) from self._error
        return {"coded": pickle.dumps(self._coder(pickle.loads(row["chunk"])), protocol=5)}


def _actor_options(hasher, n_workers):
    """Return how many actors there are, and what each takes."""
    import ray

    has = ray.cluster_resources()
    n_cpus, n_gpus = has.get("CPU", 1), int(has.get("GPU", 0))
    uses_gpu = n_gpus and str(getattr(hasher, "device", "cpu")).startswith(("auto", "cuda"))
    n_workers = n_workers or (n_gpus if uses_gpu else max(1, int(n_cpus) // 2))
    # One CPU is left for the tasks that read, without which actors have nothing to do. An actor
    # that takes what a task takes would read too.
    n_cpus = min(0.99, max(n_cpus - 1, 0.5) / n_workers)
    return {
        "compute": ray.data.ActorPoolStrategy(size=n_workers),
        "num_gpus": int(bool(uses_gpu)),
        "num_cpus": 0 if uses_gpu else round(n_cpus, 3),
    }


@contextmanager
def _running():
    """Start Ray for the block, unless it runs already."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet():
    """Keep Ray Data from telling a progress of its own."""
    import ray

    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])
