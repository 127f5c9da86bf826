"""Tables of results as plain text, Markdown, LaTeX, HTML or JSON."""

import html
import re
from dataclasses import dataclass

__all__ = ["FORMATS", "Table", "render"]

FORMATS = ("text", "markdown", "latex", "html")
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {"<": "$<$", ">": "$>$"}
_LATEX |= {char: f"\\{char}" for char in "&%$#_{}"}
# A hyphen before a number.
_MINUS = re.compile(r"(?<!\w)-(?=\d)")
_STYLE = """\
:root{color-scheme:light dark;--line:#d0d7de;--dim:#59636e}
@media (prefers-color-scheme:dark){:root{--line:#3d444d;--dim:#9198a1}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;padding:0 1rem;max-width:72rem}
div{overflow-x:auto;margin-bottom:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding-bottom:.5rem}
th,td{text-align:right;padding:.35rem .9rem;border-bottom:1px solid var(--line);white-space:nowrap}
.name{text-align:left}th:first-child,td:first-child{padding-left:0}
th{color:var(--dim);font-weight:600}
"""


@dataclass
class Table:
    """A table of text: columns of names to the left, of numbers to the right.

    Parameters
    ----------
    title : str
        One line.

    columns : list of str
        Names of the columns.

    rows : list of list of str
        Cells.

    names : tuple of int, default=(0,)
        The columns that hold names.
    """

    title: str
    columns: list
    rows: list
    names: tuple = (0,)


def render(tables, style):
    """Return tables as text.

    Parameters
    ----------
    tables : list of Table
        The tables.

    style : {"text", "markdown", "latex", "html"}
        The form of the text.

    Returns
    -------
    text : str
        The tables, one after another, without a newline at the end.
    """
    if style == "html":
        body = "\n".join(map(_as_html, tables))
        return (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(tables[0].title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
            f"<body>\n{body}\n</body>\n</html>"
        )
    one = {"text": _as_text, "markdown": _as_markdown, "latex": _as_latex}[style]
    return "\n\n".join(map(one, tables))


def _as_text(table):
    lines = _padded([table.columns, *table.rows], table.names)
    rule = "-" * len(lines[0])
    return "\n".join([table.title, rule, lines[0].rstrip(), rule, *map(str.rstrip, lines[1:])])


def _padded(rows, names, gap="  "):
    """Return rows as lines of equal columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(
            cell.ljust(width) if i in names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _as_markdown(table):
    rule = [":--" if i in table.names else "--:" for i in range(len(table.columns))]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    lines = [f"| {line} |" for line in _padded([rows[0], rule, *rows[1:]], table.names, " | ")]
    return "\n".join([f"**{table.title}**", "", *lines])


def _as_latex(table):
    rows = [[_escape_latex(cell) for cell in row] for row in (table.columns, *table.rows)]
    lines = [f"{line} \\\\" for line in _padded(rows, table.names, " & ")]
    columns = "".join("l" if i in table.names else "r" for i in range(len(table.columns)))
    return "\n".join(
        [
            f"% {table.title}; needs the package booktabs",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            lines[0],
            "\\midrule",
            *lines[1:],
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _escape_latex(text):
    text = "".join(_LATEX.get(char, char) for char in text)
    return _MINUS.sub("$-$", text)


def _as_html(table):
    def row(cells, tag):
        starts = [f"{tag} class=name" if i in table.names else tag for i in range(len(cells))]
        parts = zip(starts, map(html.escape, cells), strict=True)
        return f"<tr>{''.join(f'<{start}>{cell}</{tag}>' for start, cell in parts)}</tr>"

    head, body = row(table.columns, "th"), "\n".join(row(cells, "td") for cells in table.rows)
    return (
        f"<div><table>\n<caption>{html.escape(table.title)}</caption>\n<thead>{head}</thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )
