"""Settings of the test run, some of which must stand before numpy and torch are imported."""

import os
import sys

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
# Pages that are built, and programs that draw: tests/test_docs.py runs them.
collect_ignore_glob = [
    "docs/_*",
    "docs/*.py",
    "docs/auto_examples/*",
    "docs/gallery_src/*",
    "docs/generated/*",
]
# Parallel workers share the cores; threads on top of them only get in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test or an example has drawn; matplotlib warns where many stay open."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
