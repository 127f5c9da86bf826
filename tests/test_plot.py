"""Displays: they show what the metrics say, in artists that hold it."""

import sys
from inspect import signature

import numpy as np
import pytest
from PIL import Image
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhash import LSHHasher
from skhash.codes import pack_codes
from skhash.datasets import make_digit_scenes
from skhash.metrics import (
    CodeDiagnosticsDisplay,
    HammingHistogram,
    PrecisionRecallDisplay,
    RankingCurveDisplay,
    RetrievalDisplay,
    bootstrap_interval,
)

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
CURVES = [RankingCurveDisplay, PrecisionRecallDisplay]
curves = pytest.mark.parametrize("Display", CURVES)


@pytest.fixture(autouse=True)
def figures():
    """Draw without a screen, and close what was drawn."""
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def problem():
    """Codes and labels of queries and database."""
    rng = np.random.default_rng(0)
    sides = ((7, 12), (7, 4), (60, 12), (60, 4))
    return [rng.integers(0, 2, shape) for shape in sides]


@pytest.fixture(scope="module")
def scenes():
    """Images, their rows of pixels, and label sets."""
    images, Y = make_digit_scenes(60, image_size=16, return_X_y=True, random_state=0)
    return images, images.reshape(len(images), -1) / 255, Y


@pytest.fixture(scope="module")
def hasher(scenes):
    """A hasher whose database are all scenes but the first three."""
    _, rows, Y = scenes
    return LSHHasher(12, random_state=0).fit(rows[3:], Y[3:])


@pytest.mark.parametrize("metric", ["ndcg", "average_precision", "recall"])
@pytest.mark.parametrize("ties", ["mean", "worst"])
def test_ranking_curve_is_the_metric(metric, ties, problem):
    display = RankingCurveDisplay.from_codes(
        *problem, metric=metric, k=[1, 5, 60], ties=ties, name="mine", color="red"
    )
    values = getattr(HammingHistogram.from_codes(*problem), metric)([1, 5, 60], ties=ties)
    np.testing.assert_allclose(display.line_.get_ydata(), values.mean(axis=0))
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 5, 60])
    assert display.line_.get_label() == "mine"
    assert display.line_.get_color() == "red"
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_title() == ""
    assert display.band_ is None


def test_ranking_curve_goes_to_the_end_of_the_database(problem):
    k = RankingCurveDisplay.from_codes(*problem).k
    assert k[0] == 1
    assert k[-1] == 60
    assert (np.diff(k) > 0).all()


def test_band_is_the_bootstrap_interval(problem):
    display = RankingCurveDisplay.from_codes(*problem, k=[5, 9], confidence_level=0.8)
    values = HammingHistogram.from_codes(*problem).ndcg([5, 9])
    low, high = bootstrap_interval(values, confidence_level=0.8, random_state=0)
    vertices = display.band_.get_paths()[0].vertices
    for k, ends in zip([5, 9], np.transpose([low, high]), strict=True):
        heights = vertices[vertices[:, 0] == k, 1]
        np.testing.assert_allclose([heights.min(), heights.max()], ends)


@pytest.mark.parametrize("k", [None, [3, 4]])
def test_scale_of_ranks_and_title(k, problem, hasher, scenes):
    _, rows, Y = scenes
    for display in (
        RankingCurveDisplay.from_codes(*problem, k=k, xscale="linear", title="a title"),
        RankingCurveDisplay.from_estimator(
            hasher, rows[:3], Y[:3], k=k, xscale="linear", title="a title"
        ),
    ):
        assert display.ax_.get_xscale() == "linear"
        assert display.ax_.get_title() == "a title"
        if k is None:
            assert display.k[-1] in (57, 60)
            assert np.ptp(np.diff(display.k)) <= 1
        # Another curve leaves the title as it is.
        display.plot(display.ax_)
        assert (display.ax_.get_xscale(), display.ax_.get_title()) == ("log", "a title")
        assert display.plot(display.ax_, xscale="linear", title="other").ax_.get_title() == "other"


