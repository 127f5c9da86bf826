"""Files of data sets: where they are, whether they are whole, and images decoded."""

import io
import os
from numbers import Integral
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import get_data_home

from skhash._images import read_rgb
from skhash._io import replaced_file
from skhash._sklearn import Interval

__all__ = [
    "LAYOUT_CONSTRAINTS",
    "check_images",
    "decode_images",
    "find_folder",
    "read_lines",
    "read_text",
    "take_images",
]

# What all readers of official layouts take.
LAYOUT_CONSTRAINTS = {
    "path": [str, os.PathLike, None],
    "image_size": [Interval(Integral, 1, None, closed="left"), None],
    "cache": [str, os.PathLike, None],
    "n_jobs": [Integral, None],
}
# Images decoded by one task, and written at once.
_CHUNK_IMAGES = 500


def find_folder(path, prefix, name, where_to_get):
    """Return the folder of a data set.

    Parameters
    ----------
    path : str, path-like or None
        The folder. None looks for one in the folder that SKHASH_DATA names, or in scikit-learn's
        data home.

    prefix : str
        What its name begins with there, in small letters; case does not count.

    name : str
        Name of the data set.

    where_to_get : str
        Sentences that say where to get it, and how to unpack it.

    Returns
    -------
    folder : pathlib.Path
        The folder.

    Raises
    ------
    FileNotFoundError
        If there is none.

    NotADirectoryError
        If it is a file.
    """
    if path is None:
        home = Path(os.environ.get("SKHASH_DATA") or get_data_home())
        named = (folder for folder in home.glob("*") if folder.name.lower().startswith(prefix))
        path = next((folder for folder in sorted(named) if folder.is_dir()), home / prefix)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{name} is not at {path}. {where_to_get}")
    if not path.is_dir():
        raise NotADirectoryError(
            f"{path} should be the folder of {name}, got a file. {where_to_get}"
        )
    return path


def read_text(file, what, where_to_get):
    """Return the text of a file, or raise saying `what` it should be and where to get it."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{file} should be {what}. {where_to_get}") from error


def read_lines(file, what, where_to_get):
    """Return the lines of a file that are not blank, without space around them."""
    lines = [line.strip() for line in read_text(file, what, where_to_get).splitlines()]
    return [line for line in lines if line]


def check_images(folder, names):
    """Raise unless a folder holds all images.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.

    names : sequence of str
        Paths of the images below it, with ``/``.

    Raises
    ------
    FileNotFoundError
        If one is missing.
    """
    # One walk: to ask for each file takes minutes on a network disk.
    held = {
        (Path(where) / file).relative_to(folder).as_posix()
        for where, _, files in os.walk(folder)
        for file in files
    }
    missing = [name for name in names if name not in held]
    if missing:
        raise FileNotFoundError(
            f"{folder} should hold {len(names)} images, got {len(names) - len(missing)} of them "
            f"({missing[0]} lacks)."
        )


def take_images(files, ids, *, image_size, cache, n_jobs, name):
    """Return paths of images, or the images decoded, as `image_size` says.

    Parameters
    ----------
    files : list of pathlib.Path
        The files.

    ids : sequence
        What an error calls each image.

    image_size, cache, n_jobs
        As the readers of data sets take them.

    name : str
        Name of the data set.

    Returns
    -------
    images : ndarray of str, or ndarray or memmap of shape (n, image_size, image_size, 3)
        Paths or pixels.

    Raises
    ------
    ValueError
        If `cache` is given without `image_size`, or an image cannot be decoded.
    """
    if image_size is not None:
        return decode_images(files, ids, image_size, cache, n_jobs, name=name)
    if cache is not None:
        raise ValueError(
            "image_size should be an int with a cache; image_size=None gives the paths of the "
            f"images, got cache={str(cache)!r}."
        )
    return np.array([str(file) for file in files])


def decode_images(files, ids, size, cache, n_jobs, *, name):
    """Return the images decoded into memory, or memory-mapped from the cache."""
    shape = (len(files), size, size, 3)
    if cache is None:
        images = np.empty(shape, np.uint8)
        _decode_all(files, ids, images, n_jobs, name)
        return images
    cache = Path(cache)
    if not cache.exists():
        _write_cache(cache, files, ids, shape, n_jobs, name)
    try:
        # numpy.load would take what is no .npy file for a pickle.
        images = np.lib.format.open_memmap(cache, mode="r")
    except ValueError as error:
        raise ValueError(
            f"The cache {cache} is not a whole .npy file. Delete it or name another."
        ) from error
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(
            f"The cache {cache} should hold uint8 images of shape {shape}, got {images.dtype} of "
            f"shape {images.shape}. Delete it or name another."
        )
    return images


def _write_cache(cache, files, ids, shape, n_jobs, name):
    """Decode the images into the file `cache`."""
    with replaced_file(cache) as beside:
        images = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _decode_all(files, ids, images, n_jobs, name)
        images.flush()
        # Windows renames no file that is mapped.
        del images


def _decode_all(files, ids, images, n_jobs, name):
    """Decode all files into `images`, in threads."""

    def decode(start):
        for i in range(start, min(start + _CHUNK_IMAGES, len(files))):
            images[i] = _decode(files[i], ids[i], images.shape[1:3], name)

    starts = range(0, len(files), _CHUNK_IMAGES)
    Parallel(n_jobs=n_jobs, prefer="threads", require="sharedmem")(
        delayed(decode)(start) for start in starts
    )


def _decode(file, image_id, size, name):
    """Return one image as RGB (height, width, 3), resized whole."""
    from PIL import Image

    is_path = isinstance(file, Path)
    try:
        image = Image.fromarray(read_rgb(file if is_path else io.BytesIO(file)))
    except ValueError as error:
        place = f" ({file})" if is_path else ""
        raise ValueError(f"Image {image_id} of {name} {error}{place}.") from error
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)
