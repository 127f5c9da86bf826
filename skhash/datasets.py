"""Data sets of images with label sets, and their split for retrieval."""

import io
import os
from itertools import pairwise
from numbers import Integral
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import get_data_home, load_digits
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import _num_samples

__all__ = ["fetch_mirflickr25k", "make_digit_scenes", "retrieval_split"]

_N_MIRFLICKR = 25_000
_PACK_ARRAYS = ("image_id", "jpeg", "label_names", "labels", "offsets")
_WHERE_TO_GET = (
    "Get mirflickr25k_v3b.zip (or mirflickr25k.zip) and mirflickr25k_annotations_v080.zip from "
    "https://press.liacs.nl/mirflickr/, unpack both into one folder and pass it as `path`, or "
    "name it in the environment variable SKHASH_MIRFLICKR25K."
)
# Images decoded by one task, and written at once.
_CHUNK_IMAGES = 500


@validate_params(
    {
        "path": [str, os.PathLike, None],
        "image_size": [Interval(Integral, 1, None, closed="left")],
        "cache": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def fetch_mirflickr25k(path=None, *, image_size=128, cache=None, n_jobs=None):
    """Load MIRFLICKR-25K: 25,000 photographs with 38 labels.

    Nothing is downloaded. The labels are the 24 potential ones and the 14 relevant ones
    (suffix `_r1`), as the literature on multi-label hashing uses them; 419 images have none.

    Parameters
    ----------
    path : str or path-like, default=None
        Either the folder into which the official archives were unpacked (``im1.jpg`` to
        ``im25000.jpg`` and the annotation files, ``baby.txt`` and so on, at any depth), or a pack:
        an ``.npz`` file with the arrays `jpeg` (all files one after the other, uint8), `offsets`
        (25,001), `labels` (25,000 x 38), `label_names` and `image_id`. None means the value
        of the environment variable SKHASH_MIRFLICKR25K, else the folder `mirflickr25k` in
        scikit-learn's data home.

    image_size : int, default=128
        Whole images are resized to that many pixels a side.

    cache : str or path-like, default=None
        File (.npy) for the decoded images: written if it is absent, then memory-mapped
        read-only. None decodes into memory: 1.2 GB at 128 pixels.

    n_jobs : int, default=None
        Number of threads that decode, see :class:`joblib.Parallel`.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        `images`, ndarray or memmap of shape (25000, image_size, image_size, 3), uint8;
        `target`, indicator ndarray of shape (25000, 38), uint8; `target_names`, ndarray of 38
        str, sorted; `image_id`, ndarray of shape (25000,), the numbers in the file names.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or images or annotations lack. It says where to get them.

    ValueError
        If a pack lacks arrays or is damaged, an image cannot be decoded, or the cache is of
        another size.

    References
    ----------
    M. J. Huiskes, M. S. Lew, "The MIR Flickr retrieval evaluation", MIR 2008.

    Examples
    --------
    >>> from skhash.datasets import fetch_mirflickr25k
    >>> data = fetch_mirflickr25k("mirflickr/")  # doctest: +SKIP
    >>> data.images.shape, data.target.shape  # doctest: +SKIP
    ((25000, 128, 128, 3), (25000, 38))
    """
    path = _mirflickr_path(path)
    read = _read_folder if path.is_dir() else _read_pack
    data = read(path)
    data.images = _decoded_images(data.pop("files"), data.image_id, image_size, cache, n_jobs)
    return data


def _mirflickr_path(path):
    """Return where the data set is, or raise saying where to get it."""
    if path is None:
        path = os.environ.get("SKHASH_MIRFLICKR25K") or Path(get_data_home()) / "mirflickr25k"
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"MIRFLICKR-25K is not at {path}. {_WHERE_TO_GET}")
    return path


def _read_pack(path):
    """Read a pack; `files` are views of the encoded images."""
    try:
        with np.load(path, allow_pickle=False) as pack:
            arrays = {name: pack[name] for name in _PACK_ARRAYS if name in pack}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a readable .npz pack of MIRFLICKR-25K.") from error
    missing = sorted(set(_PACK_ARRAYS) - set(arrays))
    if missing:
        raise ValueError(
            f"{path} should hold the arrays {', '.join(_PACK_ARRAYS)}; {', '.join(missing)} lack."
        )
    offsets, labels, ids = arrays["offsets"], arrays["labels"], arrays["image_id"]
    if not len(offsets) - 1 == len(labels) == len(ids) or offsets[-1] != len(arrays["jpeg"]):
        raise ValueError(
            f"{path} is damaged: {len(offsets)} offsets up to {offsets[-1]}, {len(labels)} rows "
            f"of labels, {len(ids)} image numbers, {len(arrays['jpeg'])} bytes."
        )
    return Bunch(
        files=[arrays["jpeg"][start:stop] for start, stop in pairwise(offsets)],
        target=labels.astype(np.uint8),
        target_names=arrays["label_names"],
        image_id=ids,
    )


def _read_folder(folder):
    """Read the official layout; `files` are paths."""
    images = {int(f.stem[2:]): f for f in folder.rglob("im*.jpg") if f.stem[2:].isdigit()}
    ids = np.arange(1, _N_MIRFLICKR + 1)
    missing = [i for i in ids if i not in images]
    if missing:
        raise FileNotFoundError(
            f"{folder} should hold im1.jpg to im{_N_MIRFLICKR}.jpg, got {len(images)} images "
            f"(im{missing[0]}.jpg lacks). {_WHERE_TO_GET}"
        )
    annotations = {f.stem: f for f in folder.rglob("*.txt") if _is_annotation(f)}
    if not annotations:
        raise FileNotFoundError(
            f"{folder} holds the images, but no annotation files such as baby.txt. {_WHERE_TO_GET}"
        )
    names = np.array(sorted(annotations))
    target = np.zeros((len(ids), len(names)), np.uint8)
    for column, name in enumerate(names):
        numbers = np.loadtxt(annotations[name], dtype=np.int64, ndmin=1)
        target[numbers - 1, column] = 1
    return Bunch(files=[images[i] for i in ids], target=target, target_names=names, image_id=ids)


def _is_annotation(file):
    """Whether a text file lists image numbers, as annotations do and readme, tags, EXIF do not."""
    with file.open(errors="replace") as lines:
        return next(lines, "").strip().isdigit()


def _decoded_images(files, ids, size, cache, n_jobs):
    """Return the images decoded into memory, or memory-mapped from the cache."""
    shape = (len(files), size, size, 3)
    if cache is None:
        images = np.empty(shape, np.uint8)
        _decode_all(files, ids, images, n_jobs)
        return images
    cache = Path(cache)
    if not cache.exists():
        # Under its own name only once it is whole.
        partial = cache.with_suffix(".part")
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        _decode_all(files, ids, images, n_jobs)
        images.flush()
        partial.replace(cache)
    images = np.load(cache, mmap_mode="r")
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(
            f"The cache {cache} should hold uint8 images of shape {shape}, got {images.dtype} of "
            f"shape {images.shape}. Delete it or name another."
        )
    return images


def _decode_all(files, ids, images, n_jobs):
    """Decode all files into `images`, in threads."""

    def decode(start):
        for i in range(start, min(start + _CHUNK_IMAGES, len(files))):
            images[i] = _decode(files[i], ids[i], images.shape[1:3])

    starts = range(0, len(files), _CHUNK_IMAGES)
    Parallel(n_jobs=n_jobs, prefer="threads", require="sharedmem")(
        delayed(decode)(start) for start in starts
    )


def _decode(file, image_id, size):
    """Return one image as RGB (height, width, 3), resized whole."""
    from PIL import Image, UnidentifiedImageError

    source = file if isinstance(file, Path) else io.BytesIO(file)
    try:
        with Image.open(source) as image:
            image = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"Image {image_id} of MIRFLICKR-25K cannot be decoded.") from error
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "image_size": [Interval(Integral, 16, None, closed="left")],
        "max_digits": [Interval(Integral, 1, 10, closed="both")],
        "return_X_y": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_digit_scenes(
    n_samples=3000, *, image_size=32, max_digits=4, return_X_y=False, random_state=None
):
    """Compose scenes of handwritten digits, with the set of digits shown as labels.

    Each scene shows 1 to `max_digits` different digits, from scikit-learn's bundled data set
    (8 x 8 pixels), each in its own bright colour at a random place, on a dark noisy ground.
    Later digits may cover a part of earlier ones. Nothing is downloaded.

    Parameters
    ----------
    n_samples : int, default=3000
        Number of scenes.

    image_size : int, default=32
        Height and width of a scene in pixels, at least 16.

    max_digits : int, default=4
        Most digits in a scene; how many it shows is drawn uniformly.

    return_X_y : bool, default=False
        Return ``(images, target)`` instead of a Bunch.

    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        `images`, ndarray of shape (n_samples, image_size, image_size, 3), uint8;
        `target`, indicator ndarray of shape (n_samples, 10), uint8; `target_names`, the digits.

    Notes
    -----
    Scenes share the 1,797 digits: one may be in several scenes, each time at another place and in
    another colour.

    Examples
    --------
    >>> from skhash.datasets import make_digit_scenes
    >>> scenes = make_digit_scenes(n_samples=5, random_state=0)
    >>> scenes.images.shape, scenes.target.shape
    ((5, 32, 32, 3), (5, 10))
    """
    rng = check_random_state(random_state)
    digits = load_digits()
    of_class = [np.flatnonzero(digits.target == label) for label in range(10)]
    ink = digits.images.astype(np.float32) / 16
    images = rng.normal(30, 12, (n_samples, image_size, image_size, 3)).astype(np.float32)
    target = np.zeros((n_samples, 10), np.uint8)
    for scene, labels in zip(images, target, strict=True):
        for label in rng.choice(10, rng.randint(1, max_digits + 1), replace=False):
            labels[label] = 1
            _draw(scene, ink[rng.choice(of_class[label])], rng)
    images = images.clip(0, 255).astype(np.uint8)
    if return_X_y:
        return images, target
    return Bunch(images=images, target=target, target_names=digits.target_names)


