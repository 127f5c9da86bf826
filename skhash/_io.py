"""Files that are whole or not there."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["check_folder", "replaced_file"]


def check_folder(path):
    """Raise unless a file can have that path.

    Parameters
    ----------
    path : str or path-like
        Path of the file, which need not be there.

    Raises
    ------
    FileNotFoundError
        If its folder is missing.

    NotADirectoryError
        If what should be its folder is a file.

    IsADirectoryError
        If it is a folder itself.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "A folder is there, give a file in it", str(path))
    if path.parent.is_dir():
        return
    folder = str(path.parent)
    if path.parent.exists():
        raise NotADirectoryError(errno.ENOTDIR, "A file is there, and no folder", folder)
    raise FileNotFoundError(errno.ENOENT, "There is no such folder, make it first", folder)


@contextmanager
def replaced_file(path):
    """Write a file beside `path`, and put it in its place once it is whole and on the disk.

    At any moment, also after a crash or a loss of power, `path` is the old file (or none), or the
    new one to its last byte. The new file has the permissions of any that the user writes.

    Parameters
    ----------
    path : str or path-like
        File to write; an existing one is replaced.

    Yields
    ------
    beside : pathlib.Path
        Where to write. It is removed if the block raises.

    Raises
    ------
    OSError
        If the file cannot be written, such as on a full disk. A folder that is missing is named,
        before the block.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skhash._io import replaced_file
    >>> with TemporaryDirectory() as folder:
    ...     with replaced_file(Path(folder) / "codes") as beside:
    ...         _ = beside.write_bytes(b"1")
    ...     [file.name for file in Path(folder).iterdir()]
    ['codes']
    """
    path = Path(path)
    check_folder(path)
    # A name of its own, so that two writers do not write into one file.
    beside = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        beside.touch()
        mode = beside.stat().st_mode
        yield beside
        # Some writers put a file of their own in its place, which no other user may read.
        beside.chmod(mode)
        _flush(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    # The renaming is to outlast a loss of power too, where directories can be opened.
    if os.name == "posix":
        _flush(path.parent)


def _flush(path):
    """Have the system write a file or a directory to the disk."""
    # Windows flushes only what is open for writing, POSIX no directory that is.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
