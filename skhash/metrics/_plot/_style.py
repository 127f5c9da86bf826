"""What displays look like: colours, scales of counts, legends, numbers in words."""

import numpy as np

__all__ = ["CORRELATION_COLORS", "counted", "draw_legend", "scale_of_counts", "use_safe_colors"]

# After Okabe and Ito, "Color universal design", 2008, without those that white or black hides: who
# sees red and green alike tells them apart. The styles do without colours.
_COLORS = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#808080", "#8a5a1a",
]  # fmt: skip
_STYLES = ["-", "--", "-.", ":"]
# From -1 to 1. A correlation of 0 is transparent, on a light as on a dark ground.
CORRELATION_COLORS = [
    (0.0, (0.0, 0.45, 0.7, 1.0)),
    (0.5, (0.0, 0.45, 0.7, 0.0)),
    (0.5, (0.84, 0.37, 0.0, 0.0)),
    (1.0, (0.84, 0.37, 0.0, 1.0)),
]
# Part of the axes that a legend may cover.
_LARGEST_LEGEND = 0.2


def counted(n, one, many):
    """Return a number of things in words.

    Parameters
    ----------
    n : int
        The number.

    one, many : str
        What one of them is called, and what several are.

    Returns
    -------
    words : str
        The words.
    """
    return f"{n:,} {one if n == 1 else many}"


def use_safe_colors(ax):
    """Let eight lines differ in colour and style, unless a style of matplotlib chose colours.

    Parameters
    ----------
    ax : matplotlib Axes
        New axes.
    """
    from matplotlib import rcParams, rcParamsDefault

    if rcParams["axes.prop_cycle"] == rcParamsDefault["axes.prop_cycle"]:
        ax.set_prop_cycle(color=_COLORS, linestyle=2 * _STYLES)


def scale_of_counts(axis, scale="log"):
    """Scale an axis for counts, with whole numbers as ticks: 1, 10, 100, 1k.

    Parameters
    ----------
    axis : matplotlib Axis
        The axis, with what is drawn along it.

    scale : {"log", "linear"}, default="log"
        The scale.
    """
    from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullFormatter

    getattr(axis.axes, f"set_{axis.axis_name}scale")(scale)
    whole = MaxNLocator(6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    least, largest = axis.get_data_interval()
    if scale == "linear":
        axis.set_major_locator(whole)
    elif largest < 10 * least:
        # There may be no power of ten among them.
        few = np.arange(1, 10) if largest < 10 else whole.tick_values(least, largest)
        axis.set_major_locator(FixedLocator(few[(few >= least) & (few <= largest)]))
        axis.minorticks_off()
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())


def draw_legend(ax):
    """Draw a legend; below the axes, if it would cover much of them and a layout makes room.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes with labelled lines.
    """
    box = ax.legend().get_window_extent()
    is_large = box.width * box.height > _LARGEST_LEGEND * ax.bbox.width * ax.bbox.height
    if is_large and ax.figure.get_layout_engine() is not None:
        # In units of the font: below the numbers and the label of the axis.
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4}
        ax.legend(**place, ncols=max(1, int(ax.bbox.width // box.width)))
