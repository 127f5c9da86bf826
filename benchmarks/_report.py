"""Results of `paper.py` as one HTML page that holds its pictures."""

import html
from collections import defaultdict
from itertools import product

import numpy as np
from _figures import curves_svg, looks
from _methods import ABLATIONS, DEEP, DSRH, PAPER_METHODS
from _runs import RANKS
from _tables import mean_spread, score_cell

# Of the tables and of the curves against bits.
SHOWN = {"NDCG@100": "NDCG@100", "ACG@100": "ACG@100", "wmAP": "weighted mAP", "mAP": "mAP"}
PROTOCOLS = {
    "paper": ("The paper's protocol", "the database is the training set"),
    "unseen": ("Images never seen", "no item of the database was trained on"),
}
# What variants change.
BASES = {
    DSRH: "FCa and FCb, NDCG weights",
    DEEP: "FCa alone, items encoded as a whole",
}
CHANGES = {
    "DSRH, FCa alone": "the hash layer reads FCa alone",
    "DSRH, FCb alone": "the hash layer reads FCb alone",
    "DSRH, uniform weights": "all pairs weigh the same",
    "Deep, FCa and FCb": "the hash layer reads both layers",
    "Deep, signs": "codes of items are signs",
}


class Results:
    """Records by protocol, method and bits."""

    def __init__(self, records):
        self.records = records
        self._groups = defaultdict(list)
        for record in records:
            self._groups[record["protocol"], record["method"], record["n_bits"]].append(record)

    def values(self, name):
        """Return the different values of a key, sorted."""
        return sorted({record[name] for record in self.records})

    @property
    def protocols(self):
        """Protocols that there are results of."""
        return [name for name in PROTOCOLS if name in self.values("protocol")]

    @property
    def methods(self):
        """Methods that there are results of, without variants."""
        return [name for name in PAPER_METHODS if name in self.values("method")]

    @property
    def bits(self):
        """Code lengths of these."""
        return sorted({r["n_bits"] for r in self.records if r["method"] in PAPER_METHODS})

    def score(self, protocol, method, n_bits, metric):
        """Return mean and spread over splits, None if there is no result."""
        group = self._groups.get((protocol, method, n_bits))
        return None if group is None else mean_spread([record[metric] for record in group])

    def curve(self, protocol, method, n_bits, name):
        """Return the mean curve over splits, None if there is no result."""
        group = self._groups.get((protocol, method, n_bits))
        return None if group is None else np.mean([r["curves"][name] for r in group], axis=0)


def write_report(file, records, about):
    """Write the page.

    Parameters
    ----------
    file : pathlib.Path
        File to write.

    records : list of dict
        Results, as `paper.py` keeps them.

    about : dict
        `title`, `dataset` and `features` of the data, `curve_bits`, and cells that are `missing`
        and, with their faults, `failures`.
    """
    results = Results(records)
    at = nearest(results.bits, about["curve_bits"])
    colours = looks(results.methods)
    parts = [
        head(results, about),
        section("Scores", tables(results)),
        section("Against the length of the codes", legend(colours) + by_bits(results, colours)),
        section(
            f"Against the number of results, {at} bits",
            legend(colours) + by_rank(results, colours, at),
        ),
        section(
            f"Precision and recall, {at} bits",
            "<p>Of all items within a Hamming distance, from 0 to the length of the codes. A "
            "query that has no item there counts with 0.</p>" + by_radius(results, colours, at),
        ),
        section(f"Ablations, {about['curve_bits']} bits", ablations(results, about["curve_bits"])),
    ]
    title = html.escape(f"{about['title']}: deep semantic ranking hashing")
    page = PAGE.replace("$style", STYLE).replace("$title", title)
    file.write_text(page.replace("$body", "\n".join(filter(None, parts))), encoding="utf-8")


def nearest(bits, wanted):
    """Return the length that there are results of."""
    return min(bits, key=lambda n_bits: (abs(n_bits - wanted), n_bits), default=wanted)


