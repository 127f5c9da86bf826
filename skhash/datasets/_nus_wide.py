"""NUS-WIDE, in its official layout."""

from pathlib import PurePosixPath

import numpy as np
from sklearn.utils import Bunch

from skhash._sklearn import Options, validate_params
from skhash.datasets._files import (
    LAYOUT_CONSTRAINTS,
    check_images,
    find_folder,
    read_lines,
    read_text,
    take_images,
)

__all__ = ["fetch_nus_wide"]

_N_LABELS = 81
_N_FREQUENT = 21
_PARTS = ("train", "test")
_WHERE_TO_GET = (
    "Get Groundtruth, ImageList and the images (Flickr) of NUS-WIDE from "
    "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html and "
    "unpack all into one folder."
)
_DESCR = """NUS-WIDE

269,648 photographs from Flickr and 81 concepts, several to a photograph, judged by people.

T.-S. Chua, J. Tang, R. Hong, H. Li, Z. Luo, Y. Zheng, "NUS-WIDE: a real-world web image database
from National University of Singapore", CIVR 2009.
"""


@validate_params(
    {**LAYOUT_CONSTRAINTS, "n_labels": [Options(int, {_N_FREQUENT, _N_LABELS})]},
    prefer_skip_nested_validation=True,
)
def fetch_nus_wide(path=None, *, n_labels=81, image_size=None, cache=None, n_jobs=None):
    """Load NUS-WIDE: 269,648 photographs with 81 labels.

    Nothing is downloaded.

    Parameters
    ----------
    path : str or path-like, default=None
        The folder of the official archives, unpacked: ``Groundtruth/AllLabels/Labels_*.txt``,
        ``ImageList/Imagelist.txt``, ``TrainImagelist.txt`` and ``TestImagelist.txt``, and the
        images in ``Flickr/``. None means the first folder whose name begins with
        ``nus-wide``, in any case, in the folder that the environment variable SKHASH_DATA names,
        or, where that is not set, in scikit-learn's data home.

    n_labels : {81, 21}, default=81
        81: all labels, and all images, of which some have no label. 21: the 21 labels that most
        images have, as much of the literature takes them, and the images that have one of these.

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
        image_size, 3), uint8, upright; `target`, indicator ndarray of shape (n_samples,
        n_labels), uint8; `target_names`, ndarray of n_labels str, sorted; `image_id`, ndarray of
        str, the paths in the image list; `train` and `test`, ndarrays of int, the rows of the
        official split; `DESCR`, str.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or lists, labels or images lack.

    NotADirectoryError
        If `path` is a file.

    ValueError
        If a file of labels does not hold a 0 or 1 for each image of the list, a list of the split
        names other images, an image cannot be decoded, the cache is damaged or of another size,
        or `image_size` is None with a cache.

    Notes
    -----
    The order of rows is that of ``Imagelist.txt``. The files of ``TrainTestLabels`` repeat those
    of ``AllLabels`` in two parts and are not read.

    References
    ----------
    T.-S. Chua, J. Tang, R. Hong, H. Li, Z. Luo, Y. Zheng, "NUS-WIDE: a real-world web image
    database from National University of Singapore", CIVR 2009.

    Examples
    --------
    >>> from skhash.datasets import fetch_nus_wide
    >>> data = fetch_nus_wide("NUS-WIDE/", n_labels=21)  # doctest: +SKIP
    >>> data.target.shape  # doctest: +SKIP
    (195834, 21)
    """
    folder = find_folder(path, "nus-wide", "NUS-WIDE", _WHERE_TO_GET)
    names = _read_list(folder, "Imagelist.txt")
    split = {part: _read_list(folder, f"{part.title()}Imagelist.txt") for part in _PARTS}
    labels, target = _read_labels(folder, len(names))
    rows = np.arange(len(names))
    if n_labels == _N_FREQUENT:
        columns = np.sort(
            np.argsort(-target.sum(axis=0, dtype=np.int64), kind="stable")[:n_labels]
        )
        labels, target = labels[columns], target[:, columns]
        rows = np.flatnonzero(target.any(axis=1))
    ids = np.array(names)[rows]
    check_images(folder / "Flickr", ids.tolist())
    files = [folder / "Flickr" / PurePosixPath(name) for name in ids.tolist()]
    parts = _rows_of_parts(folder, names, split)
    return Bunch(
        images=take_images(
            files, ids, image_size=image_size, cache=cache, n_jobs=n_jobs, name="NUS-WIDE"
        ),
        target=target[rows],
        target_names=labels,
        image_id=ids,
        # Where the images that stay are, of each part.
        **{part: np.flatnonzero(np.isin(rows, parts[part])) for part in _PARTS},
        DESCR=_DESCR,
    )


def _read_list(folder, name):
    """Return the images of a list, with ``/``."""
    file = folder / "ImageList" / name
    lines = read_lines(file, "a list of images, one a line", _WHERE_TO_GET)
    return [line.replace("\\", "/") for line in lines]


def _read_labels(folder, n_images):
    """Return names of labels, in their order, and the indicators."""
    place = folder / "Groundtruth" / "AllLabels"
    files = {file.stem.removeprefix("Labels_"): file for file in place.glob("Labels_*.txt")}
    if len(files) != _N_LABELS:
        raise FileNotFoundError(
            f"{place} should hold {_N_LABELS} files Labels_*.txt, got {len(files)}. "
            f"{_WHERE_TO_GET}"
        )
    target = np.empty((n_images, len(files)), np.uint8)
    names = sorted(files)
    for column, name in enumerate(names):
        target[:, column] = _read_column(files[name], n_images)
    return np.array(names), target


def _read_column(file, n_images):
    """Return what a file of labels says of each image."""
    values = np.array(read_text(file, "labels", _WHERE_TO_GET).split())
    if len(values) != n_images or not np.isin(values, ("0", "1")).all():
        wrong = sorted(set(values.tolist()) - {"0", "1"})
        got = f"{len(values)} values" + (f", {wrong[0]!r} among them" if wrong else "")
        raise ValueError(
            f"{file} should hold a 0 or 1 for each of the {n_images} images of Imagelist.txt, "
            f"got {got}."
        )
    return values == "1"


def _rows_of_parts(folder, names, split):
    """Return the rows of the images of each part of the official split."""
    row_of = {name: row for row, name in enumerate(names)}
    rows = {}
    for part, members in split.items():
        unknown = [name for name in members if name not in row_of]
        if unknown:
            raise ValueError(
                f"{folder / 'ImageList' / f'{part.title()}Imagelist.txt'} should name images of "
                f"Imagelist.txt, got {unknown[0]!r}."
            )
        rows[part] = [row_of[name] for name in members]
    return rows
