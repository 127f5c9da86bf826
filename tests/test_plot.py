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


def test_precision_and_recall_by_radius(problem):
    display = PrecisionRecallDisplay.from_codes(*problem)
    histogram = HammingHistogram.from_codes(*problem)
    np.testing.assert_array_equal(display.radius, np.arange(13))
    expected = [
        (histogram.recall(radius=r).mean(), histogram.precision(radius=r).mean())
        for r in range(13)
    ]
    np.testing.assert_allclose(display.line_.get_xydata(), expected)
    assert (np.diff(display.recall) >= 0).all()
    assert display.recall[-1] == 1


@curves
def test_estimator_and_codes_give_the_same_curve(Display, hasher, scenes):
    _, rows, Y = scenes
    display = Display.from_estimator(hasher, rows[:3], Y[:3])
    other = Display.from_codes(
        hasher.transform(rows[:3]), Y[:3], hasher.transform(rows[3:]), Y[3:]
    )
    np.testing.assert_array_equal(display.line_.get_xydata(), other.line_.get_xydata())
    assert display.line_.get_label() == "LSHHasher"
    assert other.ax_.get_legend() is None


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
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
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
def test_pipelines(Display, scenes):
    _, rows, Y = scenes
    pipeline = make_pipeline(StandardScaler(), LSHHasher(8, random_state=0)).fit(rows[3:], Y[3:])
    display = Display.from_estimator(pipeline, rows[:3], Y[:3], name="pipe")
    assert display.line_.get_label() == "pipe"


def test_diagnostics_of_known_codes():
    # Bits 0 and 1 are equal, bit 2 is their opposite, bit 3 is independent, bit 4 constant.
    bit, other = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    codes = np.column_stack([bit, bit, 1 - bit, other, np.ones(4, int)])
    display = CodeDiagnosticsDisplay.from_codes(codes)
    np.testing.assert_allclose(display.balance, [0.5, 0.5, 0.5, 0.5, 1])
    expected = [[1, 1, -1, 0, 0], [1, 1, -1, 0, 0], [-1, -1, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5]
    np.testing.assert_allclose(display.correlation, expected, atol=1e-12)
    # Eigenvalues 3 and 1 (times 1 / 4): 16 / 10.
    assert display.n_effective == pytest.approx(1.6)
    np.testing.assert_array_equal(display.n_sharing, [1, 1, 1, 1])
    heights = [bar.get_height() for bar in display.axes_[0].patches]
    np.testing.assert_allclose(heights, display.balance)
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
    with pytest.raises(ValueError, match="n_neighbors"):
        draw(n_results=61)


def test_errors_of_curves(problem, hasher, scenes):
    _, rows, Y = scenes
    with pytest.raises(
        ValueError, match=r"'metric' parameter of RankingCurveDisplay\.from_codes must"
    ):
        RankingCurveDisplay.from_codes(*problem, metric="nDCG")
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