def section(title, body):
    """Return a part of the page, nothing without content."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>" if body else ""


def head(results, about):
    """Return what was run."""
    facts = {
        "Data": f"{about['title']}, {join(results.values('n_labels'))} labels",
        "Features": about["features"],
        **{PROTOCOLS[name][0]: protocol_fact(results, name) for name in results.protocols},
        "Splits": f"seeds {join(results.values('seed'))}; a seed draws the split and seeds the "
        "hashers. ± is the standard deviation over splits.",
        "Scores": "exact under ties of the Hamming distance: means over all orders of items "
        "at the same distance. Relevance is the number of shared labels.",
        "Versions": "; ".join(
            sorted(
                {
                    ", ".join(f"{name} {number}" for name, number in record["versions"].items())
                    for record in results.records
                }
            )
        ),
        "State": state(about, len(results.records)),
    }
    rows = "\n".join(
        f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items()
    )
    return (
        f"<header>\n<h1>{html.escape(about['title'])}</h1>\n"
        "<p>Deep semantic ranking based hashing for multi-label image retrieval (Zhao, Huang, "
        "Wang, Tan, CVPR 2015): its experiments, repeated.</p>\n"
        f"<dl>\n{rows}\n</dl>\n<p>The command that makes this page, and goes on with what lacks:"
        f"</p>\n<pre><code>{html.escape(command(results, about))}</code></pre>\n</header>"
    )


def protocol_fact(results, protocol):
    """Return the sizes of a protocol."""
    record = next(r for r in results.records if r["protocol"] == protocol)
    return (
        f"{PROTOCOLS[protocol][1]}. {record['n_query']:,} queries, training set of "
        f"{record['n_train']:,}, database of {record['n_database']:,}"
    )


def state(about, n_records):
    """Return how far the run is."""
    lines = [f"{n_records:,} results"]
    if about["missing"]:
        lines.append(f"{len(about['missing']):,} asked for are not there")
    failed = [f"{cell} ({fault})" for cell, fault in about["failures"].items()]
    if failed:
        lines.append(f"failed: {'; '.join(failed)}")
    return f"{'; '.join(lines)}."


def command(results, about):
    """Return the command that makes what the page shows."""
    methods = results.methods
    data = "" if about["dataset"] == "digits" else " --data PATH"
    names = "" if methods == PAPER_METHODS else "".join(f' "{name}"' for name in methods)
    has_variants = any(record["method"] in ABLATIONS for record in results.records)
    return (
        f"python benchmarks/paper.py {about['dataset']}{data}"
        f" --protocol {join(results.protocols, ' ')} --bits {join(results.bits, ' ')}"
        f" --seeds {join(results.values('seed'), ' ')}"
        f" --n-queries {join(results.values('n_query'), ' ')}"
        + (f" --methods{names}" if names else "")
        + ("" if has_variants else " --no-ablations")
        + (f" --curve-bits {about['curve_bits']}" if about["curve_bits"] != 48 else "")
    )


def join(values, separator=", "):
    """Return values as text."""
    return separator.join(map(str, values))


def tables(results):
    """Return a table for each metric, protocols side by side."""
    columns = [(protocol, n_bits) for protocol in results.protocols for n_bits in results.bits]
    made = []
    for metric, name in SHOWN.items():
        scores = [
            [results.score(protocol, method, n_bits, metric) for protocol, n_bits in columns]
            for method in results.methods
        ]
        if scores:
            made.append(table(name, "bits", results, results.bits, results.methods, scores))
    return "\n".join(made)


def ablations(results, n_bits):
    """Return the table of variants, protocols side by side."""
    there = set(results.values("method"))
    rows = {}
    for base, text in BASES.items():
        variants = {name: CHANGES[name] for name in ABLATIONS if whose(name) == base}
        variants = {name: change for name, change in variants.items() if name in there}
        # A method alone is no ablation of it.
        rows |= {base: text} | variants if variants else {}
    if not rows:
        return ""
    columns = [(protocol, metric) for protocol in results.protocols for metric in SHOWN]
    scores = [
        [results.score(protocol, method, n_bits, metric) for protocol, metric in columns]
        for method in rows
    ]
    names = list(SHOWN.values())
    return table("", "", results, names, rows, scores, notes=rows)


def whose(variant):
    """Return the method that a variant is of."""
    return ABLATIONS[variant][0]


def table(caption, unit, results, columns, methods, scores, notes=None):
    """Return a table of methods, with the same columns for each protocol, the best one marked."""
    best = [best_of(column) for column in zip(*scores, strict=True)]
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(columns)}">{PROTOCOLS[name][0]}</th>'
        for name in results.protocols
    )
    heads = "".join(
        f'<th scope="col"{first(i)}>{column}</th>'
        for _ in results.protocols
        for i, column in enumerate(columns)
    )
    rows = []
    for method, row in zip(methods, scores, strict=True):
        cells = "".join(
            f"<td{first(i % len(columns))}>{score_text(score, score == best[i])}</td>"
            for i, score in enumerate(row)
        )
        note = f"<small>{html.escape(notes[method])}</small>" if notes else ""
        rows.append(f'<tr><th scope="row">{html.escape(method)}{note}</th>{cells}</tr>')
    caption = f"<caption>{caption}</caption>" if caption else ""
    body = "\n".join(rows)
    return (
        f'<div class="wide" tabindex="0"><table>{caption}<thead><tr><td></td>{groups}</tr>\n'
        f'<tr><th scope="col">{unit}</th>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
        "</div>"
    )


def first(i):
    """Return the mark of the first column of a protocol."""
    return "" if i else ' class="first"'


def best_of(column):
    """Return the highest of scores, some of which may lack."""
    return max((score for score in column if score), key=lambda score: score[0], default=None)


def score_text(score, is_best):
    """Return the mean and spread of a cell."""
    if score is None:
        return '<span class="none">-</span>'
    text, _, spread = score_cell(*score).partition("±")
    text = f"<b>{text}</b>" if is_best else text
    return text + (f"<small>±{spread}</small>" if spread else "")


def legend(colours):
    """Return the signs of the methods."""
    signs = "".join(
        f'<li><span style="color:{colour}" aria-hidden="true">{sign}</span> '
        f"{html.escape(name)}</li>"
        for name, (colour, _, sign) in colours.items()
    )
    return f'<ul class="legend">{signs}</ul>\n' if signs else ""


def by_bits(results, colours):
    """Return curves of the metrics against bits."""
    figures = []
    for metric, name in SHOWN.items():
        drawn = {
            protocol: [
                (look, *np.transpose(points))
                for method, look in colours.items()
                if (points := points_of(results, protocol, method, metric))
            ]
            for protocol in results.protocols
        }
        options = {"x_label": "bits", "y_label": name, "ticks": results.bits}
        figures.append(pair(drawn, name, options))
    return "\n".join(figures)


def points_of(results, protocol, method, metric):
    """Return bits, mean and spread of a method."""
    scores = ((n, results.score(protocol, method, n, metric)) for n in results.bits)
    return [(n_bits, *score) for n_bits, score in scores if score]


def by_rank(results, colours, n_bits):
    """Return curves of NDCG and ACG against the number of results."""
    options = {"x_label": "k", "log": True, "ticks": [1, 10, 100, 1000]}
    return "\n".join(
        pair(
            curves(results, colours, n_bits, RANKS, name),
            f"{name}@k",
            options | {"y_label": f"{name}@k"},
        )
        for name in ("NDCG", "ACG")
    )


def by_radius(results, colours, n_bits):
    """Return curves of precision against recall."""
    drawn = curves(results, colours, n_bits, "recall", "precision")
    options = {"x_label": "recall", "y_label": "precision"}
    return pair(drawn, "Precision and recall", options)


def curves(results, colours, n_bits, x, y):
    """Return the lines of each protocol; `x` may be the name of a curve too."""
    drawn = {protocol: [] for protocol in results.protocols}
    for protocol, (method, look) in product(drawn, colours.items()):
        values = results.curve(protocol, method, n_bits, y)
        if values is not None:
            own = results.curve(protocol, method, n_bits, x) if isinstance(x, str) else x
            drawn[protocol].append((look, own, values, None))
    return drawn


def pair(drawn, name, options):
    """Return the pictures of both protocols side by side, with the same range of values."""
    if not any(drawn.values()):
        return ""
    highest = max(np.max(line[2]) for lines in drawn.values() for line in lines)
    figures = "".join(
        f"<figure><figcaption>{name}. {PROTOCOLS[protocol][0]}</figcaption>"
        f"{curves_svg(lines, y_range=(0, 1.06 * highest), **options)}</figure>"
        for protocol, lines in drawn.items()
    )
    return f'<div class="pair">{figures}</div>'


PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style</style>
</head>
<body>
$body
</body>
</html>
"""

