"""Files, data sets and streams as X of hashers, and the modes of torch around them."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from torchvision.datasets import ImageFolder

import skhash
from skhash import DeepRankingHasher

SHALLOW = sorted(set(skhash.__all__) - {"DeepRankingHasher"})
SHALLOW = [name for name in SHALLOW if name.endswith("Hasher")]


def make_images(n=40, size=8, seed=0):
    """Noisy images of two classes; that of class 1 has a bright upper half."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.integers(0, 60, (n, size, size, 3))
    X[y == 1, : size // 2] += 180
    return X.astype(np.uint8), y


def make_hasher(**params):
    defaults = {"hidden_size": 16, "max_epochs": 2, "batch_size": 20, "image_size": 8}
    defaults |= {"network": "convnet", "device": "cpu", "random_state": 0}
    return DeepRankingHasher(8, **(defaults | params))


def save_files(X, folder):
    paths = [folder / f"{i}.png" for i in range(len(X))]
    for x, path in zip(X, paths, strict=True):
        Image.fromarray(x).save(path)
    return paths


@pytest.fixture(scope="module")
def images():
    return make_images()


@pytest.fixture(scope="module")
def fitted(images):
    return make_hasher().fit(*images)


class Pairs(torch.utils.data.Dataset):
    """A map-style data set that raises no IndexError, and what it was asked for."""

    def __init__(self, X, y):
        self.X, self.y, self.asked = X, y, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        self.asked.append(row)
        if len(self.asked) > 10_000:
            raise MemoryError("asked for without end")
        return Image.fromarray(self.X[row % len(self.X)]), self.y[row % len(self.X)]


# Data sets.


def test_data_set_gives_the_codes_of_its_images(images, fitted):
    X, y = images
    data_set = Pairs(X, y)
    some = torch.utils.data.Subset(data_set, [3, 0])
    assert_array_equal(fitted.transform(data_set), fitted.transform(X))
    assert_array_equal(fitted.transform(some), fitted.transform(X[[3, 0]]))
    assert_array_equal(fitted.transform([data_set[3], data_set[0]]), fitted.transform(X[[3, 0]]))
    hasher = make_hasher().fit(data_set, y)
    assert_array_equal(hasher.database_codes_, fitted.database_codes_)
    assert hasher.score(data_set, y) == fitted.score(X, y)


class Table:
    """A data set as those of Hugging Face: an iterable with a shape, whose rows are dicts."""

    def __init__(self, X, y):
        self.X, self.y, self.shape = X, y, (len(X), 2)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        return {"image": Image.fromarray(self.X[row]), "label": int(self.y[row])}

    def __iter__(self):
        return (self[row] for row in range(len(self)))


def test_data_set_of_dicts(images, fitted):
    X, y = images
    table = Table(X, y)
    assert_array_equal(fitted.transform(table), fitted.transform(X))
    assert_array_equal(make_hasher().fit(table, y).database_codes_, fitted.database_codes_)
    parts = make_hasher().partial_fit(table, y)
    assert_array_equal(parts.transform(X), make_hasher().partial_fit(X, y).transform(X))
    with pytest.raises(ValueError, match=r"Table of which rows are made.*np\.stack.*partial_fit"):
        skhash.LSHHasher().fit(table)


def test_stream_names_what_takes_parts(images):
    stream = (image for image in images[0])
    for hasher in (make_hasher(), skhash.LSHHasher()):
        with pytest.raises(ValueError, match=r"list\(X\) .* partial_fit and add_to_database"):
            hasher.fit(stream, images[1])


def test_image_folder(images, fitted, tmp_path):
    X, y = images
    for label in (0, 1):
        (tmp_path / str(label)).mkdir()
        save_files(X[y == label], tmp_path / str(label))
    folder = ImageFolder(tmp_path)
    hasher = make_hasher().fit(folder, folder.targets)
    rows = np.argsort(y, kind="stable")
    paths = [path for path, _ in folder.samples]
    assert_array_equal(hasher.transform(folder), hasher.transform(paths))
    by_name = sorted(range(len(X)), key=lambda i: (y[rows[i]], str(i % 20)))
    assert_array_equal(fitted.transform(folder), fitted.transform(X[rows][by_name]))


def test_cross_validation_of_a_data_set(images):
    X, y = images
    scores = cross_val_score(make_hasher(max_epochs=1), Pairs(X, y), y, cv=2)
    assert_array_equal(scores, cross_val_score(make_hasher(max_epochs=1), X, y, cv=2))


def test_images_of_mixed_size(images):
    X, y = images
    mixed = [x if i % 2 else np.repeat(x, 2, axis=1) for i, x in enumerate(X)]
    hasher = make_hasher().fit(mixed, y)
    assert hasher.transform(mixed).shape == (40, 8)
    with pytest.raises(ValueError, match=r"image_size .* data sets and images of several sizes"):
        make_hasher(image_size="auto").fit(mixed, y)


@pytest.mark.parametrize("name", [*SHALLOW, "DeepRankingHasher"])
def test_no_hasher_asks_without_end(name, images):
    X, y = images
    hasher = getattr(skhash, name)()
    data_set = Pairs(X, y)
    if name == "DeepRankingHasher":
        hasher.set_params(network="convnet", max_epochs=0)
    with pytest.raises(ValueError, match=r"Pairs of which rows are made .* np\.stack|image_size"):
        hasher.fit(data_set, y)
    assert len(data_set.asked) <= 1


@pytest.mark.parametrize("name", [*SHALLOW, "DeepRankingHasher"])
@pytest.mark.parametrize(
    "make", [lambda X: (row for row in X), lambda X: torch.utils.data.DataLoader(X), set, iter]
)
def test_every_hasher_refuses_streams(name, make):
    rows = np.eye(8).tolist()
    stream = make([*map(tuple, rows)])
    with pytest.raises(ValueError, match=r"X should be an array or a sequence, .* list\(X\)"):
        getattr(skhash, name)().fit(stream, np.arange(8) % 2)


def test_every_hasher_refuses_streams_once_fitted(images, fitted):
    X, y = images
    rows = X.reshape(len(X), -1) / 255
    shallow = skhash.LSHHasher(8).fit(rows, y)
    for hasher, samples in ((shallow, rows), (fitted, X)):
        for name in ("transform", "project", "predict", "kneighbors", "encode_database"):
            with pytest.raises(ValueError, match="got a generator"):
                getattr(hasher, name)(row for row in samples)
        for name in ("score", "set_database"):
            with pytest.raises(ValueError, match="got a generator"):
                getattr(hasher, name)((row for row in samples), y)


# Files of which some are damaged.


@pytest.fixture
def files(tmp_path):
    """Paths of files, of which 1 is missing, 4 empty, 6 cut off and 9 no image."""
    X = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), dtype=np.uint8)
    paths = save_files(X, tmp_path)
    paths[1].unlink()
    paths[4].write_bytes(b"")
    paths[6].write_bytes(paths[6].read_bytes()[:-200])
    paths[9].write_text("no image")
    return paths, [0, 2, 3, 5, 7, 8, 10, 11]


