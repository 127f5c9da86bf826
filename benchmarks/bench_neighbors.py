"""Time exact search in Hamming space: `HammingNeighbors`, faiss, usearch, pynear, scikit-learn.

    python benchmarks/bench_neighbors.py --features X.npy --labels Y.npy --cache FOLDER

Searches 1 M and 10 M codes of 64 and 128 bits for the k nearest codes of each query, and for all
codes within ``n_bits // 8``. Codes are random (uniform bits), or learned: `DeepRankingHasher` is
trained on half of the images of MIRFLICKR-25K (features and labels, see README.md), and encodes
1,000 queries and the other half, whose 12,000 codes are called "images". These are sized up: an
image is drawn, Gaussian noise with the covariance of all relaxed codes is added to its relaxed
code, and the hasher makes an item's code of that. The noise is so large that a copy differs from
its original in as many bits, in the mean, as an image differs from its nearest other image. So
items keep their density around queries, and bits their correlation; a table says how far. Codes
are kept in ``--cache``.

Times are seconds of the processor a query, of one thread, where all queries are given in one call.
The sides of a cell run in turns; medians of seconds, and of ratios of neighbouring runs, are kept.
Slow sides get fewer queries. Each cell checks that distances are those of `faiss.IndexBinaryFlat`,
that indices of `HammingNeighbors` are too, and that `IndexBinaryFlat` finds what a full stable
sort does, for a few queries. "pynear" is its `VPTreeBinaryIndex`, and its `BKTreeBinaryIndex`
within a radius; "sklearn" is `NearestNeighbors(metric="hamming", algorithm="brute")` of unpacked
bits; both search at most 1 M codes. "usearch" is its exact search, which has no radius.

Memory is that of a process of its own: what its peak grows by, from before the codes are loaded
until 100 queries have had their 10 nearest codes, over the bytes of the packed codes. That of
other packages, up to 200 times the codes, is measured for at most 1 M codes.

Each measurement is a line of ``--output``, and is not repeated by another run with the same file.
``--report FILE`` prints the tables of such a file and measures nothing.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from operator import truediv
from pathlib import Path
from statistics import median

import numpy as np
from _records import append_record, read_records
from _search_codes import describe_codes, make_codes, make_model
from threadpoolctl import threadpool_limits

from skhash.codes import hamming_distances
from skhash.neighbors import HammingNeighbors

OURS = ("brute", "faiss", "multi_index", "auto")
OTHERS = ("usearch", "pynear", "sklearn")
SIDES = ("flat", *OURS, *OTHERS)
# Most codes that a side is given; it would take hours or the memory of the machine else.
MOST_ITEMS = {"pynear": 10**6, "sklearn": 10**6}
# Fewest queries of a side, and most neighbours within a radius that a call returns.
FEW, MOST_FOUND = 5, 2 * 10**7
# How much longer than others the algorithms of `HammingNeighbors` may take, so that they get as
# many queries as `IndexBinaryFlat` even where they are slower.
OWN_SECONDS = 4
# Queries that are compared with a full stable sort.
N_SORTED = 3


class UnavailableError(Exception):
    """What is asked for is not installed, or not known to what is."""


class Flat:
    """`faiss.IndexBinaryFlat`, the reference."""

    def __init__(self, items):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexBinaryFlat(8 * items.shape[1])
        self.index.add(items)

    def nearest(self, queries, k):
        """Return distances and indices of the k nearest items."""
        return self.index.search(queries, k)

    def within(self, queries, radius):
        """Return distances and indices of all items within a radius, for each query."""
        # faiss leaves out what lies at the radius itself.
        limits, distances, indices = self.index.range_search(queries, radius + 1)
        return tuple(np.split(found, limits[1:-1].astype(int)) for found in (distances, indices))


class Ours:
    """`HammingNeighbors` by one algorithm."""

    def __init__(self, items, algorithm):
        if algorithm == "faiss":
            import faiss

            faiss.omp_set_num_threads(1)
        search = HammingNeighbors(algorithm=algorithm, n_bits=8 * items.shape[1])
        try:
            self.search = search.fit(items)
        except ValueError as error:
            if "algorithm" not in str(error):
                raise
            raise UnavailableError(f"HammingNeighbors has no algorithm={algorithm!r}") from error

    def nearest(self, queries, k):
        """Return distances and indices of the k nearest items."""
        return self.search.kneighbors(queries, k)

    def within(self, queries, radius):
        """Return distances and indices of all items within a radius, for each query."""
        if not hasattr(self.search, "radius_neighbors"):
            raise UnavailableError("HammingNeighbors has no radius_neighbors")
        return self.search.radius_neighbors(queries, radius)


class Usearch:
    """Exact search of usearch, which makes no index."""

    def __init__(self, items):
        import usearch.index

        self.search, self.items = usearch.index.search, items

    def nearest(self, queries, k):
        """Return distances and indices of the k nearest items."""
        options = {"metric": "hamming", "dtype": "b1", "exact": True, "threads": 1}
        found = self.search(self.items, queries, k, **options)
        return found.distances, found.keys

    def within(self, queries, radius):  # noqa: ARG002
        """Say that there is no such search."""
        raise UnavailableError("usearch has no search within a radius")


class Pynear:
    """The exact trees of pynear."""

    def __init__(self, items):
        import pynear

        self.pynear, self.items, self.trees = pynear, items, {}
        self._tree("VPTreeBinaryIndex")

    def _tree(self, name):
        if name not in self.trees:
            self.trees[name] = getattr(self.pynear, f"{name}{8 * self.items.shape[1]}")()
            self.trees[name].set(self.items)
        return self.trees[name]

    def nearest(self, queries, k):
        """Return distances and indices of the k nearest items."""
        indices, distances = self._tree("VPTreeBinaryIndex").searchKNN_arrays(queries, k)
        return distances, indices

    def within(self, queries, radius):
        """Return distances and indices of all items within a radius, for each query."""
        indices, distances, _ = self._tree("BKTreeBinaryIndex").find_threshold(queries, radius)
        return distances, indices


class Sklearn:
    """`NearestNeighbors` of scikit-learn, of unpacked bits."""

    def __init__(self, items):
        from sklearn.neighbors import NearestNeighbors

        self.n_bits = 8 * items.shape[1]
        search = NearestNeighbors(metric="hamming", algorithm="brute", n_jobs=1)
        self.search = search.fit(self._unpack(items))

    def _unpack(self, packed):
        return np.unpackbits(packed, axis=1).astype(bool)

    def nearest(self, queries, k):
        """Return distances and indices of the k nearest items."""
        shares, indices = self.search.kneighbors(self._unpack(queries), k)
        return np.rint(shares * self.n_bits), indices

    def within(self, queries, radius):
        """Return distances and indices of all items within a radius, for each query."""
        share = (radius + 0.5) / self.n_bits
        shares, indices = self.search.radius_neighbors(self._unpack(queries), share)
        return [np.rint(found * self.n_bits) for found in shares], indices


def build(side, items):
    """Return a side that holds the items, ready to search."""
    made = {"flat": Flat, "usearch": Usearch, "pynear": Pynear, "sklearn": Sklearn}
    try:
        return made[side](items) if side in made else Ours(items, side)
    except ImportError as error:
        raise UnavailableError(str(error)) from error


def first_search(side, items):
    """Return a side that has searched for one item: some build when they first search."""
    made = build(side, items)
    made.nearest(items[:1], 1)
    return made


def timed(function, *args):
    """Return what a call returns, and the seconds of the processor that it takes."""
    start = time.process_time()
    result = function(*args)
    return result, time.process_time() - start


def search(side, queries, cell):
    """Return distances and indices that a side finds for a cell."""
    if "k" in cell:
        return side.nearest(queries, cell["k"])
    return side.within(queries, cell["radius"])


def measure_cell(sides, queries, cell, args):
    """Return queries, seconds a query and agreement of each side that can search, in turns."""
    n_queries, able = {}, {}
    for name, side in sides.items():
        most = queries[: n_queries.get("flat")]
        seconds = args.seconds * OWN_SECONDS if name in OURS else args.seconds
        try:
            n_queries[name] = choose_n_queries(side, most, cell, seconds)
            able[name] = side
        except UnavailableError as error:
            print(f"  {name} is left out: {error}")
    runs, found = {name: [] for name in able}, {}
    for _ in range(args.repeats):
        for name, side in able.items():
            found[name] = None
            found[name], seconds = timed(search, side, queries[: n_queries[name]], cell)
            runs[name].append(seconds / n_queries[name])
    return {
        "queries": n_queries,
        "seconds": {name: median(seconds) for name, seconds in runs.items()},
        "ratios": {
            name: median(map(truediv, seconds, runs["flat"])) for name, seconds in runs.items()
        },
        **agreement(found, n_queries, cell),
    }


def choose_n_queries(side, queries, cell, seconds):
    """Return how many queries a side can search in about so many seconds."""
    search(side, queries[:1], cell)
    (distances, _), first = timed(search, side, queries[:FEW], cell)
    n_found = max(1, sum(len(row) for row in distances)) if "radius" in cell else 1
    most = min(len(queries), FEW * MOST_FOUND // n_found if "radius" in cell else len(queries))
    return int(np.clip(FEW * seconds / max(first, 1e-9), FEW, most))


def agreement(found, n_queries, cell):
    """Return which sides find what `IndexBinaryFlat` does: distances, and indices too."""
    distances, indices = {}, {}
    for name in found:
        n_common = min(n_queries["flat"], n_queries[name])
        same = [
            same_rows(*(in_order(found[side], row, cell) for side in ("flat", name)))
            for row in range(n_common)
        ]
        distances[name], indices[name] = (all(column) for column in zip(*same, strict=True))
    return {"distances_agree": distances, "indices_agree": indices}


def in_order(result, row, cell):
    """Return distances and indices of a query; within a radius by (distance, index)."""
    distances, indices = (np.asarray(side[row]) for side in result)
    if "radius" in cell:
        order = np.lexsort((indices, distances))
        distances, indices = distances[order], indices[order]
    return distances, indices


def same_rows(one, other):
    """Return whether distances are the same, and whether indices are."""
    return tuple(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def is_stable_sort(flat, queries, items, cell):
    """Return whether `IndexBinaryFlat` finds what a full stable sort does, for a few queries."""
    result = search(flat, queries[:N_SORTED], cell)
    for row, code in enumerate(queries[:N_SORTED]):
        distances = hamming_distances(code[None], items)[0]
        order = np.argsort(distances, kind="stable")
        n = cell.get("k") or np.searchsorted(distances[order], cell["radius"], side="right")
        if same_rows((distances[order[:n]], order[:n]), in_order(result, row, cell)) != (
            True,
            True,
        ):
            return False
    return True


def peak_memory(side, items, queries):
    """Return by how many bytes the peak of this process grows, of loading, building and search."""
    tiny = np.random.default_rng(0).integers(0, 256, (1000, np.load(queries).shape[1]), np.uint8)
    build(side, tiny).nearest(tiny[:10], 10)
    # Sets the peak to what is resident now; imports may have had more.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_peak()
    made = build(side, np.load(items))
    made.nearest(np.load(queries)[:100], 10)
    return resident_peak() - before


def resident_peak():
    """Return the peak of the resident memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure_memory(side, items, queries):
    """Return what :func:`peak_memory` returns in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(peak_memory, side, items, queries).result()


def is_done(records, what, place, side):
    """Return whether a side has been measured at a place."""
    return any(
        record["what"] == what and place.items() <= record.items() and side in record["values"]
        for record in records
    )


def cells_of(n_bits, args):
    """Return what is searched for, one dict a cell."""
    cells = [{"k": k} for k in args.k]
    return cells + ([{"radius": n_bits // 8}] if args.radius else [])


def sides_left(records, place, cell, args):
    """Return the sides that can search for a cell and have not yet."""
    return [
        side
        for side in args.sides
        if place["n_items"] <= MOST_ITEMS.get(side, np.inf)
        and not (side == "usearch" and "radius" in cell)
        and not is_done(records, "time", place | cell, side)
    ]


def measure_times(place, paths, args):
    """Measure the times that are asked for and not there yet, for codes of one place."""
    records = read_records(args.output)
    cells = cells_of(place["n_bits"], args)
    left = [sides_left(records, place, cell, args) for cell in cells]
    if not any(left):
        return
    items, queries = (np.load(path) for path in paths)
    made = build_all(set().union(*left), items, place, args)
    for cell, names in zip(cells, left, strict=True):
        sides = {name: made[name] for name in ("flat", *names) if name in made}
        if names == ["flat"] or len(sides) > 1:
            record_cell(sides, items, queries, place, cell, args)


def measure_memories(place, paths, args):
    """Measure the memory that is asked for and not there yet, for codes of one place."""
    records = read_records(args.output)
    for side in args.sides:
        few = side not in OTHERS or place["n_items"] <= 10**6
        if few and not is_done(records, "memory", place, side):
            record_memory(side, paths, place, args)


def record_codes(place, paths, args):
    """Write what the codes are like, and what those are like that were sized up."""
    described = [(place, paths)]
    if place["codes"] == "learned":
        model = make_model(place["n_bits"], args.cache, args.load)
        real = place | {"codes": "images", "n_items": len(model["items"])}
        described.append((real, (model["items"], model["queries"])))
    for where, codes in described:
        if not is_done(read_records(args.output), "codes", where, "distinct"):
            items, queries = (np.load(part) if isinstance(part, Path) else part for part in codes)
            values = describe_codes(items, queries)
            append_record(args.output, {"what": "codes", **where, "values": values})


def record_memory(side, paths, place, args):
    """Measure the memory of a side, and write it."""
    try:
        peak = measure_memory(side, *paths)
    except UnavailableError as error:
        print(f"  {side} is left out: {error}")
        return
    n_bytes = place["n_items"] * place["n_bits"] // 8
    values = {side: peak / n_bytes}
    append_record(args.output, {"what": "memory", **place, "values": values})
    print(f"  memory of {side}: {peak / n_bytes:.2f} of the codes", flush=True)


def build_all(names, items, place, args):
    """Return the sides that are available, with their items; write the seconds of building."""
    made, seconds = {}, {}
    for name in sorted(names | {"flat"}, key=SIDES.index):
        try:
            # Imports are not what is timed.
            first_search(name, items[:1000])
            made[name], seconds[name] = timed(first_search, name, items)
        except UnavailableError as error:
            print(f"  {name} is left out: {error}")
    append_record(args.output, {"what": "build", **place, "values": seconds})
    return made


def record_cell(sides, items, queries, place, cell, args):
    """Measure a cell, print it and write it."""
    result = measure_cell(sides, queries, cell, args)
    stable = is_stable_sort(sides["flat"], queries, items, cell)
    times = result.pop("seconds")
    record = {"what": "time", **place, **cell, "values": times, **result, "stable_sort": stable}
    append_record(args.output, record)
    shown = ", ".join(f"{name} {1e3 * value:.3f}" for name, value in times.items())
    print(f"  {name_of(cell)}, ms a query: {shown}", flush=True)


def name_of(cell):
    """Return what is searched for, in words."""
    return f"k = {cell['k']:,}" if "k" in cell else f"radius {cell['radius']}"


def versions():
    """Return the versions of what is compared."""
    names = {"numpy": "numpy", "faiss": "faiss-cpu", "usearch": "usearch", "pynear": "pynear"}
    found = {}
    for name, package in (names | {"scikit-learn": "scikit-learn"}).items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def last_of(records, what):
    """Return for each place, a tuple, what was last measured of each side."""
    table = {}
    for record in records:
        if record["what"] == what:
            keys = ("codes", "n_bits", "n_items", "k", "radius")
            place = tuple(record.get(key) for key in keys)
            table.setdefault(place, {}).update(
                {side: (value, record) for side, value in record["values"].items()}
            )
    return dict(sorted(table.items(), key=lambda entry: order_of(entry[0])))


def order_of(place):
    """Return what places are sorted by: codes, bits, size, then k before the radius."""
    codes, n_bits, n_items, k, radius = place
    return (
        ("random", "images", "learned").index(codes),
        n_bits,
        n_items,
        radius is not None,
        k or radius or 0,
    )


def table_lines(header, rows):
    """Return the lines of a Markdown table."""
    aligned = [":--" if name in ("codes", "search") else "--:" for name in header]
    return ["| " + " | ".join(cells) + " |" for cells in (header, aligned, *rows)]


def place_cells(place):
    """Return the first cells of a row."""
    codes, n_bits, n_items, k, radius = place
    cell = {"k": k} if k else {"radius": radius}
    return [codes, str(n_bits), f"{n_items:,}", *([name_of(cell)] if k or radius else [])]


def ratios(times):
    """Return the ratio of each side to `IndexBinaryFlat` in the same runs."""
    return {side: record["ratios"][side] for side, (_, record) in times.items()}


def time_table(records):
    """Return the table of times."""
    shown = SIDES[1:]
    header = ["codes", "bits", "items", "search", "flat, ms", *shown, "brute / auto"]
    rows = []
    for place, times in last_of(records, "time").items():
        ratio = ratios(times)
        gain = f"{ratio['brute'] / ratio['auto']:.2f}" if {"brute", "auto"} <= set(ratio) else ""
        cells = [f"{ratio[side]:.2f}" if side in ratio else "" for side in shown]
        rows.append([*place_cells(place), f"{1e3 * times['flat'][0]:.3f}", *cells, gain])
    return table_lines(header, rows)


def goal_lines(records):
    """Return for each goal in how many cells it is met, and the worst cell."""
    times = {place: ratios(values) for place, values in last_of(records, "time").items()}
    nearest = {place: ratio for place, ratio in times.items() if place[3]}
    gains = {
        place: {"auto": ratio["auto"] / ratio["brute"]}
        for place, ratio in times.items()
        if is_near(place) and {"auto", "brute"} <= set(ratio)
    }
    memory = {
        place: {side: value for side, (value, _) in values.items()}
        for place, values in last_of(records, "memory").items()
    }
    goals = [
        ("CPU time over IndexBinaryFlat, k nearest", nearest, "brute", 2),
        ("CPU time over IndexBinaryFlat, k nearest", nearest, "faiss", 1.1),
        ("CPU time over IndexBinaryFlat, k nearest", nearest, "auto", 1.1),
        ("CPU time over brute, radius, or learned and k <= 10", gains, "auto", 0.1),
        ("memory over codes", memory, "brute", 1.3),
        ("memory over codes", memory, "multi_index", 3),
    ]
    return [line for goal in goals for line in goal_line(*goal)]


def is_near(place):
    """Return whether an index is to pay: within the radius, or few neighbours, learned codes."""
    codes, _, _, k, radius = place
    return radius is not None or (codes == "learned" and k <= 10)


def goal_line(what, measured, side, limit):
    """Return a line about a goal, or none where it was not measured."""
    values = {place: found[side] for place, found in measured.items() if side in found}
    if not values:
        return []
    worst = max(values, key=values.get)
    n_met = sum(value <= limit for value in values.values())
    line = f"* {side}, {what}: at most {limit} in {n_met} of {len(values)}, at worst "
    return [line + f"{values[worst]:.2f} ({', '.join(place_cells(worst))})"]


def plain_table(records, what, columns=SIDES):
    """Return the table of what codes are like, of seconds of building, or of memory."""
    rows = [
        place_cells(place)
        + [f"{round(values[name][0], 3):.6g}" if name in values else "" for name in columns]
        for place, values in last_of(records, what).items()
    ]
    return table_lines(["codes", "bits", "items", *columns], rows)


def check_lines(records):
    """Return how many cells agree, and which do not."""
    cells = [
        (place, side, record)
        for place, times in last_of(records, "time").items()
        for side, (_, record) in times.items()
    ]
    wrong = [
        f"{', '.join(place_cells(place))}: {side}"
        for place, side, record in cells
        if not record["distances_agree"][side]
        or (side in OURS and not record["indices_agree"][side])
        or not record["stable_sort"]
    ]
    return [f"{len(cells)} results checked, {len(wrong)} wrong.", *wrong]


def report(records):
    """Print all tables."""
    described = [
        name for record in records if record["what"] == "codes" for name in record["values"]
    ]
    blocks = [
        ["The codes:", "", *plain_table(records, "codes", list(dict.fromkeys(described)))],
        ["Ratios to the CPU time of `IndexBinaryFlat`, one thread:", "", *time_table(records)],
        ["Seconds to build, and search for one code:", "", *plain_table(records, "build")],
        ["Peak memory over the packed codes:", "", *plain_table(records, "memory")],
        goal_lines(records),
        check_lines(records),
    ]
    print("\n\n".join("\n".join(lines) for lines in blocks))


def parse():
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    folder = Path(__file__).parent
    add("--features", type=Path, help="features of MIRFLICKR-25K (.npy)")
    add("--labels", type=Path, help="its label indicators (.npy)")
    add("--cache", type=Path, default=folder / "results" / "neighbors", help="folder of the codes")
    add("--output", type=Path, default=folder / "measured" / "neighbors.jsonl")
    add("--codes", nargs="+", choices=["random", "learned"], default=["random", "learned"])
    add("--sizes", type=int, nargs="+", default=[10**6, 10**7])
    add("--bits", type=int, nargs="+", default=[64, 128], help="divisible by 64")
    add("--k", type=int, nargs="*", default=[1, 10, 100, 1000])
    add("--sides", nargs="+", choices=SIDES, default=SIDES)
    add("--radius", action=argparse.BooleanOptionalAction, default=True)
    add("--memory", action=argparse.BooleanOptionalAction, default=True)
    add("--seconds", type=float, default=1.0, help="of a run of a side in a cell")
    add("--repeats", type=int, default=5)
    add("--quick", action="store_true", help="20,000 codes and one short run, to try it out")
    add("--report", type=Path, help="print the tables of this file alone")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.seconds, args.repeats = [20_000], 0.1, 1
    args.load = lambda: load_images(args)
    return args


def load_images(args):
    """Return features and labels of images."""
    if args.features is None or args.labels is None:
        raise SystemExit(
            f"{args.cache} holds no learned codes of that length: --features and --labels are "
            "needed to train a hasher, or --codes random."
        )
    return np.load(args.features), np.load(args.labels)


def main():
    """Measure what is asked for, and print the tables."""
    args = parse()
    if args.report:
        report(read_records(args.report))
        return
    for folder in (args.cache, args.output.parent):
        folder.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {number}" for name, number in versions().items()))
    with threadpool_limits(1):
        for codes in args.codes:
            for n_bits in args.bits:
                for n_items in args.sizes:
                    place = {"codes": codes, "n_bits": n_bits, "n_items": n_items}
                    print(f"{codes}, {n_bits} bits, {n_items:,} items", flush=True)
                    paths = make_codes(codes, n_bits, n_items, args.cache, args.load)
                    record_codes(place, paths, args)
                    measure_times(place, paths, args)
                    if args.memory:
                        measure_memories(place, paths, args)
    report(read_records(args.output))


if __name__ == "__main__":
    main()
