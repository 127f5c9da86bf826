"""Image files, found in folders and read as RGB pixels: here, in one way for all of skhash."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

__all__ = [
    "as_rgb",
    "find_faults",
    "is_image",
    "is_pixels",
    "read_file",
    "read_rgb",
    "walk_images",
]

# What Pillow calls pixels whose white is not known, or that it cannot convert.
_REFUSED = {
    "F": "floating point numbers",
    "I": "32-bit or signed integers",
    "LAB": "colours in L*a*b*",
}
# The tags of TIFF, and of EXIF, that say how pixels are to be taken.
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
# What makes an image upright, by its orientation.
_TRANSPOSES = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# What Pillow opens without a decoder of its own.
_NOT_DECODED = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
# Files that one task of a thread looks at.
_TASK_FILES = 256


def walk_images(folder):
    """Yield the image files of a folder and of the folders in it, by name.

    Files count by their suffix, in capitals or not: those of the formats that Pillow decodes.
    Names that start with a point do not, nor do links to folders.

    Parameters
    ----------
    folder : str or path-like
        The folder.

    Yields
    ------
    id, path : str
        A file, relative to the folder with "/" between names, and as it is opened.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.

    ValueError
        If there is no image in it, in the end.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 (as paths are joined)
        raise NotADirectoryError(20, "There is no such folder", os.fspath(folder))
    found = None
    for found in _walk(folder, "", _image_suffixes()):
        yield found
    if found is None:
        raise ValueError(
            f"{os.fspath(folder)} has no images: files of a format that Pillow reads, such as "
            ".jpg, .png or .webp, whose names do not start with a point."
        )


def _walk(folder, inner, suffixes):
    """Yield the ids and paths of files that have these suffixes; `inner` begins their ids."""
    with os.scandir(folder) as entries:
        found = sorted(
            (entry.name, entry.is_dir())
            for entry in entries
            if not (entry.name.startswith(".") or (entry.is_symlink() and entry.is_dir()))
        )
    for name, is_folder in found:
        path = os.path.join(folder, name)  # noqa: PTH118 (of many files)
        if is_folder:
            yield from _walk(path, f"{inner}{name}/", suffixes)
        elif os.path.splitext(name)[1].lower() in suffixes:  # noqa: PTH122
            yield inner + name, path


def _image_suffixes():
    """Return the suffixes of the files that Pillow decodes."""
    from PIL import Image

    kinds = Image.registered_extensions()
    decoded = Image.OPEN.keys() - _NOT_DECODED
    return {suffix for suffix, kind in kinds.items() if kind in decoded}


def read_rgb(file):
    """Return the image of a file, upright, as RGB.

    Parameters
    ----------
    file : str, path-like or binary file
        Of any format that Pillow reads. Of an animation the first image counts.

    Returns
    -------
    pixels : ndarray of shape (height, width, 3), dtype uint8
        Turned as the EXIF orientation says. Grey of 16 bits is scaled to 8, transparency dropped.

    Raises
    ------
    ValueError
        If the file is not one whole image, or its pixels are of a kind that has no known white.
        The message says of the file what it "is", "holds" or that it "cannot", without naming it.
    """
    with _open(file) as image:
        _check_pixels(image)
        try:
            return _upright(image)
        # Decoders meet damaged data with errors of any type.
        except Exception as error:
            raise ValueError(f"cannot be decoded as an image: {_reason(error)}") from error


def read_file(path):
    """Return the image of a file of which nothing is known, as `read_rgb` does.

    Parameters
    ----------
    path : str
        The file. What is no regular file, or empty, is not opened.

    Returns
    -------
    pixels : ndarray of shape (height, width, 3), dtype uint8
        Upright, RGB.

    Raises
    ------
    ValueError
        If the file cannot be read, with the phrase that `find_faults` has for it.
    """
    if fault := _fault_of_kind(path):
        raise ValueError(fault)
    return read_rgb(path)


def as_rgb(image):
    """Return an image of Pillow, upright, as `read_rgb` returns that of a file."""
    _check_pixels(image)
    return _upright(image)