@pytest.mark.parametrize("method", ["encode_database", "transform"])
def test_damaged_files_are_skipped(files, fitted, method):
    paths, good = files
    encoded = fitted.encode_files(paths, method=method, on_error="skip")
    kept = [paths[i] for i in good]
    assert_array_equal(encoded.indices, good)
    assert_array_equal(encoded.codes, getattr(fitted, method)(kept))
    assert encoded.codes.dtype == np.uint8
    phrases = ["does not exist", "is empty", "cannot be decoded", "cannot be decoded"]
    for (path, reason), row, phrase in zip(encoded.skipped, [1, 4, 6, 9], phrases, strict=True):
        assert path == str(paths[row])
        assert reason.startswith(phrase)


def test_nothing_to_skip(files, fitted):
    paths, good = files
    kept = np.array([str(paths[i]) for i in good])
    for on_error in ("raise", "skip"):
        encoded = fitted.encode_files(kept, on_error=on_error)
        assert_array_equal(encoded.codes, fitted.encode_database(kept))
        assert_array_equal(encoded.indices, np.arange(len(kept)))
        assert encoded.skipped == []


def test_all_files_are_skipped(files, fitted):
    paths, _ = files
    encoded = fitted.encode_files([paths[6], paths[1]], on_error="skip")
    assert encoded.codes.shape == (0, 8)
    assert encoded.indices.shape == (0,)
    assert [path for path, _ in encoded.skipped] == [str(paths[6]), str(paths[1])]


