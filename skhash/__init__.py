"""Learning to hash, the scikit-learn way."""

from skhash._hdml import HDMLHasher
from skhash._itq import CCAITQHasher, ITQHasher
from skhash._ksh import KSHHasher
from skhash._lsh import LSHHasher
from skhash._sdh import SDHHasher
from skhash._spectral import SpectralHasher
from skhash._version import __version__

__all__ = [
    "CCAITQHasher",
    "DeepRankingHasher",
    "HDMLHasher",
    "ITQHasher",
    "KSHHasher",
    "LSHHasher",
    "SDHHasher",
    "SpectralHasher",
    "__version__",
]


def __getattr__(name):
    # Resolved on first use, so that `import skhash` does not import torch.
    if name == "DeepRankingHasher":
        from skhash.deep._hasher import DeepRankingHasher

        return DeepRankingHasher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