def tick_texts(axis):
    """Texts of the ticks that are drawn."""
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    return [text.get_text() for text in drawn_texts(axis.figure) if text in labels]


def drawn_texts(figure):
    """Texts that a figure shows; ticks out of the view have texts, but are not drawn."""
    figure.canvas.draw()
    texts = []
    for ax in figure.axes:
        texts += [ax.title, *ax.texts]
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            low, high = sorted(axis.get_view_interval())
            texts.append(axis.label)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                sides = (tick.label1, tick.label2) if low <= tick.get_loc() <= high else ()
                texts += [label for label in sides if label.get_visible()]
    return [text for text in texts if text.get_text()]


def assert_apart(texts):
    """Texts do not lie on one another."""
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        for j, other in enumerate(boxes[:i]):
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width < 1 or height < 1, (texts[i], texts[j])


@pytest.mark.parametrize(
    ("k", "texts"),
    [
        ([1, 10, 2000], ["1", "10", "100", "1k"]),
        ([1], ["1"]),
        ([2, 5], ["2", "3", "4", "5"]),
        ([20, 30, 40], ["20", "25", "30", "35", "40"]),
        ([1000, 10_000_000], ["1k", "10k", "100k", "1M", "10M"]),
    ],
)
def test_ranks_are_whole_numbers(k, texts):
    display = RankingCurveDisplay(k, np.linspace(0.2, 0.4, len(k))).plot()
    assert set(tick_texts(display.ax_.xaxis)) == set(texts)


def test_a_single_rank_is_seen():
    display = RankingCurveDisplay([10], [0.5], band=([0.4], [0.7])).plot()
    assert display.line_.get_marker() == "o"
    assert display.band_.get_linewidth()[0] > 0
    curve = RankingCurveDisplay([9, 10], [0.5, 0.5], band=([0.4] * 2, [0.7] * 2)).plot()
    assert curve.line_.get_marker() == "None"
    assert curve.band_.get_linewidth()[0] == 0


def test_precision_and_recall_by_radius(problem):
    display = PrecisionRecallDisplay.from_codes(*problem)
    histogram = HammingHistogram.from_codes(*problem)
    np.testing.assert_array_equal(display.radius, np.arange(13))
    # A query that finds nothing has no precision; in the metric it has precision 0.
    precision = [histogram.precision(radius=r).mean() for r in range(13)]
    np.testing.assert_allclose(np.nan_to_num(display.precision) * display.found, precision)
    recall = [histogram.recall(radius=r).mean() for r in range(13)]
    np.testing.assert_allclose(display.recall, recall)
    drawn = display.found >= 0.5
    expected = np.column_stack([display.recall, display.precision])[drawn]
    np.testing.assert_allclose(display.line_.get_xydata(), expected)
    assert (np.diff(display.recall) >= 0).all()
    assert display.recall[-1] == 1


def test_radii_within_which_queries_find_nothing():
    # Distances of two of four queries are 0 and more, of one 2 and more, of one 3.
    queries = [[0, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1]]
    display = PrecisionRecallDisplay.from_codes(queries, [0, 0, 0, 0], [[0, 0, 0]] * 2, [0, 1])
    np.testing.assert_array_equal(display.found, [0.5, 0.5, 0.75, 1])
    np.testing.assert_array_equal(display.precision, [0.5] * 4)
    np.testing.assert_array_equal(display.line_.get_xydata()[:, 0], [0.5, 0.5, 0.75, 1])
    np.testing.assert_array_equal(display.hollow_.get_xydata()[:, 0], [0.5, 0.5, 0.75])
    assert display.line_.get_markevery() == [3]
    assert display.hollow_.get_markerfacecolor() == display.ax_.get_facecolor()
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["some queries find nothing"]
    # Where fewer than half find something, the radius is left out.
    display = PrecisionRecallDisplay.from_codes(queries[1:], [0] * 3, [[0, 0, 0]] * 2, [0, 1])
    np.testing.assert_array_equal(display.line_.get_xydata()[:, 0], [2 / 3, 1])
    far = PrecisionRecallDisplay.from_codes(queries[2:], [0] * 2, [[0, 0, 0]], [0])
    np.testing.assert_array_equal(far.precision, [np.nan, np.nan, 1, 1])


