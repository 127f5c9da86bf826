"""MIRFLICKR-25K, from its official archives or a pack."""

import os
import zipfile
import zlib
from itertools import pairwise
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from skhash._sklearn import Interval, validate_params
from skhash.datasets._files import decode_images

__all__ = ["fetch_mirflickr25k"]

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
        data.images = decode_images(
            files, data.image_id, image_size, cache, n_jobs, name="MIRFLICKR-25K"
        )
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
