"""Tables of a comparison: means and spreads over seeds, in the terminal and as Markdown."""

import math
from collections import defaultdict
from statistics import mean, stdev

from _runs import METRICS, OTHERS
from rich import box
from rich.table import Table


def summarise(records):
    """Return {(method, n_bits): {name: (mean, spread)}}, in the order of the records."""
    groups = defaultdict(list)
    for record in records:
        groups[record["method"], record["n_bits"]].append(record)
    names = [*METRICS, *OTHERS, "fit_s"]
    return {
        key: {name: mean_spread([r.get(name, math.nan) for r in group]) for name in names}
        for key, group in groups.items()
    }


def mean_spread(values):
    """Return mean and sample standard deviation (NaN for a single value)."""
    # A hasher that is no deep one lacks some rankings.
    if any(math.isnan(value) for value in values):
        return math.nan, math.nan
    return mean(values), stdev(values) if len(values) > 1 else math.nan


def table_rows(summary):
    """Return the header and the rows of the table, as strings, by bits and then method."""
    first, *metrics = METRICS
    yield ["bits", "method", first, *OTHERS, *metrics, "fit s"]
    for (method, n_bits), cells in sorted(summary.items(), key=lambda item: item[0][1]):
        scores = [score_cell(*cells[name]) for name in [first, *OTHERS, *metrics]]
        yield [str(n_bits), method, *scores, f"{cells['fit_s'][0]:.1f}"]


def score_cell(score, spread):
    """Return a score and its spread, if it has one, as a short string."""
    if math.isnan(score):
        return ""
    if math.isnan(spread):
        return f"{score:.3f}"
    # In 80 columns: no spaces, and no 0 before the point of a spread.
    return f"{score:.3f}±{f'{spread:.3f}'.removeprefix('0')}"


def print_table(summary, title, console):
    """Show what fits into 80 columns of the table in the terminal; the file has all."""
    shown = ["bits", "method", "NDCG@100", "asymmetric", "ACG@100", "mAP", "fit s"]
    header, *rows = table_rows(summary)
    rows = [[row[header.index(name)] for name in shown] for row in rows]
    header = shown
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 1 else "right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(*row, end_section=following is not None and following[0] != row[0])
    console.print(table)


def write_markdown(summary, file):
    """Write the table as Markdown."""
    header, *rows = table_rows(summary)
    rule = ["--:" if i != 1 else ":--" for i in range(len(header))]
    file.write_text("".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *rows]))