def _upright(image):
    """Return an image as RGB, turned as its orientation says."""
    from PIL import Image

    # Only then is all known that the file says: PNG may name the orientation at its end.
    image.load()
    transpose = _TRANSPOSES.get(_orientation(image))
    image = _in_rgb(image)
    if transpose is not None:
        image = image.transpose(Image.Transpose[transpose])
    return np.array(image)


def is_image(value):
    """Whether this is an image of Pillow."""
    from PIL import Image

    return isinstance(value, Image.Image)


def is_pixels(value):
    """Whether this has the three dimensions of one image."""
    return getattr(value, "ndim", None) == 3


def find_faults(paths, *, decode=False, n_threads=1):
    """Return what keeps files from being read as images.

    Parameters
    ----------
    paths : sequence of str
        Files.

    decode : bool, default=False
        Whether to decode them. If not, a file is looked at as far as its header goes: whether
        it is there, is empty, and is an image of a kind that can be read.

    n_threads : int, default=1
        Number of threads.

    Returns
    -------
    faults : dict of int to str
        By the row of a file, in ascending order, a phrase such as "does not exist".
    """

    def look(start):
        rows = range(start, min(start + _TASK_FILES, len(paths)))
        found = ((row, _fault(paths[row], decode)) for row in rows)
        return [(row, fault) for row, fault in found if fault is not None]

    with ThreadPoolExecutor(n_threads) as pool:
        tasks = pool.map(look, range(0, len(paths), _TASK_FILES))
        return {row: fault for found in tasks for row, fault in found}


def _fault(path, decode):
    """Return what is wrong with a file, or None."""
    if fault := _fault_of_kind(path):
        return fault
    try:
        if decode:
            read_rgb(path)
        else:
            with _open(path) as image:
                _check_pixels(image)
    except ValueError as error:
        return str(error)
    return None


def _fault_of_kind(path):
    """Return what is wrong with a file as far as shows without opening it, or None."""
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be opened: {_reason(error)}"
    # To open a pipe would wait for its other end.
    if not stat.S_ISREG(status.st_mode):
        return "is a folder" if stat.S_ISDIR(status.st_mode) else "is no regular file"
    return "is empty" if status.st_size == 0 else None


def _open(file):
    """Open a file as an image of Pillow, of which the header is read."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        raise ValueError(
            "cannot be decoded as an image: it is of no format that Pillow knows, or damaged"
        ) from error
    except Exception as error:
        raise ValueError(f"cannot be decoded as an image: {_reason(error)}") from error


def _reason(error):
    """Return what an error says, its type if it says nothing."""
    return str(error).strip().removesuffix(".") or type(error).__name__


def _check_pixels(image):
    """Raise if the pixels of an image are of a kind of which the range is not known."""
    # Pillow scales integers of PGM to 16 bits, whatever the file says is white.
    is_pgm = image.mode == "I" and image.format == "PPM"
    what = None if is_pgm else _REFUSED.get(image.mode)
    if what is None and _SIGNED in (_tiff_tag(image, _SAMPLE_FORMAT) or ()):
        what = "signed integers"
    if what is not None:
        raise ValueError(
            f"holds {what} (Pillow's mode {image.mode}), which do not say what is black and "
            "what is white: write it with 8 or 16 bits a channel"
        )


def _tiff_tag(image, tag):
    """Return a tag of a TIFF file, or None."""
    return image.tag_v2.get(tag) if image.format == "TIFF" else None


def _orientation(image):
    """Return the EXIF orientation of an image, or None."""
    try:
        return image.getexif().get(_ORIENTATION)
    # Pixels are whole where the notes beside them are damaged.
    except Exception:
        return None


def _in_rgb(image):
    """Convert to RGB what Pillow would clip, 16-bit grey, or warn of, palettes with alpha."""
    from PIL import Image

    if image.mode.startswith("I"):
        n_bits = 12 if _tiff_tag(image, _BITS) == (12,) else 16
        grey = (np.asarray(image) >> (n_bits - 8)).astype(np.uint8)
        if _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
            grey = 255 - grey
        image = Image.fromarray(grey)
    if image.mode == "P":
        image = image.convert("RGBA")
    return image.convert("RGB")
