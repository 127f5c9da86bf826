"""Results of a search as one HTML page that holds its pictures."""

import base64
import html
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from skhash._cli._talk import progress
from skhash._images import as_rgb
from skhash._io import check_folder, replaced_file

__all__ = ["Page", "Result", "Section", "write_page"]

# Pixels of the longer side of thumbnails, and their quality, by how many there are at most.
_SIZES = ((150, 288, 80), (500, 208, 76), (float("inf"), 144, 70))
# Labels that are shown of a result; the others are counted.
_MOST_LABELS = 6


@dataclass
class Result:
    """An item that was found: its id, distance and set of labels, None if these are not known."""

    name: object
    distance: float
    labels: frozenset | None = None


@dataclass
class Section:
    """A query: name, image file or None, labels or None, and what was found."""

    name: str
    path: Path | None
    labels: frozenset | None
    results: list

    def n_shared(self, result):
        """Return how many labels a result shares with the query, None if that is not known."""
        if self.labels is None or result.labels is None:
            return None
        return len(self.labels & result.labels)


@dataclass
class Page:
    """What the page says above the results, and the queries with these."""

    about: str
    sections: list


def write_page(path, page, images=None):
    """Write a page.

    Parameters
    ----------
    path : str or path-like
        File to write.

    page : Page
        What it shows.

    images : str or path-like, default=None
        Folder to which ids of results are relative. None: the working directory.

    Returns
    -------
    n_missing : int
        Number of pictures that could not be read.
    """
    check_folder(path)
    thumbnails, n_missing = _thumbnails(page, Path(images or "."))
    with replaced_file(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write(_HEAD.replace("$style", _STYLE).replace("$header", _header(page)))
        for number, section in enumerate(page.sections, 1):
            file.write(_section(section, number, thumbnails))
        file.write("</main>\n</body>\n</html>\n")
    return n_missing


def _thumbnails(page, folder):
    """Return pictures as data URIs by file, and how many files could not be read."""
    files = {section.path for section in page.sections if section.path is not None}
    has_pictures = bool(files)
    for section in page.sections:
        if has_pictures:
            files |= {_file_of(result, folder) for result in section.results}
    files = sorted(files)
    size, quality = next(rest for most, *rest in _SIZES if len(files) <= most)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda file: _thumbnail(file, size, quality), files)
        uris = list(progress(made, len(files), "pictures"))
    found = dict(zip(files, uris, strict=True))
    found = {file: uri for file, uri in found.items() if uri is not None}
    return {"folder": folder, "uris": found}, len(files) - len(found)


def _file_of(result, folder):
    return folder / str(result.name)


def _thumbnail(file, size, quality):
    """Return an image file as a small JPEG in a data URI with its size, or None."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            # A JPEG is decoded at a part of its size, in a part of the time.
            image.draft("RGB", (size, size))
            small = Image.fromarray(as_rgb(image))
    # Decoders meet damaged data with errors of any type, and a page is of use without a picture.
    except Exception:
        return None
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _header(page):
    """Return the head of the page: what was searched, and what the marks mean."""
    n_queries = len(page.sections)
    n_results = sum(len(section.results) for section in page.sections)
    text = html.escape(page.about)
    queries = "1 query" if n_queries == 1 else f"{n_queries:,} queries"
    results = "1 result" if n_results == 1 else f"{n_results:,} results"
    key = "<span><b>d</b> Hamming distance</span>"
    if any(section.n_shared(r) is not None for section in page.sections for r in section.results):
        key += (
            '<span><span class="hit-key">2 shared</span> shares labels with the query</span>'
            '<span><span class="miss-key">none shared</span> shares none</span>'
            '<span><b class="chip">label</b> is shared</span>'
        )
    return f"<h1>Search results</h1>\n<p>{queries}, {results}. {text}.</p>\n<p class=key>{key}</p>"


def _section(section, number, thumbnails):
    """Return a query and its results."""
    known = [n for n in map(section.n_shared, section.results) if n is not None]
    n_hits = sum(n > 0 for n in known)
    summary = f"<p>{n_hits:,} of {len(known):,} results share a label</p>" if known else ""
    picture = ""
    if section.path is not None:
        picture = _picture(thumbnails["uris"].get(section.path), section.name)
    cards = "\n".join(_card(section, result, thumbnails) for result in section.results)
    return (
        f'<section aria-label="Query {number}">\n<div class="query">{picture}\n'
        f'<h2 title="{html.escape(section.name)}">{html.escape(section.name)}</h2>\n'
        f"{_chips(section.labels)}{summary}</div>\n"
        f'<ol class="results">\n{cards}\n</ol>\n</section>\n'
    )


def _card(section, result, thumbnails):
    """Return a result."""
    n_shared, name = section.n_shared(result), html.escape(str(result.name))
    kind, mark = "", ""
    if n_shared is not None:
        kind = "hit" if n_shared else "miss"
        mark = f'<span class="mark">{n_shared or "none"} shared</span>'
    picture = ""
    if section.path is not None:
        file = _file_of(result, thumbnails["folder"])
        picture = _picture(thumbnails["uris"].get(file), str(result.name))
    return (
        f'<li class="card {kind}">{picture}<div class="text">'
        f'<p class="row"><span class="distance" title="distance">d {result.distance}</span>'
        f'{mark}</p><p class="name" title="{name}">{name}</p>'
        f"{_chips(result.labels, section.labels, _MOST_LABELS)}</div></li>"
    )


def _picture(uri, name):
    if uri is None:
        return '<div class="picture none">no picture</div>'
    return (
        f'<div class="picture"><img src="{uri}" alt="{html.escape(name)}" '
        'loading="lazy" decoding="async"></div>'
    )


def _chips(labels, shared=None, most=None):
    """Return labels, shared ones first and marked; of more than `most` the others are counted."""
    if not labels:
        return ""
    shared = labels & (shared or frozenset())
    ordered = [*sorted(shared), *sorted(labels - shared)]
    most = len(ordered) if most is None else most
    chips = [
        f"<b class=chip>{html.escape(label)}</b>"
        if label in shared
        else f"<span class=chip>{html.escape(label)}</span>"
        for label in ordered[:most]
    ]
    if len(ordered) > most:
        rest = html.escape(", ".join(ordered[most:]))
        chips.append(f'<span class="chip more" title="{rest}">+{len(ordered) - most}</span>')
    return f'<p class="chips">{"".join(chips)}</p>'


_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Search results</title>
<style>
$style</style>
</head>
<body>
<header>
$header
</header>
<main>
"""