def _draw(scene, ink, rng):
    """Draw a digit into a scene, in place, at a random place and in a random bright colour."""
    height, width = ink.shape
    top, left = rng.randint(0, np.subtract(scene.shape[:2], ink.shape) + 1)
    colour = rng.uniform(60, 255, 3)
    colour[rng.randint(3)] = 255
    patch = scene[top : top + height, left : left + width]
    patch += ink[:, :, None] * (colour - patch)


@validate_params(
    {
        "n_samples": [Interval(Integral, 2, None, closed="left"), "array-like", "sparse matrix"],
        "n_queries": [Interval(Integral, 1, None, closed="left")],
        "n_train": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def retrieval_split(n_samples, *, n_queries, n_train=None, random_state=None):
    """Split samples into queries and database, and draw a training set from the database.

    Parameters
    ----------
    n_samples : int or array-like of shape (n_samples, ...)
        Number of samples, or the samples or labels themselves.

    n_queries : int
        Number of queries, drawn at random. The rest is the database.

    n_train : int, default=None
        Number of training samples, drawn at random from the database; None takes all of it.

    random_state : int, RandomState instance or None, default=None
        Decides the split.

    Returns
    -------
    split : :class:`~sklearn.utils.Bunch`
        Sorted row numbers `query`, `database` and `train`. No query is in the other two.

    Raises
    ------
    ValueError
        If there are not more samples than queries, or fewer in the database than `n_train`.

    Examples
    --------
    >>> from skhash.datasets import retrieval_split
    >>> split = retrieval_split(100, n_queries=10, n_train=50, random_state=0)
    >>> len(split.query), len(split.database), len(split.train)
    (10, 90, 50)
    """
    n_samples = n_samples if isinstance(n_samples, Integral) else _num_samples(n_samples)
    if n_queries >= n_samples:
        raise ValueError(
            "n_queries should be less than n_samples, so that a database is left; got "
            f"n_queries={n_queries}, n_samples={n_samples}."
        )
    n_database = n_samples - n_queries
    if n_train is not None and n_train > n_database:
        raise ValueError(
            f"n_train should be at most n_samples - n_queries={n_database}, got n_train={n_train}."
        )
    order = check_random_state(random_state).permutation(n_samples)
    query, database = order[:n_queries], order[n_queries:]
    # The database is in random order, so that its head is a random subset.
    return Bunch(
        query=np.sort(query), database=np.sort(database), train=np.sort(database[:n_train])
    )
