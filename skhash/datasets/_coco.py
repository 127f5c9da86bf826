"""MS-COCO, in its official layout."""

import json
from itertools import chain

import numpy as np
from sklearn.utils import Bunch

from skhash._sklearn import Options, validate_params
from skhash.datasets._files import (
    LAYOUT_CONSTRAINTS,
    check_images,
    find_folder,
    read_text,
    take_images,
)

__all__ = ["fetch_coco"]

_WHERE_TO_GET = (
    "Get the train and val images of one year and their annotations from "
    "https://cocodataset.org/#download and unpack all into one folder."
)
_DESCR = """MS-COCO

Photographs of everyday scenes. The labels of one are the kinds of objects, of 80, that are marked
in it.

T.-Y. Lin, M. Maire, S. Belongie, et al., "Microsoft COCO: common objects in context", ECCV 2014.
"""


@validate_params(
    {**LAYOUT_CONSTRAINTS, "year": [Options(int, {2014, 2017})]},
    prefer_skip_nested_validation=True,
)
def fetch_coco(path=None, *, year=2014, image_size=None, cache=None, n_jobs=None):
    """Load MS-COCO: 123,287 photographs with the 80 kinds of objects they show.

    Nothing is downloaded.

    Parameters
    ----------
    path : str or path-like, default=None
        The folder of the official archives, unpacked: ``annotations/instances_train2014.json`` and
        ``instances_val2014.json``, and the images in ``train2014/`` and ``val2014/``; or those of
        2017. None means the first folder whose name begins with ``coco``, in any case, in the
        folder that the environment variable SKHASH_DATA names, or, where that is not set, in
        scikit-learn's data home.

    year : {2014, 2017}, default=2014
        Which split into train and val. The images of both years are the same, but for five.

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
        image_size, 3), uint8, upright, first those of train, then those of val, each by
        their number; `target`, indicator ndarray of shape (n_samples, 80), uint8, 1 where an
        object of the kind is marked, also as one of a crowd; `target_names`, ndarray of 80 str,
        in the order of the official numbers; `image_id`, ndarray of int, the official numbers;
        `train` and `val`, ndarrays of int, the rows of each; `DESCR`, str.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or annotations or images lack.

    NotADirectoryError
        If `path` is a file.

    ValueError
        If a file of annotations is no JSON, lacks what it should hold, or names other images or
        kinds; an image cannot be decoded, the cache is damaged or of another size, or
        `image_size` is None with a cache.

    Notes
    -----
    Images without a marked object have no label. The annotations, polygons among them, are read as
    a whole: that takes some gigabytes of memory for a while.

    References
    ----------
    T.-Y. Lin, M. Maire, S. Belongie, et al., "Microsoft COCO: common objects in context",
    ECCV 2014.

    Examples
    --------
    >>> from skhash.datasets import fetch_coco
    >>> data = fetch_coco("coco/", year=2017)  # doctest: +SKIP
    >>> data.target.shape, len(data.val)  # doctest: +SKIP
    ((123287, 80), 5000)
    """
    folder = find_folder(path, "coco", "MS-COCO", _WHERE_TO_GET)
    parts = [_read_part(folder, f"{part}{year}") for part in ("train", "val")]
    names = parts[0].target_names
    if parts[1].target_names != names:
        raise ValueError(
            f"{folder / 'annotations'} should hold the same categories for train{year} and "
            f"val{year}, got {len(names)} and {len(parts[1].target_names)}, or other ones."
        )
    ids = np.concatenate([part.image_id for part in parts])
    files = list(chain.from_iterable(part.files for part in parts))
    n_train = len(parts[0].image_id)
    return Bunch(
        images=take_images(
            files, ids, image_size=image_size, cache=cache, n_jobs=n_jobs, name="MS-COCO"
        ),
        target=np.concatenate([part.target for part in parts]),
        target_names=np.array(names),
        image_id=ids,
        train=np.arange(n_train),
        val=np.arange(n_train, len(ids)),
        DESCR=_DESCR,
    )


def _read_part(folder, part):
    """Return files, numbers and labels of the images of a part, such as "train2014"."""
    file = folder / "annotations" / f"instances_{part}.json"
    images, kinds, pairs = _read_annotations(file)
    ids = sorted(images)
    rows = {number: row for row, number in enumerate(ids)}
    columns = {number: column for column, number in enumerate(sorted(kinds))}
    target = np.zeros((len(ids), len(kinds)), np.uint8)
    for image, kind in pairs:
        if image not in rows or kind not in columns:
            raise ValueError(
                f"{file} should annotate images and categories that it lists, got image {image} "
                f"and category {kind}."
            )
        target[rows[image], columns[kind]] = 1
    names = [images[number] for number in ids]
    check_images(folder / part, names)
    return Bunch(
        files=[folder / part / name for name in names],
        image_id=np.array(ids, dtype=np.int64),
        target=target,
        target_names=[kinds[number] for number in sorted(kinds)],
    )


def _read_annotations(file):
    """Return names of images and of kinds by number, and pairs of both that are marked."""
    what = "the annotations of objects, a JSON file"
    text = read_text(file, what, _WHERE_TO_GET)
    try:
        data = json.loads(text)
        images = {int(entry["id"]): str(entry["file_name"]) for entry in data["images"]}
        kinds = {int(entry["id"]): str(entry["name"]) for entry in data["categories"]}
        pairs = {(entry["image_id"], entry["category_id"]) for entry in data["annotations"]}
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} should be {what}, got none: {error}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} should hold lists 'images' (id, file_name), 'categories' (id, name) and "
            f"'annotations' (image_id, category_id), got none or others: {error!r}."
        ) from error
    return images, kinds, pairs
