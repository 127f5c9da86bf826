"""What the commands say: talk on standard error, results on standard output."""

import json
import logging
import sys

__all__ = ["StderrHandler", "print_json", "progress", "say"]

_LOGGER = logging.getLogger("skhash")


class StderrHandler(logging.StreamHandler):
    """Standard error as it is when a line is written."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        """Standard error."""
        return sys.stderr


def say(text):
    """Tell the user something that is no result.

    Parameters
    ----------
    text : str
        A line.
    """
    _LOGGER.info("%s", text)


def print_json(value):
    """Print a result for machines.

    Parameters
    ----------
    value : object
        What :mod:`json` takes.
    """
    print(json.dumps(value, indent=2, allow_nan=False))


def progress(steps, n_steps, what):
    """Yield from `steps`, with a bar on standard error if that is a terminal.

    Parameters
    ----------
    steps : iterable
        Steps of some work.

    n_steps : int
        Number of steps.

    what : str
        What the work is, the start of the line.

    Yields
    ------
    step : object
        The next step.
    """
    if not sys.stderr.isatty() or not _LOGGER.isEnabledFor(logging.INFO):
        yield from steps
        return
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        yield from _plain_bar(steps, n_steps, what)
        return
    yield from track(steps, what, n_steps, console=Console(stderr=True), transient=True)


def _plain_bar(steps, n_steps, what):
    """Yield from `steps`, and rewrite one line of standard error at each percent."""
    shown = None
    for done, step in enumerate(steps, 1):
        yield step
        percent = 100 * done // max(1, n_steps)
        if percent != shown:
            shown = percent
            print(f"\r{what} {percent:3d} % of {n_steps}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
