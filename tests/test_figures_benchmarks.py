"""Tables of benchmarks/README.md: each is of a file of benchmarks/measured, or named here.

Beside tables of Markdown there are blocks: what a benchmark printed, indented.
"""

import re
import runpy
import sys
from functools import cache

import numpy as np
import pytest
from test_figures import ROOT, cells_of, records, same, short, tables

PAGE = "benchmarks/README.md"


def cell(name, method, n_bits, metric="NDCG@100", seeds=None, whole=""):
    """Return the mean over seeds with its standard deviation, or nothing if it was not run."""
    values = [
        row[metric]
        for row in records(name)
        if (row["method"], row["n_bits"]) == (method, n_bits)
        and metric in row
        and (seeds is None or row["seed"] in seeds)
    ]
    if not values:
        return ""
    spread = f"±{short(np.std(values, ddof=1))}" if len(values) > 1 else ""
    mean = np.mean(values)
    return (f"{mean:.3f}" if whole else short(mean)) + spread


# Images that were never seen.

BITS = (16, 32, 48, 64)


def by_bits(name, *methods):
    return [[cell(name, method, n_bits) for n_bits in BITS] for method in methods]


def unseen_mirflickr():
    return by_bits("mirflickr25k-unseen", "SDH", "CCA-ITQ", "KSH, all labels", "Deep, features")


def unseen_coco():
    methods = ("SDH", "CCA-ITQ", "KSH, all labels", "Deep, features", "Deep, nested")
    return by_bits("coco17-unseen", *methods)


def ways_to_rank():
    methods = ("CCA-ITQ", "SDH", "KSH, all labels", "Deep, features")
    return [
        [cell(name, method, 48, metric) for method in methods]
        for name in ("mirflickr25k-unseen", "coco17-unseen")
        for metric in ("NDCG@100", "signs", "asymmetric", "relaxed")
    ]


def shallow_and_deep(name, n_bits):
    methods = ("CCA-ITQ", "SDH", "KSH", "Deep, features")
    asymmetric = cell(name, "Deep, features", n_bits, "asymmetric")
    return [*(cell(name, method, n_bits) for method in methods), asymmetric]


def few_images():
    names = [f"{data}-unseen-{n}" for data in ("mirflickr25k", "coco17") for n in (2000, 800)]
    return [shallow_and_deep(name, 48) for name in names]


def one_class():
    names = ("coco17-classes-unseen", "coco17-classes-unseen-800")
    return [shallow_and_deep(name, n_bits) for name in names for n_bits in (16, 48)]


# Other protocols.


def paper_protocol():
    metrics = ("NDCG@100", "signs", "asymmetric", "relaxed", "mAP")
    return [
        [cell("mirflickr25k-paper", method, 48, metric) for metric in metrics]
        for method in ("CCA-ITQ", "Deep, features", "Deep, memorising")
    ]


def literature(*methods):
    name, metrics = "mirflickr25k-losses-literature", ("mAP", "NDCG@100", "asymmetric")
    return [[cell(name, method, 48, metric) for metric in metrics] for method in methods]


def literature_now():
    return literature("tie_aware_average_precision", "ranking, uniform", "default")


def literature_before():
    return literature(
        *("ranking, balance=0", "ranking", "ranking, list of 2,000", "default, no signs"),
        *("default, both layers", "default, list of 2,000", "hashnet"),
        *("ranking, balanced labels", "idhn", "dsrh", "dpsh", "default, no dropout", "paper"),
    )


def comparison(name):
    """Return the table that compare.py prints, of the hashers in the order of the file."""
    methods = dict.fromkeys((row["n_bits"], row["method"]) for row in records(name))
    metrics = ("NDCG@100", "ACG@100", "wmAP", "mAP")
    return [
        [
            *(cell(name, method, n_bits, metric, whole="0") for metric in metrics),
            f"{mean_of(name, method, n_bits, 'fit_s'):.1f}",
        ]
        for n_bits, method in sorted(methods, key=lambda place: place[0])
    ]


def mean_of(name, method, n_bits, key):
    wanted = (method, n_bits)
    return np.mean([r[key] for r in records(name) if (r["method"], r["n_bits"]) == wanted])


def digits():
    return comparison("digits")


def mirflickr_before():
    return comparison("mirflickr25k")


def losses_before():
    # The rows of the default without an ablation are of the table before, on the same splits.
    of_default = [("default", "Deep, features"), ("default, tie_aware_ndcg", "Deep, NDCG loss")]
    shown = {
        name: [cell("mirflickr25k", method, n_bits, seeds=range(3)) for n_bits in BITS]
        for name, method in of_default
    }
    ablations = (row["method"] for row in records("mirflickr25k-losses"))
    for method in dict.fromkeys(ablations):
        shown[method] = [cell("mirflickr25k-losses", method, n_bits) for n_bits in BITS]
    number = [measure for _, measure in TABLES].index(losses_before)
    return [shown[row[0]] for row in tables(PAGE)[number]]


# Search, as its benchmark prints it.


@cache
def search_benchmark():
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return runpy.run_path(f"{folder}/bench_neighbors.py")
    finally:
        sys.path.remove(folder)


def search_rows(lines, first):
    return [cells_of(line)[first:] for line in lines[2:]]


def search_table(what, columns):
    lines = search_benchmark()["plain_table"](records("neighbors"), what, columns)
    return search_rows(lines, 3)


SIDES = ("flat", "brute", "faiss", "multi_index", "auto", "usearch", "pynear", "sklearn")


