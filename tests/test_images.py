"""Every reader of images reads every kind of file in one way, or says why it does not."""

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from skhash.datasets import fetch_mirflickr25k
from skhash.deep._inputs import ImageFiles, ImageSequence
from skhash.metrics import RetrievalDisplay
from skhash.utils import find_unreadable_images

SIZE = 16
RGB = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
GREY_RGB = np.stack([GREY] * 3, axis=2)
# What orientation says: how stored pixels are turned to stand upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


# Readers: the pixels (height, width, 3) that are made of a file.


def read_files(path):
    return ImageFiles([path], (SIZE, SIZE)).batch([0])[0].permute(1, 2, 0).numpy()


def read_data_set(path):
    class Opened:
        def __len__(self):
            return 1

        def __getitem__(self, row):
            return Image.open(io.BytesIO(Path(path).read_bytes())), "label"

    return ImageSequence(Opened(), (SIZE, SIZE)).batch([0])[0].permute(1, 2, 0).numpy()


def read_pack(path):
    data = Path(path).read_bytes()
    pack = Path(path).parent / "pack.npz"
    np.savez(
        pack,
        jpeg=np.frombuffer(data, np.uint8),
        offsets=np.array([0, len(data)]),
        labels=np.ones((1, 1), np.uint8),
        label_names=np.array(["sea"]),
        image_id=np.array([1]),
    )
    return fetch_mirflickr25k(pack, image_size=SIZE).images[0]


def read_display(path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib import pyplot as plt

    display = RetrievalDisplay([str(path)], [["sea"]], [[]], np.zeros((1, 0)), [[]]).plot()
    shown = np.asarray(display.axes_[0, 0].images[0].get_array())
    plt.close(display.figure_)
    return shown


READERS = [read_files, read_data_set, read_pack, read_display]
readers = pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__[5:])


# Files: how one is written, and what is to be read.


def saved(pixels, name, mode=None, **params):
    """Return what writes pixels as a file."""

    def write(folder):
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image = image if mode is None else image.convert(mode)
        image.save(folder / name, **params)
        return folder / name

    return write


def written(data, name):
    """Return what writes bytes as a file."""

    def write(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return write


def tiff(data, *, bits, white=1, sample_format=1):
    """Bytes of a grey TIFF file as cameras and microscopes write them."""
    tags = {256: SIZE, 257: SIZE, 258: bits, 259: 1, 262: white, 273: 8, 277: 1, 278: SIZE}
    tags |= {279: len(data), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    return head + struct.pack("<H", len(tags)) + entries + bytes(4)


def pgm(values, white):
    return f"P5 {SIZE} {SIZE} {white}\n".encode() + values.astype(">u2").tobytes()


def packed_12_bits(values):
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
    return np.packbits(bits[:, 4:]).tobytes()


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


DEEP = GREY.astype(np.uint16) * 256 + 77
PALETTE = Image.fromarray(RGB).quantize(16)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))
CMYK = Image.fromarray(RGB).convert("CMYK")
ALPHA = np.arange(SIZE**2, dtype=np.uint8).reshape(SIZE, SIZE)
BLACK_OR_WHITE = (GREY_RGB > 127).astype(np.uint8) * 255
LOSSLESS = {
    "png": {},
    "webp": {"lossless": True},
    "tiff": {},
    "lzw.tiff": {"compression": "tiff_lzw"},
}

