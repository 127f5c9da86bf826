"""Data sets of images with label sets, and their split for retrieval."""

from skhash.datasets._cifar import fetch_cifar10
from skhash.datasets._coco import fetch_coco
from skhash.datasets._digits import make_digit_scenes
from skhash.datasets._mirflickr import fetch_mirflickr25k
from skhash.datasets._nus_wide import fetch_nus_wide
from skhash.datasets._split import retrieval_split
from skhash.datasets._voc import fetch_voc

__all__ = [
    "fetch_cifar10",
    "fetch_coco",
    "fetch_mirflickr25k",
    "fetch_nus_wide",
    "fetch_voc",
    "make_digit_scenes",
    "retrieval_split",
]
