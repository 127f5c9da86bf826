"""Labels of items: from CSV, NumPy and Parquet files, and from names of folders."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.preprocessing import MultiLabelBinarizer

from skhash._cli._files import load_npy
from skhash._cli._parquet import read_label_columns
from skhash._images import walk_images

__all__ = [
    "LabelledImages",
    "Labels",
    "NamedLabels",
    "labels_of_folders",
    "read_labelled_images",
    "read_labels",
    "read_labels_of",
]

_SEPARATORS = (";", "|")


class NamedLabels(np.ndarray):
    """An indicator matrix whose columns have names, as hashers read those of a data frame."""

    columns = None

    @classmethod
    def of(cls, matrix, names):
        """Return a matrix with names."""
        named = np.asarray(matrix, dtype=np.uint8).view(cls)
        named.columns = list(names)
        return named

    def __array_finalize__(self, source):
        self.columns = getattr(source, "columns", None)


@dataclass
class Labels:
    """Labels, and of what they are.

    Parameters
    ----------
    y : ndarray of shape (n_samples,), or NamedLabels of shape (n_samples, n_labels)
        Class labels, or label sets.

    keys : list of str, default=None
        The items: files or ids. None: the labels are in the order of the rows.

    source : str, default="The labels"
        What errors call them.
    """

    y: np.ndarray
    keys: list | None = None
    source: str = "The labels"

    def of(self, ids, n_samples):
        """Return the labels of items.

        Parameters
        ----------
        ids : sequence or None
            Ids of the items; None: their order is that of the labels.

        n_samples : int
            Number of items.

        Returns
        -------
        y : ndarray
            Labels of these items.

        Raises
        ------
        ValueError
            If an item has no labels, or there are no ids, and other numbers of both.
        """
        if self.keys is not None and ids is not None:
            rows = {key: row for row, key in enumerate(self.keys)}
            texts = [str(name) for name in ids]
            missing = [text for text in texts if text not in rows]
            if not missing:
                return self.y[[rows[text] for text in texts]]
            raise ValueError(
                f"{self.source} has no labels of {len(missing)} of {len(texts)} items, such as "
                f"{missing[0]!r}; it has some of {self.keys[0]!r}."
            )
        if len(self.y) != n_samples:
            raise ValueError(
                f"{self.source} has labels of {len(self.y)} items, while there are {n_samples}."
            )
        return self.y

    def sets(self):
        """Return the labels of each item as a set of names, by key or else by row."""
        if self.y.ndim == 1:
            found = [frozenset([str(name)]) for name in self.y]
        else:
            names = np.array(self.names(), dtype=object)
            found = [frozenset(names[row]) for row in np.asarray(self.y, dtype=bool)]
        return dict(zip(self.keys or range(len(found)), found, strict=True))

    def names(self):
        """Return the names of all labels."""
        if self.y.ndim == 1:
            return sorted({str(name) for name in self.y})
        columns = getattr(self.y, "columns", None)
        return list(columns or map(str, range(self.y.shape[1])))


@dataclass
class LabelledImages:
    """Image files below a folder that have labels.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files.

    keys : list of str
        The files, relative to the folder.

    y : ndarray of shape (n_samples,), or NamedLabels of shape (n_samples, n_labels)
        Their labels.

    n_found : int
        Number of images in the folder.

    n_unlabelled : int
        How many of them have no labels.
    """

    paths: list
    keys: list
    y: np.ndarray
    n_found: int
    n_unlabelled: int


def read_labelled_images(folder, path=None):
    """Find the images of a folder that have labels.

    Parameters
    ----------
    folder : str or path-like
        The folder.

    path : str or path-like, default=None
        A file, as :func:`read_labels` takes it. None: the first folder of each image is its class.

    Returns
    -------
    images : LabelledImages
        The images, in the order of the labels.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or an image that it has labels of.

    NotADirectoryError
        If there is no such folder.

    ValueError
        If there are no images or no labels, or they do not fit.
    """
    found = {key: Path(image) for key, image in walk_images(folder)}
    labels = labels_of_folders(list(found)) if path is None else read_labels(path)
    y, keys = labels.y, labels.keys
    if keys is None:
        y, keys = labels.of(None, len(found)), list(found)
    paths = [found.get(key, Path(folder) / key) for key in keys]
    missing = [key for key, image in zip(keys, paths, strict=True) if not image.is_file()]
    if missing:
        raise FileNotFoundError(
            2,
            f"{len(missing)} of {len(paths)} files of {labels.source} are not in {folder}",
            missing[0],
        )
    return LabelledImages(paths, keys, y, len(found), len(found.keys() - set(keys)))


def read_labels(path):
    """Read labels.

    Parameters
    ----------
    path : str or path-like
        A CSV file of a line for each item: the item, and either a column of 0 and 1 for each
        label, or one column of names, of which several are separated by ``;`` or ``|``. Or a
        ``.npy`` file of an indicator matrix or of class labels. Or a Parquet file.

    Returns
    -------
    labels : Labels
        The labels.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it holds no labels.
    """
    path = Path(path)
    if path.suffix == ".npy":
        return Labels(_of_array(load_npy(path), path), None, str(path))
    if path.suffix in (".parquet", ".pq"):
        keys, names, columns = read_label_columns(path)
    else:
        keys, names, columns = _read_csv(path)
    _check_once(keys, path)
    # One column names labels, several are labels.
    y = _of_names(columns[0]) if len(columns) == 1 else _of_columns(names, columns, path)
    return Labels(y, keys, str(path))


def _of_array(array, path):
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{path} should hold an indicator matrix or 1D class labels, got shape {array.shape}."
        )
    if array.ndim == 1:
        return np.asarray(array)
    return NamedLabels.of(_checked_bits(array, path), map(str, range(array.shape[1])))


def _checked_bits(array, path):
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{path} should be an indicator matrix of 0 and 1, got other values.")
    return array


def _read_csv(path):
    """Return items, names of label columns and these columns of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} should be a CSV file in UTF-8: {error}.") from error
    if len(lines) < 2 or len(lines[0]) < 2:
        raise ValueError(
            f"{path} should have a line of column names, the file first and then the labels, and "
            f"a line for each file; got {len(lines)} lines"
            + (f", the first of which is {','.join(lines[0])!r}." if lines else ".")
        )
    header, *rows = lines
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: expected {len(header)} columns, as in the first line, "
                f"got {len(row)}. Names of several labels in one column go with ';' or '|'."
            )
    keys, *columns = (list(map(str.strip, column)) for column in zip(*rows, strict=True))
    if all(value in ("0", "1") for value in header[1:]):
        raise ValueError(
            f"{path} should have names of columns in its first line, got {','.join(header)!r}."
        )
    return keys, [name.strip() for name in header[1:]], columns


