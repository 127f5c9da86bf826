"""The look of pictures of the gallery, the same as that of pictures of the other pages."""

from pathlib import Path

import matplotlib as mpl

STYLE = Path(__file__).parents[1] / "both_grounds.mplstyle"


def reset(gallery_conf, name):  # noqa: ARG001
    """Draw an example for light and dark pages alike."""
    mpl.style.use(STYLE)
