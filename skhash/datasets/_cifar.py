"""CIFAR-10, in its official layouts."""

import io
import pickle

import numpy as np
from sklearn.utils import Bunch

from skhash._sklearn import validate_params
from skhash.datasets._files import LAYOUT_CONSTRAINTS, find_folder, read_lines

__all__ = ["fetch_cifar10"]

_SIDE = 32
_N_VALUES = 3 * _SIDE * _SIDE
_N_CLASSES = 10
_BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_WHERE_TO_GET = (
    "Get cifar-10-python.tar.gz or cifar-10-binary.tar.gz from "
    "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it."
)
_DESCR = """CIFAR-10

60,000 images of 32 x 32 pixels, each of one of ten classes.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""


@validate_params({"path": LAYOUT_CONSTRAINTS["path"]}, prefer_skip_nested_validation=True)
def fetch_cifar10(path=None):
    """Load CIFAR-10: 60,000 images of 32 x 32 pixels in ten classes.

    Nothing is downloaded. The pickled files of the Python version are read without running code:
    a file that holds anything but arrays, lists, strings and numbers is refused.

    Parameters
    ----------
    path : str or path-like, default=None
        The folder of an official archive, unpacked, ``cifar-10-batches-py/`` or
        ``cifar-10-batches-bin/``, or the one that holds it. None means the first folder whose
        name begins with ``cifar-10-``, in any case, in the folder that the environment variable
        SKHASH_DATA names, or, where that is not set, in scikit-learn's data home.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        `images`, ndarray of shape (60000, 32, 32, 3), uint8; `target`, indicator ndarray of shape
        (60000, 10), uint8, a single 1 in each row; `target_names`, ndarray of 10 str; `train` and
        `test`, ndarrays of int, the rows of the official split, 50,000 and 10,000; `DESCR`, str.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or a file lacks.

    NotADirectoryError
        If `path` is a file.

    ValueError
        If a file is damaged, holds something else, or as many images as no other batch.

    References
    ----------
    A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Examples
    --------
    >>> from skhash.datasets import fetch_cifar10
    >>> data = fetch_cifar10("cifar-10-batches-py/")  # doctest: +SKIP
    >>> data.images.shape, len(data.test)  # doctest: +SKIP
    ((60000, 32, 32, 3), 10000)
    """
    folder = _find_version(find_folder(path, "cifar-10-", "CIFAR-10", _WHERE_TO_GET))
    is_binary = (folder / "batches.meta.txt").is_file()
    read, suffix = (_read_binary, ".bin") if is_binary else (_read_pickled, "")
    files = [folder / f"{name}{suffix}" for name in _BATCHES]
    batches = [read(file) for file in files]
    _check_sizes(files, [len(classes) for _, classes in batches])
    classes = np.concatenate([classes for _, classes in batches])
    n_train = len(classes) - len(batches[-1][1])
    return Bunch(
        images=np.concatenate([images for images, _ in batches]),
        target=(classes[:, None] == np.arange(_N_CLASSES)).astype(np.uint8),
        target_names=_read_names(folder, is_binary),
        train=np.arange(n_train),
        test=np.arange(n_train, len(classes)),
        DESCR=_DESCR,
    )


def _find_version(folder):
    """Return the folder of the batches, which may be given or be in the given one."""
    for place in (folder, *(folder / name for name in _FOLDERS)):
        if (place / "batches.meta").is_file() or (place / "batches.meta.txt").is_file():
            return place
    raise FileNotFoundError(
        f"{folder} should hold batches.meta and data_batch_1 to data_batch_5, or their binary "
        f"version with batches.meta.txt, got neither. {_WHERE_TO_GET}"
    )


def _read_bytes(file):
    try:
        return file.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(
            f"{file} should be a batch of images, got no file. {_WHERE_TO_GET}"
        ) from error


def _read_binary(file):
    """Return images and classes of a binary batch: a byte of the class, then the pixels."""
    content = np.frombuffer(_read_bytes(file), np.uint8)
    if not len(content) or len(content) % (1 + _N_VALUES):
        raise ValueError(
            f"{file} should hold {1 + _N_VALUES} bytes for each image, got {len(content)} bytes."
        )
    records = content.reshape(-1, 1 + _N_VALUES)
    return _as_images(file, records[:, 1:], records[:, 0])


def _read_pickled(file):
    """Return images and classes of a pickled batch."""
    batch = _load_safely(file)
    data, classes = (batch.get(key) for key in ("data", "labels"))
    if not isinstance(data, np.ndarray) or not isinstance(classes, list):
        raise ValueError(
            f"{file} should hold an array 'data' and a list 'labels', got "
            f"{type(data).__name__} and {type(classes).__name__}."
        )
    is_fit = data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == _N_VALUES
    if not is_fit or not len(data) or len(classes) != len(data):
        raise ValueError(
            f"{file} should hold uint8 'data' of shape (n_images, {_N_VALUES}) and as many "
            f"'labels', got {data.dtype} of shape {data.shape} and {len(classes)} labels."
        )
    return _as_images(file, data, classes)


def _as_images(file, values, classes):
    """Return pixels with their channels last, and classes that are validated."""
    classes = np.array(classes)
    if classes.dtype.kind not in "iu" or not np.isin(classes, range(_N_CLASSES)).all():
        raise ValueError(f"{file} should hold classes from 0 to {_N_CLASSES - 1}, got others.")
    images = values.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), classes.astype(np.int64)


def _check_sizes(files, sizes):
    """Raise if a batch does not hold as many images as the others: its end may be missing."""
    usual = max(sizes, key=sizes.count)
    for file, size in zip(files, sizes, strict=True):
        if size != usual:
            raise ValueError(
                f"{file} should hold as many images as the other batches, {usual}, got {size}."
            )


def _read_names(folder, is_binary):
    """Return the names of the classes."""
    if is_binary:
        file = folder / "batches.meta.txt"
        names = read_lines(file, "the names of the classes", _WHERE_TO_GET)
    else:
        file = folder / "batches.meta"
        names = _load_safely(file).get("label_names")
    if not isinstance(names, list) or len(names) != _N_CLASSES:
        raise ValueError(f"{file} should hold the names of {_N_CLASSES} classes, got {names!r}.")
    return np.array([_as_text(name) for name in names])


class _SafeUnpickler(pickle.Unpickler):
    """Reads arrays, lists, dicts, strings and numbers, and nothing that could run code."""

    def find_class(self, module, name):
        """Return one of the few functions that arrays are made with, or raise."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not loaded")


def _encode(text, encoding):
    """Return text as bytes; of all codecs, pickles use but one."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it names the codec {encoding!r}, which is not loaded")
    return text.encode(encoding)


def _allowed():
    """Return by their names in a pickle what makes arrays, in old and new NumPy."""
    make_array = np.empty(0).__reduce__()[0]
    return {
        ("numpy.core.multiarray", "_reconstruct"): make_array,
        ("numpy._core.multiarray", "_reconstruct"): make_array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # Bytes, in pickles that Python 3 writes for Python 2.
        ("_codecs", "encode"): _encode,
    }


_ALLOWED = _allowed()


def _load_safely(file):
    """Return the dict of a pickled file, its keys as str."""
    content = _read_bytes(file)
    try:
        # The official files are of Python 2, whose strings are bytes.
        held = _SafeUnpickler(io.BytesIO(content), encoding="bytes").load()
    # A damaged pickle raises errors of any type.
    except Exception as error:
        raise ValueError(
            f"{file} should be a pickled batch of CIFAR-10, got another or damaged file: {error}."
        ) from error
    if not isinstance(held, dict):
        raise ValueError(f"{file} should hold a dict, got {type(held).__name__}.")
    return {_as_text(key): value for key, value in held.items()}


def _as_text(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