_STYLE = """\
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--line:#dfe3e8;--text:#1b1f24;
--dim:#5b6570;--hit:#0b7a4b;--hit-soft:#d9f2e5;--none:#eceff2}
@media (prefers-color-scheme:dark){:root{--page:#111418;--card:#1a1f25;--line:#2c333b;
--text:#e7eaee;--dim:#98a2ad;--hit:#5fd39c;--hit-soft:#173527;--none:#232930}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:14px/1.45 system-ui,sans-serif}
header,main{max-width:90rem;margin:0 auto;padding:0 1.5rem}
header{padding-top:1.5rem;padding-bottom:.5rem}
h1{font-size:1.35rem;margin:0 0 .2rem}
header p{margin:0 0 .4rem;color:var(--dim)}
.key{font-size:.85rem;display:flex;flex-wrap:wrap;gap:.2rem 1.3rem}
section{display:grid;grid-template-columns:13rem 1fr;gap:1.5rem;padding:1.5rem 0;
border-top:1px solid var(--line);align-items:start}
.query{position:sticky;top:1rem}
.query h2{font-size:.95rem;margin:.6rem 0 .3rem;overflow-wrap:anywhere}
.query p{margin:.3rem 0;color:var(--dim)}
.results{list-style:none;margin:0;padding:0;display:grid;gap:.8rem;
grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;overflow:hidden;
content-visibility:auto;contain-intrinsic-size:auto 13rem}
.card.hit{border-color:var(--hit)}
.picture{aspect-ratio:1;background:var(--none);display:grid;place-items:center;overflow:hidden;
color:var(--dim);font-size:.8rem}
.query .picture{border-radius:8px}
.picture img{width:100%;height:100%;object-fit:contain;display:block;min-height:0}
.miss .picture img{opacity:.75}
.text{padding:.45rem .6rem .6rem}
.text p{margin:0}
.row{display:flex;flex-wrap:wrap;align-items:baseline;justify-content:space-between;gap:0 .4rem;
font-variant-numeric:tabular-nums}
.distance{font-weight:650;white-space:nowrap}
.mark,.hit-key,.miss-key{font-size:.78rem;padding:0 .4em;border-radius:4px;white-space:nowrap;
background:var(--none);color:var(--dim)}
.hit .mark,.hit-key{background:var(--hit-soft);color:var(--hit);font-weight:600}
.name{color:var(--dim);font-size:.8rem;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.chips{display:flex;flex-wrap:wrap;gap:.25rem;margin-top:.35rem!important}
.chip{font-size:.75rem;font-weight:400;line-height:1.5;padding:0 .45em;border-radius:4px;
border:1px solid var(--line);color:var(--dim);overflow-wrap:anywhere}
b.chip{border-color:transparent;background:var(--hit-soft);color:var(--hit);font-weight:600}
@media (max-width:44rem){header,main{padding-left:.9rem;padding-right:.9rem}
section{grid-template-columns:1fr;gap:1rem}
.query{position:static;display:grid;grid-template-columns:6.5rem 1fr;column-gap:.9rem;
align-content:start}
.query .picture{grid-row:1/9}.query h2{margin:0}.query>:not(.picture){grid-column:2}
.query:not(:has(.picture)){display:block}
.results{grid-template-columns:repeat(auto-fill,minmax(7.4rem,1fr));gap:.6rem}}
@media print{.query{position:static}.card{content-visibility:visible;break-inside:avoid}}
"""
