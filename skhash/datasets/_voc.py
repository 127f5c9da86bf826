"""PASCAL VOC 2007 and 2012, in their official layout."""

from itertools import chain

import numpy as np
from sklearn.utils import Bunch

from skhash._sklearn import Options, validate_params
from skhash.datasets._files import (
    LAYOUT_CONSTRAINTS,
    check_images,
    find_folder,
    read_lines,
    take_images,
)

__all__ = ["fetch_voc"]

_WHERE_TO_GET = (
    "Get VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar, or "
    "VOCtrainval_11-May-2012.tar, from http://host.robots.ox.ac.uk/pascal/VOC/ and unpack them "
    "into one folder."
)
# fmt: off
_NAMES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
]
# fmt: on
_ABSENT, _DIFFICULT, _PRESENT = "-1", "0", "1"
_DESCR = """PASCAL VOC

Photographs from Flickr and the kinds of objects, of 20, that they show.

M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman, "The PASCAL visual object
classes (VOC) challenge", IJCV 2010.
"""


@validate_params(
    {**LAYOUT_CONSTRAINTS, "year": [Options(int, {2007, 2012})], "difficult": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def fetch_voc(path=None, *, year=2007, difficult=False, image_size=None, cache=None, n_jobs=None):
    """Load PASCAL VOC 2007 or 2012: photographs with the 20 kinds of objects they show.

    Nothing is downloaded. With its test set, 2007 has 9,963 images; 2012 has 11,540 in trainval,
    and the labels of its test set were never published.

    Parameters
    ----------
    path : str or path-like, default=None
        The folder into which the official archives were unpacked, that is the one that holds
        ``VOCdevkit/``; or this, or ``VOC2007/`` in it. Read are ``ImageSets/Main/*.txt`` and
        ``JPEGImages/``. None means the first folder whose name begins with ``voc``, in any case,
        in the folder that the environment variable SKHASH_DATA names, or, where that is not set,
        in scikit-learn's data home.

    year : {2007, 2012}, default=2007
        Which of them.

    difficult : bool, default=False
        Whether an image has a label where all objects of the kind are marked as difficult (0 in
        the official files). The official evaluation leaves such an image out for that label alone,
        which a ranking by shared labels cannot. They are objects that people hardly recognise.

    image_size : int or None, default=None
        Whole images are resized to that many pixels a side. None decodes nothing and gives the
        paths of the images.

    cache : str or path-like, default=None
        File (.npy) for the decoded images: written if it is absent, then memory-mapped
        read-only. It is told from the cache of other images by its shape alone. None decodes
        into memory.

    n_jobs : int, default=None
        Number of threads that decode, see :class:`joblib.Parallel`.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        `images`, ndarray of path strings, or ndarray or memmap of shape (n_samples, image_size,
        image_size, 3), uint8, upright, first those of trainval, then, for 2007 and where they were
        unpacked, those of test; `target`, indicator ndarray of shape (n_samples, 20), uint8;
        `target_names`, ndarray of 20 str, sorted; `image_id`, ndarray of str, the names of the
        files without their suffix; `train`, `val` and `test`, ndarrays of int, the rows of the
        official split, none of test where it is not there; `DESCR`, str.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or lists of images, labels or images lack.

    NotADirectoryError
        If `path` is a file.

    ValueError
        If a file of labels does not hold an image and -1, 0 or 1 in each line, in the order of
        the list of images; train or val name other images than trainval; an image cannot be
        decoded, the cache is damaged or of another size, or `image_size` is None with a cache.

    References
    ----------
    M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman, "The PASCAL visual
    object classes (VOC) challenge", IJCV 2010.

    Examples
    --------
    >>> from skhash.datasets import fetch_voc
    >>> data = fetch_voc("VOC/", year=2007)  # doctest: +SKIP
    >>> data.target.shape, len(data.test)  # doctest: +SKIP
    ((9963, 20), 4952)
    """
    folder = _find_year(find_folder(path, "voc", "PASCAL VOC", _WHERE_TO_GET), year)
    lists = folder / "ImageSets" / "Main"
    sets = ["trainval"]
    if year == 2007 and (lists / "test.txt").is_file():
        sets.append("test")
    ids = [_read_names(lists / f"{part}.txt") for part in sets]
    is_present = (_PRESENT, _DIFFICULT) if difficult else (_PRESENT,)
    target = [
        _read_labels(lists, part, names, is_present) for part, names in zip(sets, ids, strict=True)
    ]
    names = list(chain.from_iterable(ids))
    check_images(folder / "JPEGImages", [f"{name}.jpg" for name in names])
    files = [folder / "JPEGImages" / f"{name}.jpg" for name in names]
    return Bunch(
        images=take_images(
            files, names, image_size=image_size, cache=cache, n_jobs=n_jobs, name=f"VOC {year}"
        ),
        target=np.concatenate(target),
        target_names=np.array(_NAMES),
        image_id=np.array(names),
        train=_rows(lists / "train.txt", ids[0]),
        val=_rows(lists / "val.txt", ids[0]),
        test=np.arange(len(ids[0]), len(names)),
        DESCR=_DESCR,
    )


def _find_year(folder, year):
    """Return the folder of a year, which may be given, or that of the kit, or what holds this."""
    name = f"VOC{year}"
    for place in (folder / "VOCdevkit" / name, folder / name, folder):
        if (place / "ImageSets").is_dir() and place.resolve().name == name:
            return place
    raise FileNotFoundError(
        f"{folder} should hold VOCdevkit/{name}/ImageSets/Main, got none. {_WHERE_TO_GET}"
    )


def _read_names(file):
    """Return the images of a list."""
    return read_lines(file, "a list of images, one a line", _WHERE_TO_GET)


def _read_labels(lists, part, names, is_present):
    """Return label indicators of the images of a part."""
    target = np.empty((len(names), len(_NAMES)), np.uint8)
    for column, label in enumerate(_NAMES):
        file = lists / f"{label}_{part}.txt"
        what = "a list of images with -1, 0 or 1, one a line"
        lines = [line.split() for line in read_lines(file, what, _WHERE_TO_GET)]
        _check_labels(file, lines, names)
        target[:, column] = [value in is_present for _, value in lines]
    return target


def _check_labels(file, lines, names):
    """Raise unless lines are an image and a value each, of these images."""
    values = (_ABSENT, _DIFFICULT, _PRESENT)
    for number, line in enumerate(lines, 1):
        if len(line) != 2 or line[1] not in values:
            raise ValueError(
                f"{file}, line {number}, should be an image and -1, 0 or 1, got "
                f"{' '.join(line)!r}."
            )
    if [line[0] for line in lines] != names:
        raise ValueError(
            f"{file} should name the {len(names)} images of {file.stem.split('_')[-1]}.txt in "
            f"their order, got {len(lines)} images or another order."
        )


def _rows(file, names):
    """Return the rows of the images of a list."""
    row_of = {name: row for row, name in enumerate(names)}
    members = _read_names(file)
    unknown = [name for name in members if name not in row_of]
    if unknown:
        raise ValueError(f"{file} should name images of trainval.txt, got {unknown[0]!r}.")
    return np.array([row_of[name] for name in members], dtype=np.int64)
