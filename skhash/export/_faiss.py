"""Codes as a binary index of faiss."""

import numpy as np

from skhash._io import replaced_file
from skhash._sklearn import validate_params
from skhash.codes import check_packed_codes
from skhash.export._stored import POSITIVE, StoredCodes, batches, check_stored, has_text

__all__ = ["read_faiss", "write_faiss"]


@validate_params({"n_bits": [POSITIVE]}, prefer_skip_nested_validation=True)
def write_faiss(path, codes, *, n_bits, ids=None):
    """Write packed codes as a file that ``faiss.read_index_binary`` reads.

    The file holds an ``IndexBinaryFlat`` of the packed codes as they are, byte for byte, around it
    an ``IndexBinaryIDMap2`` if there are ids. faiss counts bits in bytes and does not keep
    `n_bits`: the bits that pad the last byte are 0 in items and queries, and add no distance.

    Parameters
    ----------
    path : str or path-like
        File to write. An existing one is replaced, once the new one is whole.

    codes : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes, see :func:`skhash.codes.pack_codes`. faiss copies them.

    n_bits : int
        Number of bits of a code.

    ids : array-like of shape (n_samples,), default=None
        Integers, at least 0, each once. None: faiss counts the rows.

    Raises
    ------
    ImportError
        If faiss is not installed.

    OSError
        If the folder is missing.

    RuntimeError
        If faiss cannot write the file.

    ValueError
        If codes are malformed, or ids are malformed, strings or negative.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skhash.codes import pack_codes
    >>> from skhash.export import read_faiss, write_faiss
    >>> codes = pack_codes([[0, 0, 1], [1, 1, 1]])
    >>> with TemporaryDirectory() as folder:
    ...     write_faiss(Path(folder) / "codes.faiss", codes, n_bits=3, ids=[7, 5])
    ...     read_faiss(Path(folder) / "codes.faiss", n_bits=3).ids
    array([7, 5])
    """
    faiss = _import_faiss()
    codes, ids = check_stored(codes, n_bits, ids)
    if ids is not None and (has_text(ids) or ids.min() < 0):
        raise ValueError(
            f"ids should be integers of at least 0 for faiss, got {min(ids.tolist())!r}. With "
            "ids=None faiss counts the rows, by which ids can be looked up."
        )
    flat = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index = flat if ids is None else faiss.IndexBinaryIDMap2(flat)
    for some, some_ids in batches(codes, ids):
        index.add(some) if ids is None else index.add_with_ids(some, some_ids)
    with replaced_file(path) as beside:
        faiss.write_index_binary(index, str(beside))


@validate_params({"n_bits": [POSITIVE, None]}, prefer_skip_nested_validation=True)
def read_faiss(path, *, n_bits=None):
    """Read the codes and ids of a file that :func:`write_faiss` wrote.

    Parameters
    ----------
    path : str or path-like
        The file: a flat binary index, with a map of ids or without.

    n_bits : int, default=None
        Number of bits of a code, which the file does not say. None: all bits of its bytes.

    Returns
    -------
    stored : StoredCodes
        `codes`, `ids` and `n_bits`, in the order of the file.

    Raises
    ------
    ImportError
        If faiss is not installed.

    RuntimeError
        If there is no such file, or faiss cannot read it.

    ValueError
        If it is an index of another kind, or its codes are not of `n_bits` bits.
    """
    faiss = _import_faiss()
    index = faiss.read_index_binary(str(path))
    flat = faiss.downcast_IndexBinary(index.index) if hasattr(index, "id_map") else index
    if not isinstance(flat, faiss.IndexBinaryFlat):
        raise ValueError(
            f"{str(path)!r} should hold an IndexBinaryFlat, with a map of ids or without, got "
            f"{type(flat).__name__}."
        )
    codes = faiss.vector_to_array(flat.xb).reshape(flat.ntotal, flat.code_size)
    has_ids = flat is not index
    ids = faiss.vector_to_array(index.id_map) if has_ids else np.arange(len(codes))
    n_bits = n_bits or 8 * flat.code_size
    return StoredCodes(check_packed_codes(codes, "codes", n_bits), ids, n_bits)


def _import_faiss():
    """Return the package faiss, or say what brings it."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "Binary indexes of faiss need the package faiss; `pip install faiss-cpu` brings it."
        ) from error
    return faiss
