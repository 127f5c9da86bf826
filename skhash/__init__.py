"""Learning to hash, the scikit-learn way."""

from skhash._version import __version__

__all__ = ["__version__"]
