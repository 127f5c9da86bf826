"""Packed codes to search in: random ones, and those of a trained hasher sized up by noise."""

import numpy as np

from skhash.codes import hamming_distances, pack_codes
from skhash.datasets import retrieval_split

__all__ = ["describe_codes", "make_codes", "make_model"]

# Rows whose codes are made at once, each block from a seed of its own.
_BLOCK = 2**16
# Items of the real set from which the scale of the noise is learnt.
_N_SAMPLES = 4000
# Queries whose items within a radius are counted.
_N_QUERIES = 200


def make_codes(kind, n_bits, size, cache, load=None):
    """Return packed codes of a kind and size, and 1,000 queries; made once, then read.

    Parameters
    ----------
    kind : {"random", "learned"}
        Uniform bits, or what `DeepRankingHasher` makes of images.

    n_bits : int
        Length of the codes.

    size : int
        Number of items.

    cache : Path
        Folder of the files.

    load : callable or None
        Returns features and labels of images, only needed for learned codes that are not there.

    Returns
    -------
    items, queries : Path
        Files of packed codes, ``(size, n_bits / 8)`` and ``(1000, n_bits / 8)``.
    """
    prefix = "" if kind == "learned" else "random_"
    items, queries = (
        cache / f"{kind}_{n_bits}_{_size_name(size)}.npy",
        cache / f"{prefix}queries_{n_bits}.npy",
    )
    if not (items.exists() and queries.exists()):
        make = _make_learned if kind == "learned" else _make_random
        make(items, queries, n_bits, size, cache, load)
    return items, queries


def make_model(n_bits, cache, load):
    """Return what learned codes are made from: made once, then read.

    Parameters
    ----------
    n_bits : int
        Length of the codes.

    cache : Path
        Folder of the files.

    load : callable
        Returns features and labels of images, with which a hasher is trained if it has to be.

    Returns
    -------
    model : dict of ndarray
        Of images that the hasher has not seen: packed codes "items" and "queries", "relaxed" codes
        of items; the "moment" by which items are encoded; the "noise" as a factor of a
        covariance, its "scale", and the "goal" by which this was chosen.
    """
    path = cache / f"model_{n_bits}.npz"
    if not path.exists():
        # What measures the memory of a search imports this module, and needs no torch.
        from skhash import DeepRankingHasher

        features, labels = load()
        split = retrieval_split(
            len(labels), n_queries=1000, train_in_database=False, random_state=0
        )
        hasher = DeepRankingHasher(n_bits, random_state=0, verbose=2)
        hasher.fit(features[split.train], labels[split.train])
        model = _describe(hasher, features[split.database], features[split.query])
        np.savez(path, **model)
    with np.load(path) as file:
        return dict(file)


def describe_codes(items, queries):
    """Return what decides how fast codes are searched.

    Parameters
    ----------
    items, queries : ndarray of shape (n, n_bits / 8), dtype uint8
        Packed codes.

    Returns
    -------
    values : dict
        Share of "distinct" codes among the items; mean distance of queries to their 1st to 1,000th
        nearest item; mean number of items "within" an eighth of the bits, of some queries; mean
        number of items that agree with a query in 16 bits, over all such "substrings", and how
        many times that of uniform codes it is.
    """
    import faiss

    n_items, n_bits = len(items), 8 * items.shape[1]
    index = faiss.IndexBinaryFlat(n_bits)
    index.add(items)
    distances, _ = index.search(queries, 1000)
    within = index.range_search(queries[:_N_QUERIES], n_bits // 8 + 1)[0]
    pieces, asked = (side.view(np.uint16).T for side in (items, queries))
    counts = [np.bincount(piece, minlength=2**16) for piece in pieces]
    met = np.mean([count[words] for count, words in zip(counts, asked, strict=True)])
    return {
        "distinct": _count_distinct(items) / n_items,
        **{f"distance, k = {k}": distances[:, k - 1].mean() for k in (1, 10, 100, 1000)},
        "within n_bits / 8": within[-1] / _N_QUERIES,
        "16-bit bucket": met,
        "of uniform": met * 2**16 / n_items,
    }


def _count_distinct(packed):
    """Return the number of different codes."""
    words = packed.view(np.uint64)
    words = words[np.lexsort(words.T)]
    return 1 + np.count_nonzero((words[1:] != words[:-1]).any(axis=1))


def _size_name(size):
    """Return the name of a size, such as "10m"."""
    return f"{size // 10**6}m" if size % 10**6 == 0 else str(size)


def _make_random(items, queries, n_bits, size, cache, load):  # noqa: ARG001
    """Write uniform codes."""
    for path, n_codes, seed in ((items, size, 0), (queries, 1000, 1)):
        rng = np.random.default_rng([n_bits, seed])
        np.save(path, rng.integers(0, 256, (n_codes, n_bits // 8), dtype=np.uint8))


def _make_learned(items, queries, n_bits, size, cache, load):
    """Write codes of images that are drawn at random and moved by noise."""
    model = make_model(n_bits, cache, load)
    np.save(queries, model["queries"])
    part = items.with_suffix(".part")
    codes = np.lib.format.open_memmap(part, "w+", np.uint8, (size, n_bits // 8))
    for block, start in enumerate(range(0, size, _BLOCK)):
        rng = np.random.default_rng([n_bits, block])
        # Always a whole block: a smaller set is the beginning of a larger one.
        rows = rng.integers(0, len(model["relaxed"]), _BLOCK)
        made = _noisy_codes(model, rows, model["scale"], rng)
        codes[start : start + _BLOCK] = made[: size - start]
    codes.flush()
    part.replace(items)


def _describe(hasher, unseen, queries):
    """Return what codes are made from, as arrays."""
    relaxed = hasher.relaxed_codes(unseen)
    model = {
        "relaxed": relaxed,
        "items": pack_codes(hasher.encode_database(unseen)),
        "queries": pack_codes(hasher.transform(queries)),
        "moment": hasher.code_moments_[0],
        "noise": np.linalg.cholesky(np.cov(relaxed.T)).T.astype(np.float32),
    }
    model["goal"] = _nearest_other(model["items"])
    model["scale"] = _choose_scale(model)
    return model


def _nearest_other(items):
    """Return the mean distance of a code to the nearest one of another image."""
    rows = np.random.default_rng(0).permutation(len(items))[:_N_SAMPLES]
    distances = np.concatenate([_least_two(items[row : row + 1], items) for row in rows])
    return distances[:, 1].mean()


def _least_two(code, items):
    """Return the two least distances, the first of which is that to the code itself."""
    return np.partition(hamming_distances(code, items), 1, axis=1)[:, :2]


def _choose_scale(model):
    """Return the scale at which a noisy copy differs from its original in as many bits."""
    rows = np.arange(min(_N_SAMPLES, len(model["items"])))
    low, high = 0.0, 2.0
    for _ in range(12):
        scale = (low + high) / 2
        codes = _noisy_codes(model, rows, scale, np.random.default_rng(0))
        mean = np.bitwise_count(codes ^ model["items"][rows]).sum(axis=1).mean()
        low, high = (scale, high) if mean < model["goal"] else (low, scale)
    return scale


def _noisy_codes(model, rows, scale, rng):
    """Return packed codes of items of some rows, their relaxed codes moved by Gaussian noise."""
    from skhash.deep._encoding import refined_codes

    relaxed = model["relaxed"][rows]
    noise = rng.standard_normal(relaxed.shape, dtype=np.float32) @ model["noise"]
    lengths = [relaxed.shape[1]]
    return pack_codes(refined_codes(relaxed + scale * noise, model["moment"], lengths))
