"""Search codes for the nearest of each query, as a table, as JSON or as a page of pictures.

Queries are image files or folders of them; rows of features, as X.npy, X.npy:7 or X.npy:0:20, for
a hasher of rows. Codes are what encode wrote, any other file of codes, or the model again, for the
samples that it was trained on.

With labels, those that a result shares with its query are marked.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import skhash
from skhash._cli._codes import read_codes, read_ids, read_model
from skhash._cli._files import read_features, relative
from skhash._cli._labels import Labels, NamedLabels, read_labels, read_labels_of
from skhash._cli._page import Page, Result, Section, write_page
from skhash._cli._tables import Table, render
from skhash._cli._talk import print_json, say
from skhash._images import walk_images

NAME = "search"
HELP = "the nearest items of queries: a table, JSON, a page of pictures"
EXAMPLES = """\
  skhash search photos.model photos-codes query.jpg
  skhash search photos.model photos-codes holiday/ --images photos --labels labels.csv \\
      --html found.html
  skhash search photos.model photos.model query.jpg --k 20 --json
  skhash search itq.model codes.npy X.npy:0:20 --labels Y.npy
"""


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="what train wrote")
    add("codes", metavar="CODES", help="what is searched; MODEL again for its training set")
    add("queries", metavar="QUERY", nargs="+", help="images, folders, or rows of a .npy file")
    add("--k", type=int, default=10, metavar="K", help="results of a query (default 10)")
    add("--labels", metavar="FILE", help="labels of items and queries; 'folders': sub-folders")
    add("--query-labels", metavar="FILE", help="labels of queries, if in another file")
    add("--images", metavar="DIR", help="folder to which ids are relative, for the pictures")
    add("--ids", metavar="FILE", help="ids of the items (.npy or lines), if codes have none")
    add("--bits", type=int, metavar="N", help="length of codes, where they are packed")
    add("--asymmetric", action="store_true", help="bits of a query weigh how sure they are")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    add("--hasher", metavar="MODULE:CLASS", help="class of a model that is not of skhash")
    add("--html", metavar="FILE", help="write one page that holds all it shows")
    add("--json", action="store_true", help="print JSON")


@dataclass
class _Query:
    """A query: how it is called, its file if it is an image, and its labels if they are known."""

    name: str
    path: Path | None
    labels: frozenset | None = None


def run(args):
    """Run the command."""
    hasher = read_model(args.model, args.hasher, device=args.device)
    items = read_codes(args.codes, args.bits)
    if args.ids is not None:
        items.ids = read_ids(args.ids, len(items))
    X, queries = _read_queries(args, hasher)
    distances, rows = _search(hasher, items, X, args)
    of_items = _label_queries(args, items, queries)
    names = rows if items.ids is None else items.ids[rows]
    sections = [
        Section(
            query.name,
            query.path,
            query.labels,
            [
                Result(_plain(name), _number(distance), of_items.get(row))
                for name, distance, row in zip(*found, strict=True)
            ],
        )
        for query, *found in zip(queries, names, distances, rows, strict=True)
    ]
    if args.html is not None:
        _write_page(args, hasher, items, sections)
    if args.json:
        print_json([_as_json(section) for section in sections])
    elif args.html is None:
        print(render([_as_table(sections)], "text"))


def _read_queries(args, hasher):
    """Return queries as the hasher takes them, and what they are called."""
    if hasattr(hasher, "image_size_"):
        paths = [path for text in args.queries for path in _image_paths(text)]
        root = args.images or "."
        queries = [_Query(relative(path, root), path) for path in paths]
        return [str(path) for path in paths], queries
    parts, queries = [], []
    for text in args.queries:
        if ".npy" not in text:
            raise ValueError(
                f"{args.model} takes feature rows: a query should be X.npy, X.npy:7 or "
                f"X.npy:0:20, got {text!r}."
            )
        X, rows = read_features(text)
        parts.append(X)
        queries += [_Query(f"{text.partition('.npy')[0]}.npy:{row}", None) for row in rows]
    return np.concatenate(parts), queries


def _image_paths(text):
    path = Path(text)
    if path.is_dir():
        return [Path(file) for _, file in walk_images(path)]
    if not path.exists():
        raise FileNotFoundError(2, "There is no such query", text)
    return [path]


def _search(hasher, items, X, args):
    """Return distances and rows of the nearest items of each query."""
    codes = hasher.transform(X)
    if codes.shape[1] != items.n_bits:
        raise ValueError(
            f"{args.codes} holds codes of {items.n_bits} bits, while those of {args.model} have "
            f"{codes.shape[1]}. Encode the items with this model."
        )
    k = min(args.k, len(items))
    search = skhash.neighbors.HammingNeighbors(n_neighbors=k, n_bits=items.n_bits)
    weights = hasher.bit_weights(X) if args.asymmetric else None
    return search.fit(items.codes).kneighbors(skhash.codes.pack_codes(codes), weights=weights)


def _label_queries(args, items, queries):
    """Set the labels of the queries, and return those of items by row, where they are known."""
    labels = _labels_of_items(args, items)
    if labels is None:
        return {}
    by_key = labels.sets()
    of_items = by_key
    if labels.keys is not None and items.ids is not None:
        of_items = {row: by_key.get(str(key)) for row, key in enumerate(items.ids)}
    elif labels.keys is not None:
        of_items = dict(enumerate(by_key.values()))
    known = by_key
    if args.query_labels is not None:
        known = read_labels(args.query_labels).sets()
    for row, query in enumerate(queries):
        keys = [query.name, Path(query.name).name, row if args.query_labels else None]
        query.labels = next((known[key] for key in keys if key in known), None)
    return of_items


def _labels_of_items(args, items):
    """Return the labels of the items, or None."""
    if args.labels is not None:
        return read_labels_of(items.ids, args.labels)
    if items.y is None:
        return None
    keys = None if items.ids is None else [str(key) for key in items.ids]
    return Labels(NamedLabels.of(items.y, items.names), keys, str(args.codes))


def _plain(value):
    """Return an id of numpy as Python's."""
    return value.item() if hasattr(value, "item") else value


