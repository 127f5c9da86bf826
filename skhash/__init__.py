"""Learning to hash, the scikit-learn way."""

import importlib

from skhash._bre import BREHasher
from skhash._hdml import HDMLHasher
from skhash._itq import CCAITQHasher, ITQHasher
from skhash._ksh import KSHHasher
from skhash._lsh import LSHHasher
from skhash._mlh import MLHHasher
from skhash._sdh import SDHHasher
from skhash._spectral import SpectralHasher
from skhash._version import __version__

__all__ = [
    "BREHasher",
    "CCAITQHasher",
    "DeepRankingHasher",
    "HDMLHasher",
    "ITQHasher",
    "KSHHasher",
    "LSHHasher",
    "MLHHasher",
    "SDHHasher",
    "SpectralHasher",
    "__version__",
    "base",
    "codes",
    "datasets",
    "deep",
    "encode",
    "export",
    "load",
    "metrics",
    "neighbors",
    "show_versions",
    "utils",
]

# What is imported when it is first asked for, so that `import skhash` does not import torch.
_LATE = {
    "DeepRankingHasher": "skhash.deep._hasher",
    "encode": "skhash._encode._function",
    "load": "skhash._load",
    "show_versions": "skhash.utils",
}


def __getattr__(name):
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    if name in __all__:
        return importlib.import_module(f"skhash.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