def test_codes_of_items_are_those_that_the_database_keeps(images, tmp_path):
    X, _ = images
    Y = np.random.default_rng(0).integers(0, 2, (len(X), 4))
    hasher = make_hasher(encoding="joint").fit(X, Y)
    paths = save_files(X, tmp_path)
    packed = skhash.codes.pack_codes(hasher.encode_files(paths).codes)
    assert_array_equal(packed, hasher.database_codes_)
    queries = hasher.encode_files(paths, method="transform").codes
    assert_array_equal(queries, hasher.transform(X))
    assert not np.array_equal(skhash.codes.pack_codes(queries), packed)


@pytest.mark.parametrize("name", ["transform", "encode_database", "encode_files", "fit"])
def test_error_on_damaged_files_says_what_would_do(files, fitted, name):
    paths, _ = files
    hasher = make_hasher() if name == "fit" else fitted
    labels = [np.arange(12) % 2] if name == "fit" else []
    with pytest.raises(FileNotFoundError, match=r"X\[1\] is the file .*1\.png, which") as error:
        getattr(hasher, name)(paths, *labels)
    assert "2 more cannot be read: X[4], X[9]." in str(error.value)
    assert "encode_files(X, on_error='skip')" in str(error.value)
    sound = [path for i, path in enumerate(paths) if i not in (1, 4, 9)]
    with pytest.raises(ValueError, match=r"X\[4\] is the file .*6\.png, which cannot be decoded"):
        getattr(hasher, name)(sound, *(np.arange(9) % 2 for _ in labels))


def test_error_of_encode_files(files, fitted, images):
    X, y = images
    with pytest.raises(ValueError, match=r"paths should be a sequence of paths .*, got images"):
        fitted.encode_files(X)
    with pytest.raises(ValueError, match=r"'on_error' parameter of encode_files .*'skip'"):
        fitted.encode_files(files[0], on_error="ignore")
    with pytest.raises(ValueError, match=r"'method' parameter of encode_files .*'transform'"):
        fitted.encode_files(files[0], method="project")
    with pytest.raises(ValueError, match=r"alone: pass \[path\]"):
        fitted.encode_files(str(files[0][0]))
    rows = DeepRankingHasher(8, max_epochs=0).fit(X.reshape(len(X), -1) / 255, y)
    with pytest.raises(ValueError, match="was fitted on feature rows"):
        rows.encode_files(files[0])
    with pytest.raises(NotFittedError, match="not fitted"):
        make_hasher().encode_files(files[0])


def test_sideways_photographs_have_the_codes_of_upright_ones(fitted, tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (20, 12, 3), dtype=np.uint8)
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(upright).save(tmp_path / "upright.png")
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "sideways.png", exif=tag)
    relaxed = fitted.relaxed_codes([tmp_path / "upright.png", tmp_path / "sideways.png"])
    assert_array_equal(relaxed[0], relaxed[1])


# Modes of torch around a training.


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("params", [{}, {"head_epochs": 1}, {"early_stopping": True}], ids=repr)
def test_fit_in_any_mode(mode, params, images):
    X, y = images
    expected = make_hasher(**params).fit(X, y)
    with mode():
        hasher = make_hasher(**params).fit(X, y)
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    assert before == (False, mode is torch.inference_mode)
    assert_array_equal(hasher.project(X), expected.project(X))
    assert hasher.loss_curve_ == expected.loss_curve_
    # What was made there is trained on here.
    assert_array_equal(hasher.partial_fit(X, y).project(X), expected.partial_fit(X, y).project(X))


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_partial_fit_and_load_in_any_mode(mode, images, tmp_path):
    X, y = images
    expected = make_hasher().partial_fit(X, y)
    with mode():
        hasher = make_hasher().partial_fit(X, y)
        hasher.save(tmp_path / "hasher")
        loaded = DeepRankingHasher.load(tmp_path / "hasher")
        assert_array_equal(loaded.project(X), expected.project(X))
    assert math.isfinite(loaded.partial_fit(X, y).loss_curve_[-1])
