"""What X may be for a deep hasher, served as tensors a batch at a time."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from torchvision.transforms.v2 import functional as transforms

__all__ = [
    "FeatureRows",
    "ImageArray",
    "ImageFiles",
    "flip_some",
    "input_kind",
    "mean_and_scale",
    "prefetched",
]


# Rows of features whose mean and variance are taken at once.
_BLOCK_ROWS = 4096


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
    """Rows of features, validated: (n_samples, n_features) floating, in memory or mapped."""

    # Copying a batch of rows is cheaper than a thread that competes for the cores.
    n_threads = 0

    def __init__(self, X):
        self.given = self._X = X

    def __len__(self):
        return len(self._X)

    def batch(self, rows):
        """Return a float32 copy of these rows."""
        block = self._X[rows]
        # Indexing by row numbers has copied already, slicing has not.
        copy = isinstance(rows, slice) or None
        return torch.from_numpy(np.array(block, dtype=np.float32, copy=copy))


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


def mean_and_scale(features):
    """Return mean and standard deviation of each feature of rows, the scale 1 where it is 0."""
    scaler = StandardScaler()
    for rows in gen_batches(len(features), _BLOCK_ROWS):
        scaler.partial_fit(features.batch(rows).numpy())
    return scaler.mean_, scaler.scale_


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