READ = {
    "1-bit": (saved(BLACK_OR_WHITE, "a.png", "1"), BLACK_OR_WHITE),
    "grey": (saved(GREY, "a.png"), GREY_RGB),
    "grey with alpha": (saved(np.dstack([GREY, ALPHA]), "a.png"), GREY_RGB),
    "RGBA": (saved(np.dstack([RGB, ALPHA]), "a.png"), RGB),
    "RGBA of WebP": (saved(np.dstack([RGB, ALPHA | 1]), "a.webp", lossless=True), RGB),
    "palette": (saved(PALETTE, "a.png"), PALETTE_RGB),
    "palette with transparency": (saved(PALETTE, "a.png", transparency=b"\0\x10"), PALETTE_RGB),
    "CMYK": (saved(CMYK, "a.tiff"), np.asarray(CMYK.convert("RGB"))),
    "16-bit PNG": (saved(DEEP, "a.png"), GREY_RGB),
    "16-bit TIFF": (saved(DEEP, "a.tiff"), GREY_RGB),
    "16-bit TIFF, big-endian": (saved(DEEP.astype(">u2"), "a.tiff"), GREY_RGB),
    "16-bit TIFF, white is 0": (
        written(tiff((65535 - DEEP).tobytes(), bits=16, white=0), "a.tiff"),
        GREY_RGB,
    ),
    "12-bit TIFF": (written(tiff(packed_12_bits(DEEP >> 4), bits=12), "a.tiff"), GREY_RGB),
    "16-bit PGM": (written(pgm(DEEP, 65535), "a.pgm"), GREY_RGB),
    "10-bit PGM": (
        written(pgm(DEEP >> 6, 1023), "a.pgm"),
        np.stack([(DEEP >> 6) / 1023 * 65535 // 256] * 3, axis=2).astype(np.uint8),
    ),
    "GIF of two images": (
        saved(PALETTE, "a.gif", save_all=True, append_images=[PALETTE.rotate(90)]),
        PALETTE_RGB,
    ),
    "PNG of two images": (
        saved(RGB, "a.png", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        RGB,
    ),
    "TIFF of two pages": (
        saved(RGB, "a.tiff", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        RGB,
    ),
    "damaged EXIF": (saved(RGB, "a.png", exif=b"Exif\0\0no tags"), RGB),
    "unknown orientation": (saved(RGB, "a.png", exif=exif(99)), RGB),
    "JPEG named .png": (
        saved(Image.new("RGB", (SIZE, SIZE), (50, 50, 50)), "a.png", format="JPEG"),
        np.full_like(RGB, 50),
    ),
} | {
    f"orientation {orientation} of {ending}": (
        saved(RGB, f"a.{ending}", exif=exif(orientation), **params),
        upright(RGB),
    )
    for orientation, upright in UPRIGHT.items()
    for ending, params in LOSSLESS.items()
}

INT32, FLOATS = GREY.astype("<i4") * 2**23, GREY.astype("<f4") / 255
FLOATING, WIDE, SIGNED = "holds floating", "holds 32-bit or signed", "signed integers"
HEADER = {
    "0-to-1 TIFF": (saved(FLOATS, "a.tiff"), r"holds floating point numbers \(.*mode F\)"),
    "PFM": (written(b"Pf 16 16 -1.0\n" + FLOATS.tobytes(), "a.pfm"), FLOATING),
    "32-bit TIFF": (saved(INT32, "a.tiff"), WIDE),
    "unsigned 32-bit TIFF": (
        written(tiff(INT32.tobytes(), bits=32), "a.tiff"),
        r"holds 32-bit or signed integers \(Pillow's mode I\)",
    ),
    "signed 16-bit TIFF": (
        written(tiff(DEEP.tobytes(), bits=16, sample_format=2), "a.tiff"),
        SIGNED,
    ),
    "signed 8-bit TIFF": (
        written(tiff(GREY.tobytes(), bits=8, sample_format=2), "a.tiff"),
        SIGNED,
    ),
    "LAB TIFF": (saved(Image.new("LAB", (SIZE, SIZE)), "a.tiff"), r"colours in L\*a\*b\*"),
    "text": (written(b"no image", "a.jpg"), "cannot be decoded as an image"),
    "first bytes of a PNG": (written(b"\x89PNG\r\n\x1a\n", "a.png"), "cannot be decoded"),
}
CUT = {
    ending: (saved(RGB, f"a.{ending}", **params), "cannot be decoded as an image")
    for ending, params in {"png": {}, "jpg": {}, "webp": {}, "bmp": {}, "tiff": {}}.items()
}


@readers
@pytest.mark.parametrize("kind", READ)
def test_what_is_read(read, kind, tmp_path):
    write, expected = READ[kind]
    with warnings.catch_warnings():
        # What Pillow says of the odd one out is as good.
        warnings.simplefilter("error" if kind != "damaged EXIF" else "ignore")
        assert_array_equal(read(write(tmp_path)), expected)


@readers
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_a_jpeg(read, orientation, tmp_path):
    smooth = np.linspace(40, 200, SIZE**2 * 3).reshape(SIZE, SIZE, 3).astype(np.uint8)
    path = saved(smooth, "a.jpg", quality=95, exif=exif(orientation))(tmp_path)
    difference = read(path).astype(int) - UPRIGHT[orientation](smooth)
    assert np.abs(difference).max() < 12


@readers
@pytest.mark.parametrize("kind", HEADER)
def test_what_is_refused(read, kind, tmp_path):
    write, message = HEADER[kind]
    # What Pillow does not open it refuses itself, where a data set opens it.
    with pytest.raises((ValueError, OSError), match=f"{message}|cannot identify"):
        read(write(tmp_path))


@readers
@pytest.mark.parametrize("ending", CUT)
def test_a_file_that_was_cut_off_is_refused(read, ending, tmp_path):
    path = CUT[ending][0](tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    # Pillow may not open it at all, which it says to those who open it themselves.
    with pytest.raises((ValueError, OSError), match=r"(?i)decode|truncated|identify|read"):
        read(path)


@pytest.mark.parametrize("kind", HEADER)
def test_headers_tell_what_is_refused_before_work_starts(kind, tmp_path):
    write, message = HEADER[kind]
    with pytest.raises(ValueError, match=message) as error:
        ImageFiles([write(tmp_path)])
    assert str(tmp_path) in str(error.value)


def test_sideways_photograph_gets_its_size_from_its_orientation(tmp_path):
    path = saved(RGB[:8], "a.png", exif=exif(6))(tmp_path)
    batch = ImageFiles([path], (16, 8)).batch([0])
    assert_array_equal(batch[0].permute(1, 2, 0), UPRIGHT[6](RGB[:8]))
    assert ImageSequence([Image.open(path)]).native_size == (16, 8)


# Files that are looked at before.


@pytest.fixture
def mixed(tmp_path):
    """Paths of files, and what is wrong with some of them."""
    folder = tmp_path / "folder"
    folder.mkdir()
    cut = saved(RGB, "cut.png")(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-100])
    paths = [saved(RGB, f"{i}.png")(tmp_path) for i in range(3)]
    paths[1:1] = [
        tmp_path / "absent.png",
        folder,
        written(b"", "empty.png")(tmp_path),
        written(b"no image", "text.png")(tmp_path),
        cut,
    ]
    faults = {1: "does not exist", 2: "is a folder", 3: "is empty", 4: "cannot be decoded"}
    return paths, faults, {5: "cannot be decoded as an image"}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("decode", [True, False])
def test_unreadable_images_are_found(mixed, decode, n_jobs):
    paths, of_header, of_content = mixed
    expected = of_header | (of_content if decode else {})
    faults = find_unreadable_images(paths, decode=decode, n_jobs=n_jobs)
    assert list(faults) == list(expected)
    for row, phrase in expected.items():
        assert faults[row].startswith(phrase)


def test_unreadable_images_are_found_among_many(tmp_path):
    path = saved(RGB, "a.png")(tmp_path)
    paths = [path] * 1000
    paths[700] = tmp_path / "absent.png"
    assert find_unreadable_images(paths, decode=False, n_jobs=4) == {700: "does not exist"}
    assert find_unreadable_images([]) == {}
    with pytest.raises(ValueError, match=r"alone: pass \[path\]"):
        find_unreadable_images(str(path))


def test_error_says_how_many_files_are_unreadable(mixed):
    paths, of_header, _ = mixed
    with pytest.raises(FileNotFoundError, match=r"X\[1\] is the file .*absent\.png") as error:
        ImageFiles(paths)
    assert f"{len(of_header) - 1} more cannot be read: X[2], X[3], X[4]." in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"6 more .*: X\[1\], .*, X\[5\], \.\.\."):
        ImageFiles(paths[1:2] * 7)


def test_a_pipe_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png, which is no regular file"):
        ImageFiles([tmp_path / "pipe.png"])
