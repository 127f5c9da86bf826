"""Data sets of images with label sets, and their split for retrieval."""

import io
import math
import os
import zipfile
import zlib
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import get_data_home, load_digits
from sklearn.utils import Bunch, check_random_state

from skhash._images import read_rgb
from skhash._io import replaced_file
from skhash._sklearn import Interval, StrOptions, num_samples, validate_params

__all__ = ["fetch_mirflickr25k", "make_digit_scenes", "retrieval_split"]

_N_MIRFLICKR = 25_000
# fmt: off
_POTENTIAL_LABELS = [
    "animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor",
    "lake", "male", "night", "people", "plant_life", "portrait", "river", "sea", "sky",
    "structures", "sunset", "transport", "tree", "water",
]
_RELEVANT_LABELS = [
    "baby_r1", "bird_r1", "car_r1", "clouds_r1", "dog_r1", "female_r1", "flower_r1", "male_r1",
    "night_r1", "people_r1", "portrait_r1", "river_r1", "sea_r1", "tree_r1",
]
# fmt: on
_MIRFLICKR_LABELS = sorted(_POTENTIAL_LABELS + _RELEVANT_LABELS)
_PACK_ARRAYS = ("image_id", "jpeg", "label_names", "labels", "offsets")
_WHERE_TO_GET = (
    "Get mirflickr25k_v3b.zip (or mirflickr25k.zip) and mirflickr25k_annotations_v080.zip from "
    "https://press.liacs.nl/mirflickr/, unpack both into one folder and pass it as `path`, or "
    "call it mirflickr25k and name the folder that holds it in the environment variable "
    "SKHASH_DATA."
)
_MIRFLICKR_DESCR = """MIRFLICKR-25K

25,000 photographs from Flickr and 38 labels, several to a photograph: 24 concepts that may be
visible ("potential" labels) and, for 14 of them, whether they are what the photograph is about
("relevant" labels, suffix _r1). Each photograph is under a Creative Commons licence of its
author's choice. https://press.liacs.nl/mirflickr/

M. J. Huiskes, M. S. Lew, "The MIR Flickr retrieval evaluation", MIR 2008.
"""
_SCENES_DESCR = """Scenes of handwritten digits

Small RGB images, each composed of a few handwritten digits at random places and in random
colours. The labels of a scene are the set of digits it shows. The digits are scikit-learn's
(sklearn.datasets.load_digits), from the UCI Machine Learning Repository.
"""
# Images decoded by one task, and written at once.
_CHUNK_IMAGES = 500