def searched_codes():
    distances = [f"distance, k = {k}" for k in (1, 10, 100, 1000)]
    columns = ["distinct", *distances, "within n_bits / 8", "16-bit bucket", "of uniform"]
    return search_table("codes", columns)


def search_times():
    return search_rows(search_benchmark()["time_table"](records("neighbors")), 4)


def search_builds():
    return search_table("build", SIDES)


def search_memory():
    return search_table("memory", SIDES)


# The paper's experiments.


def experiments():
    of_length = [r for r in records("paper-mirflickr25k") if r["n_bits"] == 48]
    found = {(r["protocol"], r["method"]): r for r in of_length}
    return [
        [
            short(found[protocol, method][metric]) if (protocol, method) in found else ""
            for protocol in ("paper", "unseen")
            for metric in ("NDCG@100", "wmAP")
        ]
        for method in dict.fromkeys(method for _, method in found)
    ]


# Images.


def resizing():
    shares = {(row["side"], row["by"]): 100 * row["differing"] for row in records("resizing")}
    return [
        [f"{shares[side, 'Pillow']:.2f}", f"{shares[side, 'plain bilinear']:.1f}"]
        for side in dict.fromkeys(row["side"] for row in records("resizing"))
    ]


# Counting of shards.


def shards():
    return [
        [f"{row['seconds']:.3f}", f"{row['ratio']:.2f}"]
        for row in records("metrics")
        if row["table"] == "shards" and row["n_jobs"] == 1 and row["n_shards"] > 1
    ]


# Training, as its benchmark prints it.


def trainings():
    keys = ["seconds", "bare_seconds", "ratio", "least", "largest"]
    of_peaks = ["MiB", "bare_MiB", "ratio"]
    return [
        [f"{row['name']} {row['what']}"]
        + [
            f"{row[key]:.{0 if 'MiB' in key else 3}f}"
            for key in (of_peaks if row["what"] == "peak" else keys)
        ]
        for row in records("training")
    ]


# The tables in their order: the cells of their header that tell them apart, and what was measured,
# as their last columns. None: raw results of what was chosen on held-out images are not kept.
TABLES = [
    ("48 bits | paper: NDCG@100", experiments),
    ("MIRFLICKR-25K | 16", unseen_mirflickr),
    ("MS-COCO | 16", unseen_coco),
    ("data | by", ways_to_rank),
    ("data | training images", few_images),
    ("training images | bits", one_class),
    ("what | NDCG@100", None),
    ("how codes are made", None),
    ("units, epochs", None),
    ("48 bits | NDCG@100", paper_protocol),
    ("what is trained | mAP", literature_now),
    ("what is trained | mAP", literature_before),
    ("bits | method", digits),
    ("bits | method", mirflickr_before),
    ("what | NDCG@100", None),
    ("what is trained | 16", losses_before),
    ("what | NDCG@100", None),
    ("shards, one after the other", shards),
    ("codes | bits | items | distinct", searched_codes),
    ("codes | bits | items | search", search_times),
    ("codes | bits | items | flat", search_builds),
    ("codes | bits | items | flat", search_memory),
    ("pixels | Pillow", resizing),
]
# Blocks, by what their first lines start with.
BLOCKS = [
    ("torch 2.14.1+cu130, 1 thread(s), median of 7", None),
    # They were printed before the benchmark wrote them down as well.
    ("NDCG@100, 1,000 queries x 100,000 items", None),
    ("Counting 5,000 queries x 200,000 items", None),
    ("fit, s", None),
    ("300 anchors, 48 bits", None),
    ("network", trainings),
]
KEPT = [number for number, (_, measure) in enumerate(TABLES) if measure is not None]


def headers():
    found = re.findall(r"(?m)^\| (.*) \|\n\|[ :|-]+\|\n", (ROOT / PAGE).read_text())
    return [" | ".join(cells_of(header)) for header in found]


def test_each_table_is_held_or_named():
    assert len(headers()) == len(TABLES)
    for header, (start, _) in zip(headers(), TABLES, strict=True):
        assert header.startswith(start)


@pytest.mark.parametrize("number", KEPT, ids=[TABLES[number][1].__name__ for number in KEPT])
def test_tables_have_what_was_measured(number):
    table, measured = tables(PAGE)[number], TABLES[number][1]()
    assert len(table) == len(measured)
    for row, expected in zip(table, measured, strict=True):
        shown = [cell.replace(",", "") for cell in row[-len(expected) :]]
        for one, other in zip(shown, expected, strict=True):
            assert same(one, other), f"{row} were measured as {expected}"


def blocks():
    text = re.sub(r"(?s)```.*?```", "", (ROOT / PAGE).read_text())
    found = re.findall(r"(?m)(?<=\n\n)((?:^    .*\n)+)", text)
    return [[line.strip() for line in block.splitlines()] for block in found]


def test_each_block_is_held_or_named():
    assert len(blocks()) == len(BLOCKS)
    for block, (start, _) in zip(blocks(), BLOCKS, strict=True):
        assert block[0].startswith(start)


HELD_BLOCKS = [number for number, (_, measure) in enumerate(BLOCKS) if measure is not None]


@pytest.mark.parametrize("number", HELD_BLOCKS)
def test_blocks_have_what_was_measured(number):
    _, *lines = blocks()[number]
    for line, (name, *expected) in zip(lines, BLOCKS[number][1](), strict=True):
        shown = re.sub(r" +", " ", line)
        assert shown.startswith(f"{name} ")
        assert re.findall(r"[\d.]+", shown.removeprefix(name)) == expected
