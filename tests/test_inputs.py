"""Inputs of deep hashers: every form that X may take, and what is said of the others."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from numpy.testing import assert_array_equal
from PIL import Image
from scipy import sparse
from sklearn.utils import gen_batches

from skhash.deep import _inputs
from skhash.deep._inputs import (
    FeatureRows,
    ImageArray,
    ImageFiles,
    ImageSequence,
    prefetched,
)
from skhash.deep._kinds import input_kind


def make_images(n=7, height=6, width=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


class Series:
    """What a pandas Series is to numpy: it has a shape and becomes an array."""

    def __init__(self, values):
        self._values = np.fromiter(values, object, len(values))
        self.shape = self._values.shape

    def __array__(self, dtype=None, copy=None):
        return self._values


class Name:
    """Not a str, but names a file."""

    def __fspath__(self):
        return "a.png"


# The kind of X.


@pytest.mark.parametrize(
    "X",
    [
        ["a.png", "b.png"],
        ("a.png",),
        [Path("a.png"), Path("b.png")],
        ["a.png", Path("b.png")],
        [Name()],
        np.array(["a.png", "b.png"]),
        np.array(["a.png", "b.png"], dtype=object),
        np.array([Path("a.png")], dtype=object),
        np.array(["a.png"], dtype=np.dtypes.StringDType()),
        np.array([], dtype=str),
        Series(["a.png", Path("b.png")]),
    ],
)
def test_kind_files(X):
    assert input_kind(X) == "files"


@pytest.mark.parametrize(
    "X",
    [
        make_images(),
        make_images().astype(float),
        make_images().tolist(),
        list(make_images()),
        torch.zeros(2, 3, 4, 4),
        np.zeros((0, 2, 2, 2)),
    ],
    ids=type,
)
def test_kind_images(X):
    assert input_kind(X) == "images"


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((2, 3)),
        [[1.0, 2.0], [3.0, 4.0]],
        [1.0, 2.0],
        [],
        [[1.0], [2.0, 3.0]],
        np.array([["a.png", "b.png"]]),
        np.array([], dtype=object),
        np.float64(1),
        None,
        Series([1, 2]),
        sparse.csr_array(np.eye(3)),
        sparse.coo_array(np.ones(3)),
    ],
    ids=lambda X: type(X).__name__,
)
def test_kind_features(X):
    assert input_kind(X) == "features"


PILLOW = Image.fromarray(make_images()[0])


@pytest.mark.parametrize(
    "X",
    [
        [PILLOW, PILLOW],
        [(PILLOW, 1)],
        [(make_images()[0], 1), (make_images()[0], 0)],
        [(torch.zeros(3, 4, 4), 1)],
        [{"image": PILLOW, "label": 1}],
        [{"label": 1, "pixels": make_images()[0]}],
        np.array([PILLOW, None], dtype=object)[:1],
        Series([PILLOW]),
        [np.zeros((4, 4, 3)), np.zeros((5, 4, 3))],
        [torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)],
        torch.utils.data.TensorDataset(torch.zeros(2, 3)),
    ],
    ids=lambda X: type(X).__name__,
)
def test_kind_image_sequence(X):
    assert input_kind(X) == "image sequence"


class Endless(torch.utils.data.Dataset):
    """A data set as the documentation of torch shows them: it raises no IndexError."""

    def __getitem__(self, row):
        return np.zeros((4, 4, 3), np.uint8), 0


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from make_images()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("a.png", r"sequence of paths .* got 'a\.png' alone: pass \[path\]"),
        (Path("a.png"), r"got PosixPath\('a\.png'\) alone|got WindowsPath"),
        (b"a.png", "got b'a.png' alone"),
        ([b"a.png"], r"str or path-like, got bytes as X\[0\].*os\.fsdecode"),
        (["a.png", b"b.png"], r"got bytes as X\[1\]"),
        (np.array([b"a.png"]), "got bytes"),
        (np.array([None, "a.png"], dtype=object), r"got None, of type NoneType, as X\[0\]"),
        (Series(["a.png", float("nan")]), r"got nan, of type float, as X\[1\]"),
        (["a.png", make_images()[0]], r"of type ndarray, as X\[1\]"),
        ((path for path in ["a.png"]), r"gone through again, got a generator\. list\(X\)"),
        (map(str, [1]), "got a map"),
        ({"a.png"}, "rows by number, got a set"),
        (torch.utils.data.DataLoader([1]), "got a DataLoader, which can only be gone through"),
        (Stream(), "with a length, got a Stream"),
        (Endless(), "with a length, got a Endless without __len__"),
        (make_images()[0], r"shape \(6, 5, 3\).*np\.repeat\(X\[\.\.\., None\].*X\[None\]"),
        (make_images()[0].tolist(), r"shape \(6, 5, 3\)"),
        (torch.zeros(6, 28, 28), r"shape \(6, 28, 28\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_on_what_is_no_samples(X, message):
    with pytest.raises(ValueError, match=message):
        input_kind(X)


# Rows of features.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [slice(1, 4), np.array([3, 0, 3])])
def test_feature_rows(dtype, rows):
    X = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
    source = FeatureRows(X)
    batch = source.batch(rows)
    assert len(source) == 5
    assert batch.dtype == torch.float32
    assert_array_equal(batch.numpy(), X[rows].astype(np.float32))
    before = X.copy()
    batch.zero_()
    assert_array_equal(X, before)


# Images in arrays.


ROWS = [slice(0, 1), slice(2, 6), np.array([4, 0, 4])]


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("size", [None, (6, 5), (4, 9)])
def test_both_layouts_of_images_give_one_batch(rows, size):
    X = make_images()
    last, first = (ImageArray(x, size) for x in (X, X.transpose(0, 3, 1, 2)))
    assert len(last) == len(first) == 7
    assert tuple(last.native_size) == tuple(first.native_size) == (6, 5)
    assert tuple(last.size) == tuple(first.size) == (size or (6, 5))
    batch = last.batch(rows)
    assert batch.dtype == torch.uint8
    assert batch.shape == (len(X[rows]), 3, *(size or (6, 5)))
    assert torch.equal(batch, first.batch(rows))
    if size != (4, 9):
        assert_array_equal(batch.permute(0, 2, 3, 1).numpy(), X[rows])


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_batch_never_shares_memory_with_the_images(channels_last, rows):
    X = (
        make_images()
        if channels_last
        else np.ascontiguousarray(make_images().transpose(0, 3, 1, 2))
    )
    before = X.copy()
    ImageArray(X).batch(rows).fill_(1)
    assert_array_equal(X, before)


def test_images_as_lists_and_tensors():
    X = make_images()
    expected = ImageArray(X).batch(slice(None))
    assert torch.equal(ImageArray(torch.from_numpy(X)).batch(slice(None)), expected)
    assert torch.equal(ImageArray(list(X)).batch(slice(None)), expected)


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_read_only_memory_map(rows, tmp_path):
    X = make_images()
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = ImageArray(mapped).batch(rows)
        batch.add_(1)
    assert torch.equal(batch, ImageArray(X).batch(rows) + 1)
    assert_array_equal(np.load(tmp_path / "images.npy"), X)


def test_memory_map_is_not_read_as_a_whole(tmp_path):
    # 2 TB of a sparse file: reading more than the rows asked for would fail.
    shape, path = (10**7, 256, 256, 3), tmp_path / "images.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        npy.write_array_header_2_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)))
    source = ImageArray(np.load(path, mmap_mode="r"))
    assert len(source) == 10**7
    assert source.batch(np.array([0, 5 * 10**6])).shape == (2, 3, 256, 256)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, bool, object])
def test_error_on_dtype_of_images(dtype):
    with pytest.raises(
        ValueError, match=f"dtype uint8, from 0 to 255, got dtype {np.dtype(dtype)}"
    ):
        ImageArray(make_images().astype(dtype))


@pytest.mark.parametrize(
    "shape",
    [(7, 6, 5, 1), (7, 6, 3, 5), (7, 6, 5, 4), (7, 0, 5, 3), (0, 6, 5, 3), (7, 6, 5), (7,)],
)
def test_error_on_shape_of_images(shape):
    with pytest.raises(
        ValueError, match=r"\(n_samples, height, width, 3\) or .*got an array"
    ) as e:
        ImageArray(np.zeros(shape, np.uint8))
    assert str(shape) in str(e.value)


# Image files.


def save(image, path, **params):
    image.save(path, **params)
    return str(path)


@pytest.mark.parametrize("form", [str, Path, np.str_])
@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_files_of_lossless_images_give_what_the_array_gives(form, rows, tmp_path):
    X = make_images()
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for x, path in zip(X, paths, strict=True):
        Image.fromarray(x).save(path)
    for size in [(6, 5), (4, 9)]:
        source = ImageFiles([form(path) for path in paths], size)
        assert len(source) == 7
        assert torch.equal(source.batch(rows), ImageArray(X, size).batch(rows))


GREY = np.arange(0, 240, 8, dtype=np.uint8).reshape(6, 5)


@pytest.mark.parametrize("extension", ["png", "bmp", "webp", "gif", "tiff"])
def test_grey_image_becomes_rgb(extension, tmp_path):
    params = {"lossless": True} if extension == "webp" else {}
    path = save(Image.fromarray(GREY), tmp_path / f"grey.{extension}", **params)
    batch = ImageFiles([path], (6, 5)).batch([0])
    assert batch.dtype == torch.uint8
    assert_array_equal(batch[0], np.stack([GREY] * 3))


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_16_bit_grey_image_keeps_its_high_bytes(extension, tmp_path):
    high = GREY.astype(np.uint16) * 256 + np.arange(30, dtype=np.uint16).reshape(6, 5)
    path = save(Image.fromarray(high), tmp_path / f"grey.{extension}")
    batch = ImageFiles([path], (6, 5)).batch([0])
    assert batch.dtype == torch.uint8
    assert_array_equal(batch[0], np.stack([GREY] * 3))


def test_transparency_is_dropped(tmp_path):
    rgb = make_images(1)[0]
    rgba = np.dstack([rgb, np.arange(30, dtype=np.uint8).reshape(6, 5)])
    palette = Image.fromarray(rgb).quantize(16)
    paths = [
        save(Image.fromarray(rgba), tmp_path / "rgba.png"),
        save(palette, tmp_path / "palette.png"),
        save(palette, tmp_path / "transparent.png", transparency=b"\x00\x10"),
    ]
    batch = ImageFiles(paths, (6, 5)).batch(slice(None)).permute(0, 2, 3, 1).numpy()
    assert_array_equal(batch[0], rgb)
    assert_array_equal(batch[1], np.asarray(palette.convert("RGB")))
    assert_array_equal(batch[2], batch[1])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(mode, tmp_path):
    smooth = np.linspace(40, 200, 32 * 24 * 3).reshape(32, 24, 3).astype(np.uint8)
    image = Image.fromarray(smooth).convert(mode)
    path = save(image, tmp_path / "a.jpg", quality=95)
    batch = ImageFiles([path], (32, 24)).batch([0])
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1).astype(int)
    assert np.abs(batch[0].numpy().astype(int) - expected).max() < 12


def test_animation_is_its_first_image(tmp_path):
    frames = [Image.fromarray(np.full((6, 5), value, np.uint8)) for value in (50, 200)]
    path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert ImageFiles([path], (6, 5)).batch([0]).eq(50).all()


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (5, 5)])
def test_whole_image_is_resized(height, width, tmp_path):
    # A frame of another colour, a fifth of each side wide, is still all around.
    image = np.full((height, width, 3), 200, np.uint8)
    h, w = -(-height // 5), -(-width // 5)
    image[h:-h, w:-w] = 40
    path = save(Image.fromarray(image), tmp_path / "a.png")
    resized = ImageFiles([path], (20, 20)).batch([0])[0]
    assert resized.shape == (3, 20, 20)
    border = torch.cat([resized[:, [0, -1]].flatten(), resized[:, :, [0, -1]].flatten()])
    assert border.float().min() > 180
    assert resized[:, 10, 10].max() < 60
    assert torch.equal(resized, ImageArray(image[None], (20, 20)).batch([0])[0])


def test_files_of_different_sizes_share_a_batch(tmp_path):
    paths = [
        save(Image.fromarray(make_images(1, h, w)[0]), tmp_path / f"{h}.png")
        for h, w in [(9, 4), (5, 5), (20, 30)]
    ]
    assert ImageFiles(paths, (8, 6)).batch(slice(0, 3)).shape == (3, 3, 8, 6)


def test_error_names_missing_file(tmp_path):
    there = save(Image.fromarray(GREY), tmp_path / "there.png")
    with pytest.raises(
        FileNotFoundError, match=r"X\[1\] is the file .*absent\.png, which does not"
    ):
        ImageFiles([there, tmp_path / "absent.png"])
    with pytest.raises(ValueError, match="which is a folder"):
        ImageFiles([tmp_path])


def spoiled_files(tmp_path):
    """Yield files that are no image, or no longer a whole one."""
    noise = Image.fromarray(make_images(1, 64, 64)[0])
    for extension in ("png", "jpg"):
        data = Path(save(noise, tmp_path / f"whole.{extension}")).read_bytes()
        for cut in (0, 1, 20, len(data) // 2):
            path = tmp_path / f"{cut}.{extension}"
            path.write_bytes(data[:cut])
            yield path
    path = tmp_path / "text.png"
    path.write_text("no image")
    yield path


def test_error_names_file_that_is_no_whole_image(tmp_path):
    for path in spoiled_files(tmp_path):
        fault = "cannot be decoded as an image" if path.stat().st_size else "is empty"
        with pytest.raises(ValueError, match=fault) as error:
            ImageFiles([path], (6, 5)).batch([0])
        assert str(path) in str(error.value)


# Images one at a time.


SEQUENCES = {
    "images of Pillow": lambda X: [Image.fromarray(x) for x in X],
    "images with labels": lambda X: [(Image.fromarray(x), 3) for x in X],
    "object array": lambda X: np.fromiter(map(Image.fromarray, X), object, len(X)),
    "Series": lambda X: Series([Image.fromarray(x) for x in X]),
    "tensors with labels": lambda X: [(torch.from_numpy(x).permute(2, 0, 1), 0) for x in X],
    "dicts with labels": lambda X: [{"label": 3, "image": Image.fromarray(x)} for x in X],
    "dicts of arrays": lambda X: [{"pixels": x, "box": np.zeros((2, 4))} for x in X],
    "TensorDataset": lambda X: torch.utils.data.TensorDataset(torch.from_numpy(X)),
}


@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_sequence_gives_what_the_array_gives(make, rows):
    X = make_images()
    sequence = make(X)
    for size in [(6, 5), (4, 9)]:
        source = ImageSequence(sequence, size)
        assert len(source) == 7
        assert torch.equal(source.batch(rows), ImageArray(X, size).batch(rows))


def test_size_of_a_sequence():
    image = Image.fromarray(make_images()[0])
    assert ImageSequence([image, image]).native_size == (6, 5)
    assert ImageSequence([image, image.rotate(90, expand=True)]).native_size is None
    assert ImageSequence(SEQUENCES["TensorDataset"](make_images())).native_size is None


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"got ndarray of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"of shape \(4, 4, 4\)"),
        (np.zeros((4, 0, 3), np.uint8), r"of shape \(4, 0, 3\)"),
        (np.zeros((4, 4, 3)), r"uint8, from 0 to 255, got dtype float64"),
        ((torch.zeros(3, 4, 4), 1), r"got dtype torch\.float32\. Without transforms\.ToTensor"),
        ({"image": 1}, r"one image, got a dict with \['image'\], of which none are images"),
        (
            {"a": PILLOW, "b": np.zeros((4, 4, 3)), "label": 1},
            r"one image, got a dict with \['a', 'b', 'label'\], of which \['a', 'b'\] are images",
        ),
        (torch.zeros(3), r"got Tensor of shape \(3,\)\. Feature rows should be one array"),
        ((), "got tuple"),
        (None, "got NoneType"),
        (Image.new("F", (4, 4)), "holds floating point numbers"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("row", [0, 1])
def test_error_on_what_is_no_image(sample, message, row):
    samples = [make_images()[0], sample]
    with pytest.raises(ValueError, match=message) as error:
        ImageSequence(samples if row else samples[::-1], (4, 4)).batch([1])
    assert str(error.value).startswith(f"X[{row}] ")


def test_error_of_a_data_set_names_the_row():
    class Failing(Endless):
        def __len__(self):
            return 9

        def __getitem__(self, row):
            if row == 7:
                raise KeyError("lost")
            return super().__getitem__(row)

    with pytest.raises(KeyError, match="lost") as error:
        ImageSequence(Failing(), (4, 4)).batch(slice(5, 9))
    assert error.value.__notes__ == ["This was raised by row 7 of X."]


# Reading ahead.


class Source:
    """Counts what is asked of it; each batch is its own number."""

    def __init__(self, n_threads, bad=None):
        self.n_threads, self.bad, self.asked = n_threads, bad, []
        self.threads = set()

    def __len__(self):
        return 20

    def batch(self, rows):
        self.asked.append(rows.start)
        self.threads.add(threading.get_ident())
        if rows.start == self.bad:
            raise ValueError(f"bad batch {rows.start}")
        return rows.start


@pytest.mark.parametrize("n_threads", [0, 1, 3, 30])
def test_prefetched_keeps_order(n_threads):
    source = Source(n_threads)
    assert list(prefetched(source, gen_batches(20, 1))) == list(range(20))
    assert sorted(source.asked) == list(range(20))
    assert (threading.get_ident() in source.threads) == (n_threads == 0)


def test_prefetched_order_does_not_depend_on_who_is_ready_first():
    first_may_end = threading.Event()

    class Slow(Source):
        def batch(self, rows):
            if rows.start == 0:
                assert first_may_end.wait(10)
            else:
                first_may_end.set()
            return super().batch(rows)

    assert list(prefetched(Slow(2), gen_batches(20, 1))) == list(range(20))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_prefetched_reads_only_a_few_batches_ahead(n_threads):
    drawn = []
    batches = (drawn.append(rows) or rows for rows in gen_batches(20, 1))
    iterator = prefetched(Source(n_threads), batches)
    for n_used in range(1, 6):
        next(iterator)
        # One in use, and one ahead of each thread.
        assert len(drawn) == n_used + n_threads
    iterator.close()
    assert len(drawn) == 5 + n_threads


@pytest.mark.parametrize("n_threads", [1, 3])
def test_prefetched_raises_what_the_source_raises(n_threads):
    iterator = prefetched(Source(n_threads, bad=7), gen_batches(20, 1))
    assert [next(iterator) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="bad batch 7"):
        next(iterator)


def test_public_names_are_sorted():
    assert _inputs.__all__ == sorted(_inputs.__all__)
