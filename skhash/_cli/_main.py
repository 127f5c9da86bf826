"""The commands as one parser, and what becomes of errors: exit codes and a line of text."""

import argparse
import logging
import os
import sys
import traceback
import warnings
from contextlib import contextmanager

import skhash
from skhash._cli import _compare, _encode, _evaluate, _export, _info, _search, _train
from skhash._cli._talk import StderrHandler, say

__all__ = ["main"]

_COMMANDS = (_train, _encode, _search, _evaluate, _compare, _export, _info)
# What a wrong file, value or device raises, and what is missing on the machine.
_FAULTS = (OSError, ValueError, ImportError, RuntimeError, MemoryError)
_EPILOG = """\
from a folder of images to a page of results:
  skhash train --images photos --labels labels.csv --bits 48 --out photos.model
  skhash encode photos.model photos --out photos-codes
  skhash search photos.model photos-codes query.jpg --images photos --html found.html

Results go to standard output, all else to standard error. Exit codes: 0 done, 1 wrong input or a
fault on the way, 2 wrong usage, 130 interrupted.
"""


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments without the name of the program. None: those of the process.

    Returns
    -------
    code : int
        0 if all went well, 1 for wrong input or another fault, 2 for wrong usage, 130 after
        Ctrl-C, 141 if the reader of standard output went away.

    Examples
    --------
    >>> from skhash._cli._main import main
    >>> code = main(["--version"])
    skhash ...
    >>> code
    0
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return end.code
    with _heard(args.quiet):
        return _run(args)


def _parser():
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="skhash",
        description="Learn to hash images or feature rows, encode, search and evaluate.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skhash {skhash.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.__doc__,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--quiet", action="store_true", help="no talk on standard error")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(run=module.run, parser=command)
    return parser


def _run(args):
    """Run a command; return its exit code."""
    try:
        args.run(args)
        sys.stdout.flush()
    except SystemExit as end:
        return end.code
    except KeyboardInterrupt:
        print("skhash: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is left in the buffer would raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _FAULTS as error:
        if args.debug:
            traceback.print_exc()
        print(f"skhash {args.command}: error: {_message(error)}", file=sys.stderr)
        return 1
    return 0


def _message(error):
    """Return what an error says, in one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _heard(quiet):
    """Send the lines of the package's logger, and warnings, to standard error."""
    logger, handler = logging.getLogger("skhash"), StderrHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


def _show_warning(message, *_args, **_kwargs):
    """Tell a warning in one line."""
    say(f"warning: {' '.join(str(message).split())}")