def test_curves_without_shares_are_drawn_whole():
    display = PrecisionRecallDisplay([1, 0.5], [0.2, 1], [3, 7], name="mine").plot()
    np.testing.assert_array_equal(display.line_.get_xydata(), [[0.2, 1], [1, 0.5]])
    assert [label.get_text() for label in display.labels_] == ["3", "7"]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["mine"]


def noisy(n_samples, n_bits, rng, flip=0.2):
    """Codes near one of ten centres, and the classes."""
    y = rng.integers(0, 10, n_samples)
    centres = np.random.default_rng(0).integers(0, 2, (10, n_bits))
    return centres[y] ^ (rng.random((n_samples, n_bits)) < flip), y


@pytest.mark.parametrize("n_bits", [1, 4, 16, 48, 256])
def test_radii_are_numbered_where_there_is_room(n_bits, figures):
    rng = np.random.default_rng(n_bits)
    _, axes = figures.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for ax, n_curves in zip(axes, [1, 3], strict=True):
        for i in range(n_curves):
            sides = noisy(40, n_bits, rng, 0.1 + 0.1 * i), noisy(500, n_bits, rng, 0.1 + 0.1 * i)
            display = PrecisionRecallDisplay.from_codes(*sides[0], *sides[1], name="a", ax=ax)
            for label in display.labels_:
                r = int(label.get_text())
                np.testing.assert_allclose(label.xy, [display.recall[r], display.precision[r]])
                assert label.get_color() == display.line_.get_color()
            assert display.labels_ or i
        assert_apart(ax.texts)


@curves
def test_estimator_and_codes_give_the_same_curve(Display, hasher, scenes):
    _, rows, Y = scenes
    display = Display.from_estimator(hasher, rows[:3], Y[:3])
    other = Display.from_codes(
        hasher.transform(rows[:3]), Y[:3], hasher.transform(rows[3:]), Y[3:]
    )
    np.testing.assert_array_equal(display.line_.get_xydata(), other.line_.get_xydata())
    assert display.line_.get_label() == "LSHHasher, 12 bits"
    assert other.line_ not in other.ax_.get_legend_handles_labels()[0]


@curves
def test_curves_take_class_labels(Display, problem):
    query_codes, _, database_codes, _ = problem
    classes = np.arange(7) % 4, np.arange(60) % 3
    display = Display.from_codes(query_codes, classes[0], database_codes, classes[1])
    one_hot = [(side[:, None] == np.arange(4)).astype(int) for side in classes]
    other = Display.from_codes(query_codes, one_hot[0], database_codes, one_hot[1])
    np.testing.assert_array_equal(display.line_.get_xydata(), other.line_.get_xydata())


@pytest.mark.parametrize("Display", [*CURVES, RetrievalDisplay])
def test_label_sets_are_called_y(Display):
    assert list(signature(Display.from_estimator).parameters)[:3] == ["estimator", "X", "y"]


@curves
def test_curves_share_axes(Display, problem, figures):
    _, ax = figures.subplots()
    first = Display.from_codes(*problem, name="a", ax=ax)
    second = Display.from_codes(*problem, name="b", ax=ax)
    assert first.ax_ is second.ax_ is ax
    assert first.figure_ is ax.figure
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text for text in texts if text != "some queries find nothing"] == ["a", "b"]
    assert texts.count("some queries find nothing") == (Display is PrecisionRecallDisplay)
    assert len(figures.get_fignums()) == 1
    again = second.plot(name="c")
    assert again is second
    assert again.ax_ is not ax
    assert again.line_.get_label() == "c"


