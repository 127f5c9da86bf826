"""How far a training or an encoding is, as lines of a log."""

import logging
import math
import sys
import time

__all__ = ["Reporter", "Work"]

_LOGGER = logging.getLogger("skhash")
# Seconds that pass between two lines about steps of the same work.
_INTERVAL = 10.0


class _Console(logging.StreamHandler):
    """Standard output as it is when a line is written: notebooks replace it."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stdout


_CONSOLE = _Console()


class Reporter:
    """Tells the logger "skhash" what a hasher does.

    Lines are of level INFO if `verbose`, else of level DEBUG. Where logging is not set up to take
    lines of level INFO, those of a verbose hasher are written to standard output.

    Parameters
    ----------
    name : str
        Stands at the start of each line.

    verbose : bool or int
        Above 1, each step of some work is due for a line, and not one every ten seconds.
    """

    def __init__(self, name, verbose):
        self.name, self.verbose = name, int(verbose)
        self.level = logging.INFO if self.verbose else logging.DEBUG

    def say(self, text):
        """Log a line."""
        if _LOGGER.isEnabledFor(self.level) and _LOGGER.hasHandlers():
            _LOGGER.log(self.level, "[%s] %s", self.name, text)
        elif self.verbose:
            line = (self.level, __file__, 0, "[%s] %s", (self.name, text), None)
            _CONSOLE.handle(_LOGGER.makeRecord(_LOGGER.name, *line))

    def work(self, n_steps):
        """Return a :class:`Work` of so many steps, which tells when a line is due."""
        if self.verbose > 1:
            return Work(n_steps, 0.0)
        is_heard = self.verbose or _LOGGER.isEnabledFor(self.level)
        return Work(n_steps, _INTERVAL if is_heard else math.inf)


class Work:
    """Steps of some work: when to say how far it is, and how long the rest will take.

    Parameters
    ----------
    n_steps : int
        Number of steps.

    interval : float
        Seconds after a line at which the next one is due.
    """

    def __init__(self, n_steps, interval):
        self.n_steps, self.interval, self.n_done = n_steps, interval, 0
        self.started = self.said = time.perf_counter()

    def step(self, n=1):
        """Note that `n` more steps are done; return whether a line about them is due."""
        self.n_done += n
        return time.perf_counter() - self.said >= self.interval

    def left(self):
        """Return ", 3 min 20 s left", or nothing at the end, for a line that is now written."""
        self.said = time.perf_counter()
        if not 0 < self.n_done < self.n_steps:
            return ""
        rest = (self.said - self.started) * (self.n_steps / self.n_done - 1)
        return f", {spoken(rest)} left"


def spoken(seconds):
    """Return a time in words, as "45 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
