"""Figures in README and docs: each is of a file of benchmarks/measured, as it stands there.

A claim is a piece of a page with gaps, and what fills them. What looks like a measured figure and
is in no claim has to be named in `DEFINED`.
"""

import json
import re
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "measured"
PAGES = [
    "README.md",
    *sorted(
        str(page.relative_to(ROOT))
        for page in (ROOT / "docs").rglob("*.rst")
        if page.relative_to(ROOT).parts[1] not in {"auto_examples", "generated"}
    ),
]


@cache
def records(name):
    """Return the lines of a file, of which the last of a kind holds."""
    return [json.loads(line) for line in (MEASURED / f"{name}.jsonl").read_text().splitlines()]


def rows(name, **wanted):
    found = [
        row for row in records(name) if all(row.get(key) == value for key, value in wanted.items())
    ]
    assert found, f"{name}.jsonl has nothing of {wanted}"
    return found


def short(value, digits=3):
    """Return a share without its zero: .511."""
    return f"{value:.{digits}f}".removeprefix("0")


# Rankings: the mean over splits, and the standard deviation of three or more.


def ranking(name, method, n_bits, metric="NDCG@100"):
    values = [row[metric] for row in rows(name, method=method, n_bits=n_bits)]
    spread = f" ± {short(np.std(values, ddof=1))}" if len(values) > 1 else ""
    return short(np.mean(values)) + spread


def unseen_row(name, shallow):
    deep = [ranking(name, "Deep, features", 48, m) for m in ("NDCG@100", "asymmetric")]
    return [ranking(name, method, 48) for method in (shallow, "SDH", "CCA-ITQ")] + deep


def unseen_table():
    return [
        unseen_row("mirflickr25k-unseen", "KSH, all labels"),
        unseen_row("coco17-unseen", "KSH, all labels"),
        unseen_row("coco17-classes-unseen-800", "KSH"),
    ]


# Search: the last measurement of each side, in milliseconds.

SIDES = ["flat", "brute", "multi_index", "auto"]


def last(what, **cell):
    """Return what was last measured of each side."""
    found = {}
    for row in rows("neighbors", what=what, **cell):
        found |= row["values"]
    return found


