"""Packs of images: one file with all JPEG files, their labels and the names of these."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image


def read_pack(path, cache):
    """Return the images and labels of a pack.

    Parameters
    ----------
    path : str or path-like
        An ``.npz`` file with the arrays `jpeg` (all files one after the other, uint8), `offsets`
        (n + 1) and `labels` (n, n_labels); all images of one size.

    cache : path-like
        File (.npy) for the decoded images: written if it is absent, then memory-mapped.

    Returns
    -------
    images : memmap of shape (n, height, width, 3), dtype uint8
        The images.

    target : ndarray of shape (n, n_labels), dtype uint8
        Label indicators.
    """
    with np.load(path, allow_pickle=False) as pack:
        jpeg, offsets, target = pack["jpeg"], pack["offsets"], pack["labels"]
    if not Path(cache).is_file():
        files = (jpeg[start:stop] for start, stop in pairwise(offsets))
        images = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
        # Under its own name only once it is whole.
        partial = Path(cache).with_suffix(".part.npy")
        np.save(partial, images)
        partial.replace(cache)
    return np.load(cache, mmap_mode="r"), target
