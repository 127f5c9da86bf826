"""What X may be for a deep hasher, served as tensors a batch at a time."""

import os
from collections.abc import Mapping

import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms

from skhash._ahead import N_FILE_THREADS, map_ahead
from skhash._images import as_rgb, find_faults, is_image, is_pixels, read_file, read_rgb
from skhash._samples import is_lazy

__all__ = [
    "FeatureRows",
    "ImageArray",
    "ImageFiles",
    "ImageSequence",
    "flip_some",
    "prefetched",
    "read_images",
]


# Largest feature for which squares of what a network makes of it stay within float32.
_LARGEST = 2.0**50
# Rows that an error names, beside the first one.
_LISTED = 5


class FeatureRows:
    """Rows of features, validated: (n_samples, n_features) floating, in memory or mapped.

    With `mean` and `scale`, batches are standardised, in the precision of the rows: float32 does
    not hold what tells rows apart that are far from the origin.
    """

    # Copying a batch of rows is cheaper than a thread that competes for the cores.
    n_threads = 0

    def __init__(self, X, mean=None, scale=None):
        self.given = self._X = X
        self._mean, self._scale = mean, scale

    def __len__(self):
        return len(self._X)

    @property
    def constants(self):
        """What batches alone do not tell of the rows."""
        return () if self._mean is None else (self._mean.tolist(), self._scale.tolist())

    def batch(self, rows):
        """Return a float32 copy of these rows, or raise if a network would overflow."""
        block = self._X[rows]
        # Indexing by row numbers has copied already, slicing has not.
        is_copy = not isinstance(rows, slice)
        with np.errstate(over="ignore"):
            if self._mean is not None:
                block = block.astype(np.result_type(block, self._mean), copy=not is_copy)
                block -= self._mean
                block /= self._scale
                is_copy = True
            batch = np.array(block, dtype=np.float32, copy=None if is_copy else True)
        if max(batch.max(initial=0), -batch.min(initial=0)) > _LARGEST:
            self._raise_out_of_reach(block)
        return torch.from_numpy(batch)

    def _raise_out_of_reach(self, block):
        """Raise, naming the feature that is farthest off."""
        reach = np.abs(block).max(axis=0)
        where = f"between {-_LARGEST:.0e} and {_LARGEST:.0e}"
        if self._mean is not None:
            where += ", in standard deviations from the mean of the training samples"
        raise ValueError(
            f"X should be {where}, got an absolute value of {reach.max():.3g} in feature "
            f"{reach.argmax()}: a network computes in float32. Scale X, the same in fit and "
            "transform, or leave out rows that are faulty."
        )


class ImageArray:
    """Images as a uint8 array, in memory or mapped, of shape (n, H, W, 3) or (n, 3, H, W)."""

    n_threads = 1

    def __init__(self, X, size=None):
        X = X if isinstance(X, np.ndarray) else np.asarray(X)
        if X.ndim != 4 or 3 not in (X.shape[3], X.shape[1]) or 0 in X.shape:
            raise ValueError(
                "X should be images of shape (n_samples, height, width, 3) or "
                f"(n_samples, 3, height, width), got an array of shape {X.shape}. "
                "np.repeat(grey, 3, axis=-1) makes such of grey ones of shape "
                "(n_samples, height, width, 1)."
            )
        if X.dtype != np.uint8:
            raise ValueError(
                f"X should be images of dtype uint8, from 0 to 255, got dtype {X.dtype}. "
                "np.uint8(np.round(255 * X)) makes such of numbers from 0 to 1."
            )
        self.given = self._X = X
        self._channels_last = X.shape[3] == 3
        self.native_size = X.shape[1:3] if self._channels_last else X.shape[2:]
        self.size = size or self.native_size

    def __len__(self):
        return len(self._X)

    def batch(self, rows):
        """Return a copy of these images, uint8 (len(rows), 3, height, width), resized."""
        images = torch.from_numpy(np.array(self._X[rows]))
        if self._channels_last:
            images = images.permute(0, 3, 1, 2)
        return _resized(images, self.size)


class ImageFiles:
    """Image files, looked at as far as their headers at the start, decoded when needed.

    Parameters
    ----------
    X : sequence of str or path-like
        Their paths.

    size : tuple (height, width), default=None
        To which they are resized; it may be set later.

    skip : bool, default=False
        Whether a file that cannot be read is noted in `skipped`, and black in a batch, where it
        would be an error else.

    Attributes
    ----------
    skipped : dict of int to str, or None
        Why files were skipped, by their rows; None if they are not to be.

    Raises
    ------
    FileNotFoundError
        If files do not exist, unless they are skipped. The error names the first.

    ValueError
        If files cannot be read for another reason.
    """

    native_size = None

    def __init__(self, X, size=None, *, skip=False):
        self.given = X
        self.paths = [os.fsdecode(x) for x in X]
        self.size = size
        self.n_threads = N_FILE_THREADS
        faults = find_faults(self.paths, n_threads=self.n_threads)
        self.skipped = faults if skip else None
        if faults and not skip:
            self._raise(faults)

    def __len__(self):
        return len(self.paths)

    def batch(self, rows):
        """Decode these files to uint8 (len(rows), 3, height, width)."""
        return torch.stack([self._image(row) for row in _numbers(rows, len(self))])

    def _image(self, row):
        """Return the resized image of one file."""
        if self.skipped is None or row not in self.skipped:
            try:
                return _resized(_tensor(read_rgb(self.paths[row])), self.size)
            except ValueError as error:
                if self.skipped is None:
                    self._raise({row: str(error)})
                self.skipped[row] = str(error)
        return torch.zeros((3, *self.size), dtype=torch.uint8)

    def _raise(self, faults):
        """Raise for files that cannot be read, by name for the first."""
        (row, fault), *others = faults.items()
        kind = FileNotFoundError if fault == "does not exist" else ValueError
        raise kind(
            f"X[{row}] is the file {self.paths[row]}, which {fault}.{_listed(others)} Leave such "
            "files out of X and y (skhash.utils.find_unreadable_images finds them), or encode the "
            "others with encode_files(X, on_error='skip')."
        )


