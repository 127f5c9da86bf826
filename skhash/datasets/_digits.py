"""Scenes of handwritten digits, composed of those of scikit-learn."""

from numbers import Integral

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state

from skhash._sklearn import Interval, StrOptions, validate_params

__all__ = ["make_digit_scenes"]

_SCENES_DESCR = """Scenes of handwritten digits

Small RGB images, each composed of a few handwritten digits at random places and in random
colours. The labels of a scene are the set of digits it shows. The digits are scikit-learn's
(sklearn.datasets.load_digits), from the UCI Machine Learning Repository.
"""


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "image_size": [Interval(Integral, 16, None, closed="left")],
        "max_digits": [Interval(Integral, 1, 10, closed="both")],
        "subset": [StrOptions({"all", "train", "test"})],
        "return_X_y": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_digit_scenes(
    n_samples=3000,
    *,
    image_size=32,
    max_digits=4,
    subset="all",
    return_X_y=False,
    random_state=None,
):
    """Compose scenes of handwritten digits, with the set of digits shown as labels.

    Each scene shows 1 to `max_digits` different digits, from scikit-learn's bundled data set
    (8 x 8 pixels), each in its own bright colour at a random place, on a dark noisy ground.
    Later digits may cover a part of earlier ones. Nothing is downloaded.

    Parameters
    ----------
    n_samples : int, default=3000
        Number of scenes.

    image_size : int, default=32
        Height and width of a scene in pixels, at least 16.

    max_digits : int, default=4
        Most digits in a scene; how many it shows is drawn uniformly.

    subset : {"all", "train", "test"}, default="all"
        Handwritten digits to draw from: all 1,797, or the first ("train") or the second ("test")
        half of each class. The halves share no digit.

    return_X_y : bool, default=False
        Return ``(images, target)`` instead of a Bunch.

    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        `images`, ndarray of shape (n_samples, image_size, image_size, 3), uint8;
        `target`, indicator ndarray of shape (n_samples, 10), uint8; `target_names`, the digits;
        `DESCR`, str.

    Notes
    -----
    A handwritten digit may be in several scenes, each time at another place and in another
    colour. So if scenes of one call are split, queries show digits that training scenes show too.
    For scenes of unseen digits make the ones with ``subset="train"``, the others with
    ``subset="test"``.

    Examples
    --------
    >>> from skhash.datasets import make_digit_scenes
    >>> scenes = make_digit_scenes(n_samples=5, random_state=0)
    >>> scenes.images.shape, scenes.target.shape
    ((5, 32, 32, 3), (5, 10))
    """
    rng = check_random_state(random_state)
    digits = load_digits()
    of_class = _digits_of_class(digits.target, subset)
    ink = digits.images.astype(np.float32) / 16
    images = rng.normal(30, 12, (n_samples, image_size, image_size, 3)).astype(np.float32)
    target = np.zeros((n_samples, 10), np.uint8)
    for scene, labels in zip(images, target, strict=True):
        for label in rng.choice(10, rng.randint(1, max_digits + 1), replace=False):
            labels[label] = 1
            _draw(scene, ink[rng.choice(of_class[label])], rng)
    images = images.clip(0, 255).astype(np.uint8)
    if return_X_y:
        return images, target
    return Bunch(
        images=images, target=target, target_names=digits.target_names, DESCR=_SCENES_DESCR
    )


def _digits_of_class(classes, subset):
    """Return the row numbers of a subset of the digits, an array for each class."""
    of_class = [np.flatnonzero(classes == label) for label in range(10)]
    if subset == "all":
        return of_class
    # Neighbouring rows are often by one writer; halves share fewer writers than alternate rows.
    return [np.array_split(rows, 2)[subset == "test"] for rows in of_class]


def _draw(scene, ink, rng):
    """Draw a digit into a scene, in place, at a random place and in a random bright colour."""
    height, width = ink.shape
    top, left = rng.randint(0, np.subtract(scene.shape[:2], ink.shape) + 1)
    colour = rng.uniform(60, 255, 3)
    colour[rng.randint(3)] = 255
    patch = scene[top : top + height, left : left + width]
    patch += ink[:, :, None] * (colour - patch)
