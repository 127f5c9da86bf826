"""What X may be for a deep hasher, served as tensors a batch at a time."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

__all__ = [
    "FeatureRows",
    "ImageArray",
    "ImageFiles",
    "flip_some",
    "input_kind",
    "prefetched",
]


# Largest feature for which squares of what a network makes of it stay within float32.
_LARGEST = 2.0**50


def input_kind(X):
    """Return "files", "images" or "features" (which includes all that is malformed)."""
    if not hasattr(X, "shape"):
        # Ragged or exotic input is left to the validation of features, which words it well.
        try:
            X = np.asarray(X)
        except ValueError:
            return "features"
    if len(X.shape) == 1 and _holds_paths(X):
        return "files"
    return "images" if len(X.shape) == 4 else "features"


def _holds_paths(X):
    """Whether a 1D array holds strings or path objects."""
    X = np.asarray(X)
    if X.ndim != 1:  # a sparse array, which numpy takes for one object
        return False
    return X.dtype.kind in "UST" or (
        X.dtype.kind == "O" and len(X) > 0 and all(isinstance(x, (str, os.PathLike)) for x in X)
    )


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
                f"(n_samples, 3, height, width), got an array of shape {X.shape}."
            )
        if X.dtype != np.uint8:
            raise ValueError(
                f"X should be images of dtype uint8, from 0 to 255, got dtype {X.dtype}."
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
    """Image files, decoded when they are needed."""

    native_size = None

    def __init__(self, X, size=None):
        self.given = X
        self._paths = [Path(os.fsdecode(x)) for x in X]
        self.size = size
        self.n_threads = min(8, os.cpu_count() or 1)
        for path in self._paths:
            if not path.is_file():
                raise FileNotFoundError(f"X names an image file that does not exist: {path}.")

    def __len__(self):
        return len(self._paths)

    def batch(self, rows):
        """Decode these files to uint8 (len(rows), 3, height, width)."""
        paths = self._paths[rows] if isinstance(rows, slice) else [self._paths[i] for i in rows]
        return torch.stack([_resized(_decoded(path), self.size) for path in paths])


def _decoded(path):
    """Return the image of a file, uint8 (3, height, width), or raise naming the file."""
    try:
        with Image.open(path) as image:
            pixels = np.array(_to_rgb(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"X names a file that cannot be decoded as an image: {path}.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _to_rgb(image):
    """Convert to RGB what Pillow would clip, 16-bit grey, or warn of, palettes with alpha."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGBA")
    return image.convert("RGB")


def _resized(images, size):
    """Resize whole images, never cropping, unless they have that size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return transforms.resize(images, list(size), antialias=True)


def flip_some(images):
    """Mirror each image of a batch with probability one half, in place."""
    chosen = torch.rand(len(images), device=images.device) < 0.5
    images[chosen] = transforms.horizontal_flip(images[chosen])
    return images


def prefetched(source, batches):
    """Yield ``source.batch(rows)`` for each of `batches`, read ahead in the source's threads."""
    if source.n_threads == 0:
        yield from map(source.batch, batches)
        return
    with ThreadPoolExecutor(source.n_threads) as pool:
        pending = deque()
        for rows in batches:
            pending.append(pool.submit(source.batch, rows))
            if len(pending) > source.n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
