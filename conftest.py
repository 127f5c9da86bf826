"""Settings of the test run that must stand before numpy and torch are imported."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
# Parallel workers share the cores; threads on top of them only get in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