def _check_once(keys, path):
    """Raise if an item has two lines."""
    if keys is None or len(set(keys)) == len(keys):
        return
    seen = set()
    twice = next(key for key in keys if key in seen or seen.add(key))
    raise ValueError(f"{path} has more than one line for {twice!r}. Several labels go in one.")


def _of_names(values):
    """Return class labels where each item has one, else label sets."""
    if any(isinstance(value, (list, tuple)) for value in values):
        sets = [set(map(str, value or ())) for value in values]
    else:
        sets = [_split("" if value is None else str(value)) for value in values]
        if all(len(names) == 1 for names in sets):
            return np.array([next(iter(names)) for names in sets])
    names = sorted(set().union(*sets))
    if not names:
        raise ValueError("The column of labels names none. An item needs a label at least.")
    return NamedLabels.of(MultiLabelBinarizer(classes=names).fit_transform(sets), names)


def _split(text):
    """Return the names in a text."""
    for separator in _SEPARATORS[1:]:
        text = text.replace(separator, _SEPARATORS[0])
    return {name.strip() for name in text.split(_SEPARATORS[0])} - {""}


def _of_columns(names, columns, path):
    """Return an indicator matrix of columns of 0 and 1."""
    for name, column in zip(names, columns, strict=True):
        for number, value in enumerate(column, 2):
            if str(value) not in ("0", "1", "True", "False", "0.0", "1.0"):
                raise ValueError(
                    f"{path}, line {number}: column {name!r} should be 0 or 1, got {value!r}. "
                    "Names of labels go in a single column."
                )
    if len(set(names)) < len(names):
        raise ValueError(f"{path} has two columns of one name: {', '.join(names)}.")
    ones = ("1", "True", "1.0")
    matrix = [[str(value) in ones for value in column] for column in columns]
    return NamedLabels.of(np.array(matrix).T, names)


def labels_of_folders(keys):
    """Return the name of the first folder of each file as its class.

    Parameters
    ----------
    keys : list of str
        Files, relative to the folder of all.

    Returns
    -------
    labels : Labels
        The labels.

    Raises
    ------
    ValueError
        If a file is in no folder.
    """
    loose = [key for key in keys if "/" not in key]
    if loose:
        raise ValueError(
            f"{len(loose)} of {len(keys)} images, such as {loose[0]!r}, are in no sub-folder, "
            "whose name would be their label. Give labels with --labels."
        )
    return Labels(np.array([key.partition("/")[0] for key in keys]), keys, "The folder")


def read_labels_of(ids, path):
    """Read labels of items that may have ids.

    Parameters
    ----------
    ids : ndarray of shape (n_samples,) or None
        Ids of the items.

    path : str
        A file, as :func:`read_labels` takes it, or "folders": the first folder of each id.

    Returns
    -------
    labels : Labels
        The labels.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it holds no labels, or ids have no folders.
    """
    if path != "folders":
        return read_labels(path)
    if ids is None:
        raise ValueError("The codes have no ids, whose folders would be labels.")
    return labels_of_folders([str(key) for key in ids])
