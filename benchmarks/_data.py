"""Data sets of the comparisons: views of the samples, their labels, how many are queries."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import normalize

from skhash.datasets import (
    fetch_cifar10,
    fetch_coco,
    fetch_mirflickr25k,
    fetch_nus_wide,
    fetch_voc,
    make_digit_scenes,
)


class Data(NamedTuple):
    """Samples in the views that methods take, by name, and what is known of them."""

    views: dict
    target: np.ndarray
    n_queries: int
    # Which methods there are.
    kind: str = "photographs"

    @property
    def labels(self):
        """Label sets as an indicator matrix, also of class labels."""
        if self.target.ndim == 2:
            return self.target
        return (self.target[:, None] == np.unique(self.target)).astype(np.uint8)

    def labelled(self):
        """Return the samples that have a label."""
        kept = self.labels.any(axis=1)
        views = {name: view[kept] for name, view in self.views.items()}
        return self._replace(views=views, target=self.target[kept])


def digit_scenes(path, cache):  # noqa: ARG001
    """Return scenes of digits, and their pixels as rows."""
    if path is not None:
        raise ValueError(f"Digit scenes are made, not read: leave out --data, got {path}.")
    scenes = make_digit_scenes(image_size=24, max_digits=3, random_state=0)
    rows = scenes.images.reshape(len(scenes.images), -1) / np.float32(255)
    return Data({"features": rows, "images": scenes.images}, scenes.target, 500, "digits")


def mirflickr25k(path, cache):
    """Return MIRFLICKR-25K."""
    data = fetch_mirflickr25k(path, cache=cache / "mirflickr25k_images.npy")
    return photographs(data.images, data.target, cache / "mirflickr25k_features.npy")


def mirflickr25k_losses(path, cache):
    """Return the same, for losses and ablations of the deep hasher on the features alone."""
    return mirflickr25k(path, cache)._replace(kind="losses")


def coco17(path, cache):
    """Return 15,925 images of MS-COCO with 17 labels."""
    from _packs import read_pack

    if path is None:
        raise ValueError("The pack of 17 labels of MS-COCO (.npz) is needed: give it by --data.")
    images, target = read_pack(path, cache / "coco17_images.npy")
    return photographs(images, target, cache / "coco17_features.npy")


def coco17_classes(path, cache):
    """Return those of the images that have one label, which is their class."""
    data = coco17(path, cache)
    of_one = data.target.sum(axis=1) == 1
    views = {name: view[of_one] for name, view in data.views.items()}
    return data._replace(views=views, target=data.target[of_one])


def official(path, cache, *, name, fetch, n_queries=2000):
    """Return a data set of its official layout, whose files are read once, for the features."""
    data = fetch(path)
    return photographs(data.images, data.target, cache / f"{name}_features.npy", n_queries)


def photographs(images, target, feature_file, n_queries=2000):
    """Return photographs, and their features, which a file keeps."""
    from _efficientnet import cached_features

    features = cached_features(images, feature_file)
    if len(features) != len(target):
        raise ValueError(
            f"{feature_file} should have features of {len(target)} images, got {len(features)}. "
            "Delete it or name another --output."
        )
    # Roots tame the few large activations, unit length the differences in contrast.
    return Data({"features": normalize(np.sqrt(features)), "images": images}, target, n_queries)


_OFFICIAL = {
    "nus-wide-81": (partial(fetch_nus_wide, n_labels=81), 2100),
    "nus-wide-21": (partial(fetch_nus_wide, n_labels=21), 2100),
    "coco": (fetch_coco, 2000),
    "voc2007": (partial(fetch_voc, year=2007), 2000),
    "voc2012": (partial(fetch_voc, year=2012), 2000),
    "cifar10": (fetch_cifar10, 2000),
}
DATASETS = {
    "digits": digit_scenes,
    "mirflickr25k": mirflickr25k,
    "coco17": coco17,
    "coco17-classes": coco17_classes,
    "mirflickr25k-losses": mirflickr25k_losses,
} | {
    name: partial(official, name=name, fetch=fetch, n_queries=n_queries)
    for name, (fetch, n_queries) in _OFFICIAL.items()
}


def own_features(file, label_file):
    """Return feature rows of a file, memory-mapped, with labels of another."""
    from skhash._cli._files import read_features
    from skhash._cli._labels import read_labels

    X, _ = read_features(file)
    y = read_labels(label_file).of(None, len(X))
    return _own(Data({"features": X}, np.asarray(y), 0, "features"))


def own_images(folder, label_file, cache):
    """Return the images of a folder with labels of a file, or of their sub-folders."""
    from skhash._cli._labels import read_labelled_images

    found = read_labelled_images(folder, label_file)
    images = np.array([str(path) for path in found.paths])
    file = cache / f"{Path(folder).resolve().name}_features.npy"
    return _own(photographs(images, np.asarray(found.y), file))


def _own(data):
    """Return data with a tenth of the samples as queries, at most 2,000."""
    return data._replace(n_queries=min(2000, -(-len(data.target) // 10)))