def test_displays_of_packed_codes(problem, scenes):
    query_codes, query_labels, database_codes, database_labels = problem
    packed = pack_codes(query_codes), query_labels, pack_codes(database_codes), database_labels
    for Display in CURVES:
        expected = Display.from_codes(*problem).line_.get_xydata()
        display = Display.from_codes(*packed, n_bits=12)
        np.testing.assert_array_equal(display.line_.get_xydata(), expected)
    shown = {"query_images": scenes[0][:7], "database_images": scenes[0]}
    display = RetrievalDisplay.from_codes(*packed, n_bits=12, **shown)
    expected = RetrievalDisplay.from_codes(*problem, **shown)
    np.testing.assert_array_equal(display.distances, expected.distances)
    display = CodeDiagnosticsDisplay.from_codes(packed[2], n_bits=12)
    np.testing.assert_array_equal(display.balance, database_codes.mean(axis=0))


@curves
def test_legends_tell_lengths_of_codes_apart(Display, scenes):
    _, rows, Y = scenes
    ax = None
    for n_bits in (1, 4, 9):
        hasher = make_pipeline(StandardScaler(), LSHHasher(n_bits, random_state=0))
        ax = Display.from_estimator(hasher.fit(rows[3:], Y[3:]), rows[:3], Y[:3], ax=ax).ax_
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    names = ["LSHHasher, 1 bit", "LSHHasher, 4 bits", "LSHHasher, 9 bits"]
    assert [text for text in texts if text != "some queries find nothing"] == names


@curves
@pytest.mark.parametrize("name", ["short", "ALongNameOfAHasherThatSomebodyWrote(n_bits=16)"])
def test_legends_leave_room_for_curves(Display, name, problem):
    ax = None
    for i in range(8):
        ax = Display.from_codes(*problem, name=f"{name}{i}", ax=ax).ax_
    ax.figure.canvas.draw()
    legend, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
    share = legend.width * legend.height / (frame.width * frame.height)
    label = ax.xaxis.label.get_window_extent()
    assert share < 0.3 or legend.y1 < label.y0
    assert ax.figure.bbox.y0 <= legend.y0


@curves
def test_colors_are_of_a_style_or_safe(Display, problem, figures):
    ax = None
    lines = []
    for _ in range(8):
        display = Display.from_codes(*problem, ax=ax)
        lines, ax = [*lines, display.line_], display.ax_
    colors = {matplotlib.colors.to_hex(line.get_color()) for line in lines}
    assert len(colors) == 8
    assert not colors & set(matplotlib.rcParams["axes.prop_cycle"].by_key()["color"][:4])
    assert len({line.get_linestyle() for line in lines[:4]}) == 4
    with figures.style.context("dark_background"):
        display = Display.from_codes(*problem)
        cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        assert display.line_.get_color() == cycle[0]
        assert matplotlib.colors.to_hex(display.ax_.get_facecolor()) == "#000000"
    # Axes that are given keep their colours.
    _, ax = figures.subplots()
    line = Display.from_codes(*problem, ax=ax).line_
    assert matplotlib.colors.to_hex(line.get_color()) == "#1f77b4"


@curves
def test_pipelines(Display, scenes):
    _, rows, Y = scenes
    pipeline = make_pipeline(StandardScaler(), LSHHasher(8, random_state=0)).fit(rows[3:], Y[3:])
    display = Display.from_estimator(pipeline, rows[:3], Y[:3], name="pipe")
    assert display.line_.get_label() == "pipe"