STYLE = """\
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--line:#dfe3e8;--text:#1b1f24;
--dim:#5b6570}
@media (prefers-color-scheme:dark){:root{--page:#111418;--card:#1a1f25;--line:#2c333b;
--text:#e7eaee;--dim:#98a2ad}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:80rem;padding:1.5rem;background:var(--page);color:var(--text);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.15rem;margin:2.2rem 0 .8rem}
p{margin:.3rem 0 .8rem;color:var(--dim)}
dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1.2rem;margin:1rem 0}
dt{font-weight:600}
dd{margin:0;color:var(--dim);overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;
white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;
margin-bottom:1rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.88rem}
caption{text-align:left;font-weight:650;padding:.7rem .8rem .2rem;position:sticky;left:0}
th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap}
thead th{font-weight:600;color:var(--dim)}
th[scope=colgroup]{text-align:left;border-left:1px solid var(--line);color:var(--text)}
.first{border-left:1px solid var(--line)}
th[scope=row]{text-align:left;font-weight:500;position:sticky;left:0;background:var(--card)}
tbody tr{border-top:1px solid var(--line)}
small{color:var(--dim);font-size:.82em;font-weight:400}
th small{display:block;white-space:normal;max-width:11rem}
.none{color:var(--dim)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;margin:0 0 .8rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));gap:1rem;
margin-bottom:1rem}
figure{margin:0;padding:.7rem .8rem .3rem;background:var(--card);border:1px solid var(--line);
border-radius:8px}
figcaption{font-weight:600;font-size:.9rem;margin-bottom:.3rem}
figure svg{display:block;width:100%;height:auto;max-width:40rem;margin:0 auto;color:var(--dim)}
@media (max-width:44rem){body{padding:.9rem}dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:.5rem}th[scope=row]{white-space:normal;min-width:6rem}}
@media print{.wide,figure{break-inside:avoid}}
"""
