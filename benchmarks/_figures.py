"""Pictures of comparisons: a plot of bits as a file, and curves as SVG for a page."""

import io
import re
from collections import defaultdict
from itertools import cycle, product

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import ScalarFormatter

# Greys of docs/both_grounds.mplstyle become the colour of the text around a picture.
GREY = "#787878"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "skhash",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
}
STYLE |= dict.fromkeys(
    ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), GREY
)
# Contrast of 3 to 1 and more with white and with a dark page; a marker tells colours apart.
COLOURS = [
    "#808080",
    "#a87400",
    "#00909a",
    "#c06090",
    "#6a86d8",
    "#3d9440",
    "#e05a20",
    "#9a68d8",
]
MARKERS = "osD^vPX*"
SIGNS = "●■◆▲▼✚✖★"


def looks(methods):
    """Return colour, marker and sign in text of each method."""
    all_looks = cycle(zip(COLOURS, MARKERS, SIGNS, strict=True))
    return dict(zip(methods, all_looks, strict=False))


def curves_svg(lines, *, x_label, y_label, log=False, ticks=None, y_range=None):
    """Draw curves.

    Parameters
    ----------
    lines : list of (look, x, y, spread)
        Of each method what :func:`looks` has, and values; a spread may be None.

    Returns
    -------
    svg : str
        Markup that needs no other file and takes the colour of its surroundings.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.4, 3.1), layout="constrained")
        for (colour, marker, _), x, y, spread in lines:
            line = {"color": colour, "linewidth": 1.6, "capsize": 2}
            marks = {"marker": marker, "markersize": 5, "markevery": max(1, len(x) // 12)}
            axes.errorbar(x, y, spread, **line, **marks)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ScalarFormatter())
        if ticks is not None:
            axes.set_xticks(ticks)
        if y_range is not None:
            axes.set_ylim(*y_range)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
        plt.close(figure)
    return _inline(buffer.getvalue())


def _inline(svg):
    """Return the element of a picture, as a page holds it."""
    svg = re.search(r"<svg.*</svg>", svg, re.DOTALL)[0]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    # Its size is that of the room it has.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    # A page has several pictures, and names once: those stay that are referred to.
    svg = re.sub(r' id="([^"]*)"', lambda name: name[0] * (f"#{name[1]}" in svg), svg)
    return svg.replace(GREY, "currentColor")


def plot(summary, title, file):
    """Plot NDCG@100 against bits, a line a method, bars of one standard deviation."""
    lines = defaultdict(list)
    for (method, n_bits), cells in summary.items():
        lines[method].append((n_bits, *cells["NDCG@100"]))
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    # Of more than 20 lines, the first ones look like the last.
    all_looks = cycle(product(("-", ":"), "x.+svoD^P*"))
    for (method, points), (style, marker) in zip(lines.items(), all_looks, strict=False):
        bits, scores, spread = zip(*sorted(points), strict=True)
        axes.errorbar(bits, scores, spread, marker=marker, ls=style, capsize=3, label=method)
    axes.set(xlabel="bits", ylabel="NDCG@100, exact under ties", title=title, ylim=(0, None))
    axes.set_xticks(sorted({n_bits for _, n_bits in summary}))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)