def test_diagnostics_of_known_codes():
    # Bits 0 and 1 are equal, bit 2 is their opposite, bit 3 is independent, bit 4 constant.
    bit, other = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    codes = np.column_stack([bit, bit, 1 - bit, other, np.ones(4, int)])
    display = CodeDiagnosticsDisplay.from_codes(np.tile(codes, (2000, 1)))
    np.testing.assert_allclose(display.balance, [0.5, 0.5, 0.5, 0.5, 1])
    expected = [[1, 1, -1, 0, 0], [1, 1, -1, 0, 0], [-1, -1, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5]
    np.testing.assert_allclose(display.correlation, expected, atol=1e-12)
    # Eigenvalues 3 and 1 (times 1 / 4): 16 / 10.
    assert display.n_effective == pytest.approx(1.6, rel=1e-3)
    np.testing.assert_array_equal(display.n_sharing, [2000] * 4)
    (outline,) = display.axes_[0].patches
    np.testing.assert_allclose(outline.get_data().values, display.balance)
    np.testing.assert_allclose(outline.get_data().edges, [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5])
    np.testing.assert_allclose(display.axes_[1].images[0].get_array(), display.correlation)


def test_effective_bits_at_the_extremes():
    rng = np.random.default_rng(0)
    everything = (np.arange(2**10)[:, None] >> np.arange(10)) & 1
    assert CodeDiagnosticsDisplay.from_codes(everything).n_effective == pytest.approx(10)
    alike = np.repeat(rng.integers(0, 2, (50, 1)), 10, axis=1)
    assert CodeDiagnosticsDisplay.from_codes(alike).n_effective == pytest.approx(1)
    constant = CodeDiagnosticsDisplay.from_codes(np.ones((50, 10), int))
    assert constant.n_effective == 0
    np.testing.assert_array_equal(constant.n_sharing, [50])
    assert CodeDiagnosticsDisplay.from_codes([[0], [1], [1]]).n_effective == pytest.approx(1)


@pytest.mark.parametrize("n_samples", [500, 5000])
@pytest.mark.parametrize("n_copies", [1, 16])
def test_effective_bits_of_independent_bits(n_samples, n_copies):
    read = []
    for seed in range(5):
        bits = np.random.default_rng(seed).integers(0, 2, (n_samples, 256 // n_copies))
        codes = np.repeat(bits, n_copies, axis=1)
        read.append(CodeDiagnosticsDisplay.from_codes(codes).n_effective)
    # The ratio of a sample of 500 is 169 of 256 bits.
    assert np.mean(read) == pytest.approx(256 / n_copies, rel=0.01)


def test_effective_bits_of_a_known_covariance(figures):
    # Half of the bits follow one coin with probability 0.9, and all are 1 for 0.2 of the samples:
    # covariances 0.16 alone, 0.16 * 0.81 for two that follow the coin.
    rng, n_samples, read = np.random.default_rng(0), 4000, []
    squares = 40 * 0.16**2 + 20 * 19 * (0.16 * 0.81) ** 2
    for _ in range(20):
        own, coin = rng.random((n_samples, 40)) < 0.2, rng.random((n_samples, 1)) < 0.2
        follows = (rng.random((n_samples, 40)) < 0.9) & (np.arange(40) < 20)
        codes = np.where(follows, coin, own)
        figures.close("all")
        read.append(CodeDiagnosticsDisplay.from_codes(codes).n_effective)
    assert np.mean(read) == pytest.approx((40 * 0.16) ** 2 / squares, rel=0.02)


def test_effective_bits_are_possible_numbers():
    rng = np.random.default_rng(0)
    for n_samples in (1, 2, 3, 4, 5, 8):
        codes = rng.integers(0, 2, (n_samples, 48))
        n_varying = np.count_nonzero(np.ptp(codes, axis=0))
        n_effective = CodeDiagnosticsDisplay.from_codes(codes).n_effective
        assert min(1, n_varying) <= n_effective <= n_varying


@pytest.mark.parametrize("n_bits", [1, 4, 16, 256])
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_diagnostics_read(n_bits, layout, figures):
    codes, _ = noisy(3000, n_bits, np.random.default_rng(0))
    axes = figures.subplots(1, 3, figsize=(12, 3.6), layout=layout)[1]
    display = CodeDiagnosticsDisplay.from_codes(codes, axes=axes)
    for axis in (axes[0].xaxis, axes[1].xaxis, axes[1].yaxis):
        ticks = [int(text.replace("\N{MINUS SIGN}", "-")) for text in tick_texts(axis)]
        assert ticks[0] == 0
        assert all(0 <= tick < n_bits for tick in ticks)
    assert_apart(drawn_texts(display.figure_))
    bits = "1 bit" if n_bits == 1 else f"{n_bits} bits"
    assert axes[1].get_title() == f"correlation: {display.n_effective:.1f} of {bits} effective"
    (outline,) = axes[0].patches
    assert outline.get_linewidth() == 0 or not outline.get_edgecolor()[3]


@pytest.mark.parametrize(
    ("codes", "title", "says"),
    [
        ([[0, 1]], "1 code of 1 sample", "no code is shared"),
        ([[0, 1]] * 3, "1 code of 3 samples", "all samples share one code"),
        ([[0, 1], [1, 1]], "2 codes of 2 samples", "no code is shared"),
        ([[0, 1], [1, 1], [1, 1]], "2 codes of 3 samples", None),
    ],
)
def test_a_sentence_where_a_curve_says_nothing(codes, title, says):
    display = CodeDiagnosticsDisplay.from_codes(codes)
    ax = display.axes_[2]
    assert ax.get_title() == title
    assert [text.get_text() for text in ax.texts] == ([says] if says else [])
    assert len(ax.lines) == (says is None)
    is_constant = display.n_effective == 0
    says = ["all bits are constant"] if is_constant else []
    assert [text.get_text() for text in display.axes_[1].texts] == says


def test_correlation_of_zero_has_the_color_of_the_ground():
    image = CodeDiagnosticsDisplay.from_codes([[0, 1], [1, 1]]).axes_[1].images[0]
    alpha = image.to_rgba(np.array([-1, -0.5, 0, 0.5, 1]))[:, 3]
    np.testing.assert_allclose(alpha, [1, 0.5, 0, 0.5, 1], atol=0.01)


def test_diagnostics_count_many_codes():
    codes = np.random.default_rng(0).integers(0, 2, (40_000, 130)).astype(bool)
    codes[::7, 0], codes[30_000:] = False, codes[:10_000]
    display = CodeDiagnosticsDisplay.from_codes(codes)
    np.testing.assert_allclose(display.balance, codes.mean(axis=0))
    np.testing.assert_allclose(display.correlation, np.corrcoef(codes.T), atol=1e-12)
    _, counts = np.unique(codes, axis=0, return_counts=True)
    np.testing.assert_array_equal(display.n_sharing, np.sort(counts)[::-1])
    packed = CodeDiagnosticsDisplay.from_codes(pack_codes(codes), n_bits=130)
    np.testing.assert_array_equal(packed.n_sharing, display.n_sharing)
    assert packed.n_effective == display.n_effective


def test_diagnostics_count_collisions():
    display = CodeDiagnosticsDisplay.from_codes(np.repeat([[0, 1], [1, 1], [0, 0]], [2, 5, 1], 0))
    np.testing.assert_array_equal(display.n_sharing, [5, 2, 1])
    np.testing.assert_array_equal(display.axes_[2].lines[0].get_ydata(), [5, 2, 1])
    assert display.axes_[2].get_title() == "3 codes of 8 samples"


def test_diagnostics_of_an_estimator(hasher, scenes, figures):
    _, rows, _ = scenes
    _, axes = figures.subplots(1, 3)
    display = CodeDiagnosticsDisplay.from_estimator(hasher, axes=axes)
    assert list(display.axes_) == list(axes)
    other = CodeDiagnosticsDisplay.from_estimator(hasher, rows[3:])
    np.testing.assert_array_equal(display.balance, other.balance)
    np.testing.assert_array_equal(display.balance, hasher.transform(rows[3:]).mean(axis=0))
    with pytest.raises(ValueError, match="axes should be 3 Axes, got 2"):
        display.plot(axes[:2])


def test_retrieval_shows_what_kneighbors_finds(hasher, scenes):
    images, rows, Y = scenes
    names = [f"digit {i}" for i in range(10)]
    display = RetrievalDisplay.from_estimator(
        hasher,
        rows[:3],
        Y[:3],
        query_images=images[:3],
        database_images=images[3:],
        n_results=4,
        label_names=names,
    )
    distances, found = hasher.kneighbors(rows[:3], 4)
    assert display.axes_.shape == (3, 5)
    assert any(not shared for row in display.shared_labels for shared in row)
    for row in range(3):
        own = [names[i] for i in np.flatnonzero(Y[row])]
        assert display.axes_[row, 0].get_xlabel().replace("\n", " ") == ", ".join(own)
        for ax, distance, item in zip(
            display.axes_[row, 1:], distances[row], found[row], strict=True
        ):
            np.testing.assert_array_equal(ax.images[0].get_array(), images[3 + item])
            shared = [names[i] for i in np.flatnonzero(Y[row] & Y[3 + item])]
            assert ax.get_title() == f"distance {distance}"
            label = ax.get_xlabel().replace("\n", " ")
            assert label == (", ".join(shared) or "none shared")
            is_framed = [spine.get_visible() for spine in ax.spines.values()]
            assert is_framed == [not shared] * 4


class Series:
    """What a pandas Series is to those who index it: its labels are not positions."""

    def __init__(self, values):
        self.iloc = values

    def __len__(self):
        return len(self.iloc)

    def __getitem__(self, label):
        if isinstance(label, slice):
            return Series(self.iloc[label])
        return self.iloc[-1 - label]


def test_retrieval_takes_all_kinds_of_images(problem, scenes, tmp_path):
    query_codes, query_labels, database_codes, database_labels = problem
    images = scenes[0]
    files = [tmp_path / f"{i}.png" for i in range(60)]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file)
    shown = []
    pictures = [Image.fromarray(image) for image in images]
    opaque = np.concatenate([images, np.full_like(images[..., :1], 255)], axis=3)
    forms = [images, images.transpose(0, 3, 1, 2), files, [str(file) for file in files]]
    forms += [pictures, [(picture, "label") for picture in pictures], Series(files), opaque]
    for made in forms:
        display = RetrievalDisplay.from_codes(
            query_codes[:2],
            sparse.csr_matrix(query_labels[:2]),
            database_codes,
            database_labels.tolist(),
            query_images=made[:2],
            database_images=made,
            n_results=2,
        )
        shown.append([np.asarray(ax.images[0].get_array()) for ax in display.axes_.flat])
    for other in shown[1:]:
        np.testing.assert_array_equal(np.array(other)[..., :3], shown[0])
    assert display.query_labels[0] == [str(i) for i in np.flatnonzero(query_labels[0])]
    gray = display.plot()
    gray.queries = [image[..., 0] for image in images[:2]]
    assert gray.plot().axes_[0, 0].images[0].get_array().ndim == 2


def test_retrieval_names_classes(problem, scenes):
    query_codes, _, database_codes, _ = problem
    names = np.array(["ant", "bee", "cow", "dog"])
    queries, database = names[[3, 0]], names[np.arange(60) % 3]
    images = {"query_images": scenes[0][:2], "database_images": scenes[0]}
    display = RetrievalDisplay.from_codes(
        query_codes[:2], queries, database_codes, database, n_results=9, **images
    )
    assert display.query_labels == [["dog"], ["ant"]]
    # No item is a dog; those that share their class with the other query are ants.
    assert display.shared_labels[0] == [[]] * 9
    assert {tuple(shared) for shared in display.shared_labels[1]} == {(), ("ant",)}
    hasher = LSHHasher(12, random_state=0).fit(scenes[1], database)
    display = RetrievalDisplay.from_estimator(hasher, scenes[1][:2], queries, **images)
    assert display.query_labels == [[], ["ant"]]


def test_retrieval_draws_on_given_axes(problem, scenes, figures):
    _, axes = figures.subplots(1, 4)
    display = RetrievalDisplay.from_codes(
        problem[0][:1],
        problem[1][:1],
        *problem[2:],
        query_images=scenes[0][:1],
        database_images=scenes[0],
        n_results=3,
        axes=axes,
    )
    assert display.axes_.shape == (1, 4)
    assert display.figure_ is axes[0].figure
    assert len(figures.get_fignums()) == 1


def test_retrieval_shows_all_items_of_a_small_database(problem, scenes):
    shown = {"query_images": scenes[0][:7], "database_images": scenes[0][:2]}
    sides = *problem[:2], problem[2][:2], problem[3][:2]
    assert RetrievalDisplay.from_codes(*sides, **shown).axes_.shape == (7, 3)


@pytest.mark.parametrize("name", ["label", "the long name of a label that takes several lines"])
@pytest.mark.parametrize("given", [False, True])
def test_captions_are_apart(name, given, problem, scenes, figures):
    names = [f"{name} {i}" for i in range(4)]
    n_queries = 1 if given else 2
    axes = figures.subplots(1, 6, figsize=(8, 7))[1] if given else None
    display = RetrievalDisplay.from_codes(
        problem[0][:n_queries],
        np.ones((n_queries, 4), int),
        *problem[2:],
        query_images=scenes[0][:n_queries],
        database_images=scenes[0],
        label_names=names,
        axes=axes,
    )
    assert_apart(drawn_texts(display.figure_))
    # Captions do not take the place of the images.
    assert given or display.axes_[0, 0].get_window_extent().width > 80


def test_retrieval_errors(problem, scenes):
    images = scenes[0]

    def draw(**kwargs):
        images = {"query_images": scenes[0][:7], "database_images": scenes[0]}
        RetrievalDisplay.from_codes(*problem, **(images | kwargs))

    with pytest.raises(ValueError, match="query_images should be the 7 queries, got 6 images"):
        draw(query_images=images[:6])
    with pytest.raises(ValueError, match=r"database_images .* the 60 items .* got 2 images"):
        draw(database_images=images[:2])
    with pytest.raises(ValueError, match="name the 4 labels, got 1 names"):
        draw(label_names=["a"])
    with pytest.raises(
        ValueError, match=r"'n_results' parameter of RetrievalDisplay\.from_codes must"
    ):
        draw(n_results=0)


def test_errors_of_curves(problem, hasher, scenes):
    _, rows, Y = scenes
    with pytest.raises(
        ValueError, match=r"'metric' parameter of RankingCurveDisplay\.from_codes must"
    ):
        RankingCurveDisplay.from_codes(*problem, metric="nDCG")
    with pytest.raises(ValueError, match="'xscale' parameter"):
        RankingCurveDisplay.from_codes(*problem, xscale="root")
    with pytest.raises(ValueError, match="'ties' parameter"):
        RankingCurveDisplay.from_codes(*problem, ties="luck")
    with pytest.raises(NotFittedError):
        RankingCurveDisplay.from_estimator(LSHHasher(), rows, Y)
    with pytest.raises(TypeError, match="takes a hasher of skhash"):
        PrecisionRecallDisplay.from_estimator(StandardScaler().fit(rows), rows, Y)
    with pytest.raises(ValueError, match="needs the label sets of the queries"):
        PrecisionRecallDisplay.from_estimator(hasher, rows[:3], None)
    with pytest.raises(ValueError, match="only 0 and 1"):
        CodeDiagnosticsDisplay.from_codes([[0, 2]])


def test_error_without_matplotlib(problem, hasher, scenes, monkeypatch):
    images, rows, Y = scenes
    displays = [Display.from_codes(*problem) for Display in CURVES]
    displays += [CodeDiagnosticsDisplay.from_codes(problem[0])]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    named = {Display.__name__ for Display in CURVES}
    for display in displays:
        name = type(display).__name__
        with pytest.raises(ImportError, match=f"{name}.plot requires matplotlib"):
            display.plot()
        with pytest.raises(ImportError, match=f"{name}.from_estimator requires matplotlib"):
            type(display).from_estimator(hasher, *((rows[:3], Y[:3]) if name in named else ()))
    with pytest.raises(ImportError, match=r"RetrievalDisplay.from_estimator requires matplotlib"):
        RetrievalDisplay.from_estimator(
            hasher, rows[:3], Y[:3], query_images=images[:3], database_images=images[3:]
        )