@validate_params(
    {
        "path": [str, os.PathLike, None],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
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
        (25,001), `labels` (25,000 x 38), `label_names` and `image_id`. None means the first
        folder or ``.npz`` named ``mirflickr25k*`` in the folder that the environment variable
        SKHASH_DATA names, or, where that is not set, in scikit-learn's data home.

    image_size : int or None, default=128
        Whole images are resized to that many pixels a side. None, for a folder only, decodes
        nothing and gives the paths of the images.

    cache : str or path-like, default=None
        File (.npy) for the decoded images: written if it is absent, then memory-mapped
        read-only. It is told from the cache of other images by its shape alone. None decodes
        into memory: 1.2 GB at 128 pixels, growing with the square of `image_size`.

    n_jobs : int, default=None
        Number of threads that decode, see :class:`joblib.Parallel`.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        `images`, ndarray or memmap of shape (25000, image_size, image_size, 3), uint8, upright, or
        ndarray of 25,000 path strings if `image_size` is None; `target`, indicator ndarray of
        shape (25000, 38), uint8; `target_names`, ndarray of 38 str, sorted; `image_id`, ndarray
        of shape (25000,), the numbers in the file names; `DESCR`, str.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or images or annotations lack. It says where to get them.

    ValueError
        If a pack lacks arrays or is damaged, an annotation file is not a list of image numbers,
        an image cannot be decoded, the cache is damaged or of another size, or `image_size` is
        None for a pack or with a cache.

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
    is_folder = path.is_dir()
    if image_size is None and (cache is not None or not is_folder):
        raise ValueError(
            "image_size should be an int with a pack or a cache; image_size=None gives the paths "
            f"of the images in a folder, got path={str(path)!r}, cache={cache!r}."
        )
    data = _read_folder(path) if is_folder else _read_pack(path)
    files = data.pop("files")
    if image_size is None:
        data.images = np.array([str(file) for file in files])
    else:
        data.images = _decoded_images(files, data.image_id, image_size, cache, n_jobs)
    data.DESCR = _MIRFLICKR_DESCR
    return data


def _mirflickr_path(path):
    """Return where the data set is, or raise saying where to get it."""
    if path is not None:
        path = Path(path)
    else:
        home = Path(os.environ.get("SKHASH_DATA") or get_data_home())
        found = sorted(f for f in home.glob("mirflickr25k*") if f.is_dir() or f.suffix == ".npz")
        path = found[0] if found else home / "mirflickr25k"
    if not path.exists():
        raise FileNotFoundError(f"MIRFLICKR-25K is not at {path}. {_WHERE_TO_GET}")
    return path


def _read_pack(path):
    """Read a pack; `files` are views of the encoded images."""
    arrays = _load_npz(path, _PACK_ARRAYS)
    _check_pack(path, **arrays)
    return Bunch(
        files=[arrays["jpeg"][start:stop] for start, stop in pairwise(arrays["offsets"])],
        target=arrays["labels"].astype(np.uint8),
        target_names=arrays["label_names"],
        image_id=arrays["image_id"],
    )


def _load_npz(path, names):
    """Return the named arrays of an .npz file, or raise saying what it holds instead."""
    # A .npy file loads too, but as an array, which is no context manager: TypeError.
    unreadable = (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)
    try:
        # numpy.load leaves a damaged file open that it has opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as pack:
            held = pack.files
            arrays = {name: pack[name] for name in names if name in held}
    except unreadable as error:
        raise ValueError(f"{path} is not a readable .npz pack of MIRFLICKR-25K.") from error
    if missing := sorted(set(names) - set(arrays)):
        some = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
        raise ValueError(
            f"{path} should hold the arrays {', '.join(names)}; {', '.join(missing)} lack, "
            f"got {some or 'none'}. An official archive is to be unpacked first."
        )
    return arrays


def _check_pack(path, *, image_id, jpeg, label_names, labels, offsets):
    """Raise if the arrays of a pack do not fit together."""
    n_images = len(image_id)
    if (
        offsets.shape != (n_images + 1,)
        or labels.shape != (n_images, len(label_names))
        or offsets[0] != 0
        or offsets[-1] != len(jpeg)
        or (np.diff(offsets) <= 0).any()
    ):
        raise ValueError(
            f"{path} is damaged: the offsets should be {n_images + 1} rising numbers from 0 to "
            f"{len(jpeg)} and the labels of shape ({n_images}, {len(label_names)}), for "
            f"{n_images} image numbers, {len(jpeg)} bytes and {len(label_names)} label names; got "
            f"offsets of shape {offsets.shape} and labels of shape {labels.shape}."
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{path} is damaged: labels should hold only 0 and 1.")


def _read_folder(folder):
    """Read the official layout; `files` are paths."""
    images = {int(f.stem[2:]): f for f in folder.rglob("im*.jpg") if f.stem[2:].isdecimal()}
    ids = np.arange(1, _N_MIRFLICKR + 1)
    missing = [i for i in ids if i not in images]
    if missing:
        raise FileNotFoundError(
            f"{folder} should hold im1.jpg to im{_N_MIRFLICKR}.jpg, got {len(images)} images "
            f"(im{missing[0]}.jpg lacks). {_WHERE_TO_GET}"
        )
    target = np.zeros((len(ids), len(_MIRFLICKR_LABELS)), np.uint8)
    for column, file in enumerate(_annotation_files(folder)):
        target[_read_annotation(file) - 1, column] = 1
    names = np.array(_MIRFLICKR_LABELS)
    return Bunch(files=[images[i] for i in ids], target=target, target_names=names, image_id=ids)


def _annotation_files(folder):
    """Return the files of the labels, in their order."""
    # By name: the image archive holds a text file of tags for every image, and readmes.
    texts = {f.stem: f for f in folder.rglob("*.txt")}
    missing = [name for name in _MIRFLICKR_LABELS if name not in texts]
    if missing:
        n_labels = len(_MIRFLICKR_LABELS)
        raise FileNotFoundError(
            f"{folder} holds the images, but should hold {n_labels} annotation files, got "
            f"{n_labels - len(missing)} ({missing[0]}.txt lacks). {_WHERE_TO_GET}"
        )
    return [texts[name] for name in _MIRFLICKR_LABELS]


def _read_annotation(file):
    """Return the image numbers that an annotation file lists."""
    lines = file.read_text(errors="replace").split()
    wrong = [n for n in lines if not (n.isdecimal() and 1 <= int(n) <= _N_MIRFLICKR)]
    if wrong:
        raise ValueError(
            f"{file} should list image numbers from 1 to {_N_MIRFLICKR}, got {wrong[0]!r}."
        )
    return np.array(lines, dtype=np.int64)


def _decoded_images(files, ids, size, cache, n_jobs):
    """Return the images decoded into memory, or memory-mapped from the cache."""
    shape = (len(files), size, size, 3)
    if cache is None:
        images = np.empty(shape, np.uint8)
        _decode_all(files, ids, images, n_jobs)
        return images
    cache = Path(cache)
    if not cache.exists():
        _write_cache(cache, files, ids, shape, n_jobs)
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


def _write_cache(cache, files, ids, shape, n_jobs):
    """Decode the images into the file `cache`."""
    with replaced_file(cache) as beside:
        images = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _decode_all(files, ids, images, n_jobs)
        images.flush()
        # Windows renames no file that is mapped.
        del images


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
    from PIL import Image

    is_path = isinstance(file, Path)
    try:
        image = Image.fromarray(read_rgb(file if is_path else io.BytesIO(file)))
    except ValueError as error:
        place = f" ({file})" if is_path else ""
        raise ValueError(f"Image {image_id} of MIRFLICKR-25K {error}{place}.") from error
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "image_size": [Interval(Integral, 16, None, closed="left")],
        "max_digits": [Interval(Integral, 1, 10, closed="both")],
        "subset": [StrOptions({"all", "train", "test"})],
        "return_X_y": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_digit_scenes(
    n_samples=3000,
    *,
    image_size=32,
    max_digits=4,
    subset="all",
    return_X_y=False,
    random_state=None,
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

    subset : {"all", "train", "test"}, default="all"
        Handwritten digits to draw from: all 1,797, or the first ("train") or the second ("test")
        half of each class. The halves share no digit.

    return_X_y : bool, default=False
        Return ``(images, target)`` instead of a Bunch.

    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        `images`, ndarray of shape (n_samples, image_size, image_size, 3), uint8;
        `target`, indicator ndarray of shape (n_samples, 10), uint8; `target_names`, the digits;
        `DESCR`, str.

    Notes
    -----
    A handwritten digit may be in several scenes, each time at another place and in another
    colour. So if scenes of one call are split, queries show digits that training scenes show too.
    For scenes of unseen digits make the ones with ``subset="train"``, the others with
    ``subset="test"``.

    Examples
    --------
    >>> from skhash.datasets import make_digit_scenes
    >>> scenes = make_digit_scenes(n_samples=5, random_state=0)
    >>> scenes.images.shape, scenes.target.shape
    ((5, 32, 32, 3), (5, 10))
    """
    rng = check_random_state(random_state)
    digits = load_digits()
    of_class = _digits_of_class(digits.target, subset)
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
    return Bunch(
        images=images, target=target, target_names=digits.target_names, DESCR=_SCENES_DESCR
    )


def _digits_of_class(classes, subset):
    """Return the row numbers of a subset of the digits, an array for each class."""
    of_class = [np.flatnonzero(classes == label) for label in range(10)]
    if subset == "all":
        return of_class
    # Neighbouring rows are often by one writer; halves share fewer writers than alternate rows.
    return [np.array_split(rows, 2)[subset == "test"] for rows in of_class]


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
        "n_queries": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "n_train": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            None,
        ],
        "train_in_database": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def retrieval_split(
    n_samples, *, n_queries, n_train=None, train_in_database=True, random_state=None
):
    """Split samples into queries, training set and database.

    By default the training set is drawn from the database, as in most papers. There a hasher is
    scored, in part or in whole, on how it ranks samples whose labels it has seen. With
    ``train_in_database=False`` the three parts are disjoint: what is ranked was never seen.

    Parameters
    ----------
    n_samples : int or array-like of shape (n_samples, ...)
        Number of samples, or the samples or labels themselves.

    n_queries : int or float
        Number of queries, drawn at random, or, as a float between 0 and 1, their share of the
        samples, rounded up.

    n_train : int or float, default=None
        Number of training samples, drawn at random from those that are no queries, or their share
        of these, rounded up. None takes all of them, or half if they are not in the database.

    train_in_database : bool, default=True
        Whether the database is all that is no query. If not, it is what is no training sample
        either.

    random_state : int, RandomState instance or None, default=None
        Decides the split.

    Returns
    -------
    split : :class:`~sklearn.utils.Bunch`
        Sorted row numbers `query`, `database` and `train`. No query is in the other two.

    Raises
    ------
    ValueError
        If there are not more samples than queries, or `n_train` leaves no database.

    Examples
    --------
    >>> from skhash.datasets import retrieval_split
    >>> split = retrieval_split(100, n_queries=10, n_train=50, random_state=0)
    >>> len(split.query), len(split.database), len(split.train)
    (10, 90, 50)
    >>> split = retrieval_split(100, n_queries=10, train_in_database=False, random_state=0)
    >>> len(split.query), len(split.database), len(split.train)
    (10, 45, 45)
    """
    n_samples = n_samples if isinstance(n_samples, Integral) else num_samples(n_samples)
    n_queries = _count(n_queries, n_samples)
    if n_queries >= n_samples:
        raise ValueError(
            "n_queries should be less than n_samples, so that a database is left; got "
            f"n_queries={n_queries}, n_samples={n_samples}."
        )
    n_others = n_samples - n_queries
    if n_train is None:
        n_train = n_others if train_in_database else n_others // 2
    n_train = _count(n_train, n_others)
    most = n_others if train_in_database else n_others - 1
    if not 1 <= n_train <= most:
        raise ValueError(
            f"n_train should be from 1 to {most}, with {n_others} samples that are no queries and "
            f"train_in_database={train_in_database}; got n_train={n_train}."
        )
    order = check_random_state(random_state).permutation(n_samples)
    # They are in random order, so that the head of the others is a random subset.
    query, train, others = np.split(order, [n_queries, n_queries + n_train])
    database = order[n_queries:] if train_in_database else others
    return Bunch(query=np.sort(query), database=np.sort(database), train=np.sort(train))


def _count(number, n_samples):
    """Return a number of samples that is given as one, or as a share that is rounded up."""
    return number if isinstance(number, Integral) else math.ceil(number * n_samples)