def read_images(paths, size):
    """Decode image files of which nothing is known, each opened once.

    Parameters
    ----------
    paths : list of str
        The files.

    size : tuple (height, width)
        To which they are resized.

    Returns
    -------
    images : ndarray of shape (n_files, 3, height, width), dtype uint8
        The images; black where a file cannot be read.

    faults : dict of int to str
        Why files cannot be read, by their rows.
    """
    images, faults = np.zeros((len(paths), 3, *size), np.uint8), {}
    for row, path in enumerate(paths):
        try:
            images[row] = _resized(_tensor(read_file(path)), size).numpy()
        except ValueError as error:
            faults[row] = str(error)
    return images, faults


class ImageSequence:
    """Images that a sequence gives one at a time, such as a data set of torch.

    Parameters
    ----------
    X : sequence
        Of images, tuples of which the first is one, or dicts of which one value is: of Pillow, or
        uint8 arrays or tensors of shape (height, width, 3) or (3, height, width). They are asked
        for in one thread at a time, since nothing is known of what it takes to make one.

    size : tuple (height, width), default=None
        To which they are resized; it may be set later.

    Raises
    ------
    ValueError
        If the first row is no such image; of the others `batch` says so.
    """

    n_threads = 1

    def __init__(self, X, size=None):
        self.given = X
        # Of a Series, X[0] is not the first row.
        self._X = np.asarray(X) if hasattr(X, "shape") else X
        self.size = size
        if len(self):
            self._image(0)

    def __len__(self):
        return len(self._X)

    @property
    def native_size(self):
        """Size of the images, None if it differs, or is not known before all are made."""
        if is_lazy(self._X):
            return None
        sizes = (tuple(self._image(row).shape[1:]) for row in range(len(self)))
        first = next(sizes)
        return first if all(size == first for size in sizes) else None

    def batch(self, rows):
        """Return a copy of these images, uint8 (len(rows), 3, height, width), resized."""
        numbers = _numbers(rows, len(self))
        return torch.stack([_resized(self._image(row), self.size) for row in numbers])

    def _image(self, row):
        """Return one image as it is, uint8 (3, height, width)."""
        try:
            sample = self._X[row]
        except Exception as error:
            error.add_note(f"This was raised by row {row} of X.")
            raise
        image = _image_of(sample, row)
        if is_image(image):
            try:
                return _tensor(as_rgb(image))
            except (OSError, ValueError) as error:
                raise ValueError(f"X[{row}] is an image that cannot be read: {error}") from error
        return _channels_first(image, row)


def _image_of(sample, row):
    """Return the image of a sample, beside which there may be labels, or raise."""
    if isinstance(sample, Mapping):
        images = [name for name, value in sample.items() if is_image(value) or is_pixels(value)]
        if len(images) != 1:
            raise ValueError(
                f"X[{row}] should hold one image, got a {type(sample).__name__} with "
                f"{list(sample)}, of which {images or 'none'} are images. Pass a data set of "
                "which one column holds images."
            )
        return sample[images[0]]
    return sample[0] if isinstance(sample, (tuple, list)) and len(sample) else sample


def _channels_first(image, row):
    """Return an array or a tensor as an image, or raise."""
    shape, dtype = tuple(getattr(image, "shape", ())), getattr(image, "dtype", None)
    if len(shape) != 3 or 3 not in (shape[0], shape[2]) or 0 in shape:
        got = type(image).__name__ + (f" of shape {shape}" if shape else "")
        rows = "Feature rows should be one array, which may be memory-mapped."
        raise ValueError(
            f"X[{row}] should be an image: one of Pillow, or an array of shape (height, width, 3) "
            f"or (3, height, width), got {got}. {rows if len(shape) == 1 else ''}".rstrip()
        )
    pixels = np.array(np.asarray(image))
    if pixels.dtype != np.uint8:
        raise ValueError(
            f"X[{row}] should be an image of dtype uint8, from 0 to 255, got dtype {dtype}. "
            "Without transforms.ToTensor and Normalize a data set of torchvision gives images "
            "that are so."
        )
    return _tensor(pixels) if shape[2] == 3 else torch.from_numpy(pixels)


def _numbers(rows, n_samples):
    """Return the numbers of rows, which may be given as a slice."""
    return range(n_samples)[rows] if isinstance(rows, slice) else [int(row) for row in rows]


def _listed(others):
    """Return a sentence about further files that cannot be read, empty if there are none."""
    if not others:
        return ""
    some = ", ".join(f"X[{row}]" for row, _ in others[:_LISTED])
    more = ", ..." if len(others) > _LISTED else ""
    return f" {len(others)} more cannot be read: {some}{more}."


def _tensor(pixels):
    """Return pixels (height, width, 3) as a tensor (3, height, width)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _resized(images, size):
    """Resize whole images, never cropping, unless they have that size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return transforms.resize(images, list(size), antialias=True)


def flip_some(images, n, rows):
    """Mirror each of some images with probability one half, in place.

    It is drawn for all `n` images of the batch of which these are the `rows`, a slice.
    """
    chosen = torch.rand(n, device=images.device)[rows] < 0.5
    images[chosen] = transforms.horizontal_flip(images[chosen])
    return images


def prefetched(source, batches):
    """Return an iterator of ``source.batch(rows)``, read ahead in the source's threads."""
    return map_ahead(source.batch, batches, source.n_threads)