def search_table():
    table = []
    for codes in ("random", "learned"):
        for n_bits in (64, 128):
            for n_items in (10**6, 10**7):
                for cell in ({"k": 10}, {"radius": n_bits // 8}):
                    found = last("time", codes=codes, n_bits=n_bits, n_items=n_items, **cell)
                    table.append([f"{found[side] * 1000:.2f}" for side in SIDES])
    return table


def build_seconds(n_bits):
    """Return the least and the largest time to make tables of ten million codes."""
    found = [
        last("build", codes=codes, n_bits=n_bits, n_items=10**7)[side]
        for codes in ("random", "learned")
        for side in ("multi_index", "auto")
    ]
    return [f"{seconds:.0f}" for seconds in (min(found), max(found))]


# Stores: seconds and milliseconds of the processor.

STORES = [
    ("faiss", "exact"),
    ("parquet", "read"),
    ("clickhouse", "exact"),
    ("lancedb", "exact"),
    ("lancedb", "IVF, nprobes=5"),
    ("lancedb", "IVF, nprobes=20"),
    ("postgres", "exact"),
    ("postgres", "HNSW, ef_search=40"),
    ("postgres", "HNSW, ef_search=200"),
]


def stored(store, how, n_items, n_bits=64):
    return rows("stores", store=store, how=how, n_items=n_items, n_bits=n_bits)[-1]


def query_ms(store, how="exact", n_items=10**6):
    return stored(store, how, n_items)["query_cpu_seconds"] * 1000


def store_cells(store, how, n_items):
    row = stored(store, how, n_items)
    seconds = row.get("index_cpu_seconds", row.get("write_cpu_seconds"))
    cells = [f"{seconds:.4g}", f"{row['bytes'] / 2**20:.1f}", "", ""]
    if "recall" in row:
        cells[2:] = f"{row['query_cpu_seconds'] * 1000:.1f}", f"{row['recall']:.3f}"
    return cells


def store_table():
    return [store_cells(*store, 10**5) + store_cells(*store, 10**6) for store in STORES]


# Search in two stages.

CANDIDATES = (100, 200, 500, 1000, 2000, 5000)


def rerank_ms(search, **stages):
    timed = [row for row in rows("rerank", search=search, **stages) if "ms" in row]
    return next(row["ms"] for row in timed if len(row) == 2 + len(stages))


def recall_table():
    searches = [("asymmetric", 48), ("asymmetric", 32), ("asymmetric", 16)]
    searches += [("all bits", 32), ("all bits", 16)]
    return [
        [
            short(rows("rerank", search=search, bits=bits, candidates=n)[-1]["recall"])
            for n in CANDIDATES
        ]
        for search, bits in searches
    ]


# Memory of hashers, in megabytes beside the file or the part.

HASHERS = ["LSH", "ITQ", "CCAITQ", "Spectral", "KSH", "SDH", "BRE", "MLH", "HDML", "DeepRanking"]
PART_MB = 50_000 * 512 * 4 / 1e6


def measured_memory(hasher, call):
    return rows("memory", hasher=hasher, call=call)[-1]


def memory_table():
    calls = ("fit", "transform", "set_database")
    return [
        [f"{measured_memory(hasher, call)['peak_bytes'] / 1e6:.0f}" for call in calls]
        for hasher in HASHERS
    ]


def parts_table():
    table = []
    for hasher in HASHERS[:7]:
        parts = measured_memory(hasher, "partial_fit, 50000 at once")
        beside = parts["peak_bytes"] / 1e6 - PART_MB
        seconds = parts["cpu_seconds"], measured_memory(hasher, "fit")["cpu_seconds"]
        table.append([f"{value:.0f}" for value in (beside, *seconds)])
    return table


# A billion images.


def scale_table():
    return list(runpy.run_path(str(ROOT / "benchmarks" / "scale.py"))["table"]().values())


# Pages.


def page_text(page):
    """Return the text of a page without code and tables of figures, on one line."""
    lines, code = [], None
    for line in (ROOT / page).read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        if code is not None and line.strip() and indent <= code:
            code = None
        if code is None and re.search(r"::( [\w+]+)?$", line) and not re.search(TEXT, line):
            code = indent
        if code is None:
            lines.append(line)
    text = re.sub(r"(?s)```.*?```", "", "\n".join(lines))
    text = re.sub(r"(?ms)^>>> .*?(\n\n|\Z)", "\n", text)
    if page in TABLES:
        text = re.sub(r"(?m)^\|.*\|$|\.\. list-table::.*\n(?: {3,}.*\n|\n)+", prose_of, text)
    return re.sub(r"\s+", " ", text)


def prose_of(table):
    """Return a table, or nothing if most of its cells are figures."""
    cells = re.split(r"(?m)^ +(?:\* )?-", table[0])
    figures = [cell for cell in cells if re.fullmatch(r"\s*[\d.,]*( [a-zA-Z]+)?\s*", cell)]
    return "" if len(figures) >= len(cells) / 2 or table[0].startswith("|") else table[0]


# Directives that hold text.
TEXT = r"list-table|note|warning|tip|seealso|admonition"


def tables(page):
    """Return the cells of each table of a page, row by row, without the header."""
    text = (ROOT / page).read_text()
    if page.endswith(".md"):
        found = re.findall(r"(?m)^\|.*\|\n\|[ :|-]+\|\n((?:\|.*\|\n)+)", text)
        return [[cells_of(line) for line in table.splitlines()] for table in found]
    found = re.findall(r"\.\. list-table::.*\n((?: {3,}.*\n|\n)+)", text)
    return [listed(table)[1:] for table in found]


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def listed(table):
    """Return the cells of a list-table."""
    found = re.split(r"(?m)^   \* - ?", table)[1:]
    return [[cell.strip() for cell in re.split(r"(?m)^     - ?", row)] for row in found]


# By page: what writes the figures of its tables, what they are, and their first column.
TABLES = {
    "README.md": [("benchmarks/README.md", unseen_table, 1)],
    "docs/neighbors.rst": [
        ("benchmarks/bench_neighbors.py", search_table, 3),
        ("benchmarks/bench_rerank.py", recall_table, 1),
    ],
    "docs/out_of_core.rst": [
        ("benchmarks/bench_memory.py", memory_table, 1),
        ("benchmarks/bench_memory.py", parts_table, 1),
    ],
    "docs/scale.rst": [("benchmarks/scale.py", scale_table, 1)],
    "docs/stores.rst": [("benchmarks/bench_stores.py", store_table, 1)],
}
TABLE_CASES = [
    pytest.param(page, *table, id=f"{page}: {table[1].__name__}")
    for page, found in TABLES.items()
    for table in found
]


def same(cell, measured):
    """Return whether a cell has the figure that was measured, in as many digits as it shows."""
    if cell == measured or not cell or not measured:
        return cell == measured
    if not re.fullmatch(r"[\d.]+", cell):
        return False
    digits = len(cell.partition(".")[2])
    return abs(float(cell) - float(measured)) <= 0.51 * 10.0**-digits


@pytest.mark.parametrize(("page", "command", "measure", "first"), TABLE_CASES)
def test_tables_have_what_was_measured(page, command, measure, first):
    expected = measure()
    columns = slice(first, first + len(expected[0]))
    found = [
        [row[columns] for row in table] for table in tables(page) if len(table) == len(expected)
    ]
    assert found, f"{page} should have a table of {len(expected)} rows"
    for row, measured in zip(found[0], expected, strict=True):
        assert all(map(same, row, measured)), f"{page} has {row}, measured were {measured}"
    assert command in (ROOT / page).read_text()


def whole(value):
    return f"{value:.0f}"


def near_share():
    """Return how many percent of learned codes lie within an eighth of the bits of a query."""
    found = rows("neighbors", what="codes", codes="learned")
    return 100 * np.mean([row["values"]["within n_bits / 8"] / row["n_items"] for row in found])


def least_query_ms(store):
    found = (row.get("query_cpu_seconds", np.inf) for row in rows("stores", store=store))
    return 1000 * min(found)


def image_ms(what, side):
    return 1000 * rows("images", side=side)[-1]["seconds"][what]


def shards_cost():
    """Return the size that was measured, and times of shards in turn over that of one pass."""
    found = [rows("metrics", table="shards", n_shards=n, n_jobs=1)[-1] for n in (4, 10, 40)]
    return [found[0]["n_queries"], found[0]["n_items"], *(row["ratio"] for row in found)]


def differing_bits():
    """Return the least and the most percent of bits that differ without antialiasing, and with."""
    shares = {by: [100 * r["differing"] for r in rows("resizing", by=by)] for by in RESIZING}
    plain, antialiased = shares.values()
    return [min(plain), max(plain), max(antialiased)]


RESIZING = ("plain bilinear", "Pillow")


def most_to_score():
    return max(row["peak_bytes"] for row in rows("memory", call="score")) / 1e6


def gigabytes(extra, what="GB"):
    return rows("downloads", extra=extra)[-1][what]


LANCEDB = "lancedb", "IVF, nprobes=20"

# Of each page: what writes the figures, and texts with what fills their gaps.
CLAIMS = {
    "README.md": {
        "benchmarks/README.md": {
            "{} for CCA-ITQ and {} for `DeepRankingHasher`": lambda: [
                ranking("mirflickr25k-paper", method, 48)
                for method in ("CCA-ITQ", "Deep, features")
            ],
        },
        "benchmarks/measure_downloads.py": {
            "the first command downloads {:.1f} GB, that of the tests {:.1f} GB": lambda: [
                gigabytes("benchmarks"),
                gigabytes("tests"),
            ],
            "the same is {:.1f} GB and {:.1f} GB": lambda: [
                gigabytes(extra, "GB with a CPU build") for extra in ("benchmarks", "tests")
            ],
        },
    },
    "docs/howto/onnx_preprocessing.rst": {
        "benchmarks/bench_images.py": {
            "{:.0f} to {:.0f} % of the bits differ without antialiasing, and {:.2f} % at most "
            "with it": differing_bits,
        },
    },
    "docs/images.rst": {
        "benchmarks/bench_images.py": {
            "That takes {:.2f} ms a file": lambda: [image_ms("look", 500)],
            "image of 500 pixels takes {:.1f} ms": lambda: [image_ms("decode and resize", 500)],
        },
    },
    "docs/metrics.rst": {
        "benchmarks/bench_metrics.py": {
            "With {:,} queries and {:,} items on one processor, four shards took {:.2f} times the "
            "time of one pass, ten took {:.1f} times and forty {:.1f} times": shards_cost,
        },
    },
    "docs/neighbors.rst": {
        "benchmarks/bench_rerank.py": {
            "asymmetric search takes {:.0f} ms of one core for a query, and one of 1,000 "
            "candidates {:.1f} ms": lambda: [
                rerank_ms("asymmetric"),
                rerank_ms("asymmetric", candidates=1000),
            ],
            "distance takes {:.1f} ms there, and one of 1,000 candidates of 16 bits {:.2f} ms": (
                lambda: [rerank_ms("all bits"), rerank_ms("all bits", candidates=1000, bits=16)]
            ),
        },
        "benchmarks/bench_neighbors.py": {
            "within an eighth of their bits lie {:.0f} % of all of them": lambda: [near_share()],
            "take {} to {} s to make at 64 bits and {} to {} s at 128": lambda: [
                *build_seconds(64),
                *build_seconds(128),
            ],
        },
    },
    "docs/out_of_core.rst": {
        "benchmarks/measured/memory.jsonl": {
            "`score` of 1,000 queries takes {:.0f} MB at most": lambda: [most_to_score()],
        },
    },
    "docs/stores.rst": {
        "benchmarks/bench_stores.py": {
            "compared them with a query in {:.0f} ms": lambda: [query_ms("faiss")],
            "codes, which took {:.0f} ms; a million took {:.0f} ms": lambda: [
                query_ms("postgres", n_items=n_items) for n_items in (10**5, 10**6)
            ],
            "A query took {:.0f} ms or more": lambda: [least_query_ms("clickhouse")],
            "Its index took {:.1f} s to build": lambda: [
                stored(*LANCEDB, 10**6)["index_cpu_seconds"]
            ],
            "and a query {:.0f} ms, of which the answer has {:.0f} %": lambda: [
                query_ms(*LANCEDB),
                100 * stored(*LANCEDB, 10**6)["recall"],
            ],
            "the index of pgvector found {:.0f} %": lambda: [
                100 * stored("postgres", "HNSW, ef_search=40", 10**6, 128)["recall"]
            ],
        },
    },
}
CLAIM_CASES = [
    pytest.param(page, command, text, measure, id=f"{page}: {text}")
    for page, commands in CLAIMS.items()
    for command, claims in commands.items()
    for text, measure in claims.items()
]


@pytest.mark.parametrize(("page", "command", "text", "measure"), CLAIM_CASES)
def test_text_has_what_was_measured(page, command, text, measure):
    assert text.format(*measure()) in page_text(page)
    assert command in page_text(page)


# What looks like a measured figure and is none: arithmetic, constants, what an example computes.
DEFINED = {
    "README.md": ["under 3 minutes on 2 cores"],
    "docs/design.rst": ["a million of 64 bits take 8 MB"],
    "docs/encoding.rst": ["between 0.5 and 0.7 of a bit"],
    "docs/losses.rst": ["distance 2.3 as 0.7 of an item at 2 and 0.3 of one at 3"],
    "docs/out_of_core.rst": [
        "in single precision, take 2 GB",
        "of a billion images take 8 GB",
        "float32 (2,048 MB)",
        "returns 32 MB here",
        "keeps 4 MB of packed codes",
    ],
    "docs/scale.rst": ["128 GB of memory"],
    "docs/ranking_loss.rst": [
        "an 80 times longer list has 3 times the loss",
        "0.001 for",
        "layer 0.001",
        "bias 0.002;",
    ],
    "docs/neighbors.rst": ["if at most 40 % of the codes", '70 % for ``"auto"``'],
    "docs/stores.rst": ["A million codes of 64 bits take 8 MB"],
}
FIGURE = re.compile(
    r"(?<![\w.])0?\.\d{3}\b|"
    r"\b\d[\d,.]*\s?(?:ms|s|seconds|minutes|hours|%|[KMGT]i?B)(?!\w)|"
    r"\b\d[\d,.]*(?: times|-fold)\b|"
    r"(?<![\w.])\d*\.\d+ of\b"
)


@pytest.mark.parametrize("page", PAGES)
def test_each_figure_in_text_is_measured_or_defined(page):
    text = page_text(page)
    for piece in DEFINED.get(page, []):
        assert piece in text, f"{page} no longer says {piece!r}"
        text = text.replace(piece, "")
    for claims in CLAIMS.get(page, {}).values():
        for claim, measure in claims.items():
            text = text.replace(claim.format(*measure()), "")
    assert FIGURE.findall(text) == []