def _number(distance):
    """Return a distance: whole, or, of weighted bits, with some digits."""
    distance = distance.item()
    return distance if isinstance(distance, int) else round(distance, 4)


def _as_json(section):
    return {
        "query": section.name,
        "labels": None if section.labels is None else sorted(section.labels),
        "results": [
            {"id": result.name, "distance": result.distance}
            | ({} if result.labels is None else {"labels": sorted(result.labels)})
            | ({} if (n := section.n_shared(result)) is None else {"n_shared": n})
            for result in section.results
        ],
    }


def _as_table(sections):
    """Return all results as a table."""
    with_labels = any(result.labels is not None for s in sections for result in s.results)
    rows = []
    for section in sections:
        for rank, result in enumerate(section.results, 1):
            labels = ", ".join(sorted(result.labels or ()))
            cells = [section.name, str(rank), str(result.distance), str(result.name)]
            rows.append([*cells, labels] if with_labels else cells)
    columns = ["query", "rank", "distance", "id", *(["labels"] if with_labels else [])]
    n_queries = len(sections)
    title = f"{n_queries} {'query' if n_queries == 1 else 'queries'}"
    return Table(title, columns, rows, names=(0, 3, 4))


def _write_page(args, hasher, items, sections):
    """Write the page of results, and say if pictures were not found."""
    about = f"{type(hasher).__name__}, {items.n_bits} bits, {len(items):,} items"
    n_missing = write_page(args.html, Page(about, sections), args.images)
    say(f"wrote {args.html}")
    if n_missing:
        say(f"{n_missing} pictures were not found: give the folder of the ids with --images")
