"""The engine of one machine: threads read ahead of the hasher."""

from skhash._ahead import map_ahead

__all__ = ["run_local"]


def run_local(pieces, source, coder):
    """Yield the codes of pieces, in their order.

    Parameters
    ----------
    pieces : iterable of Piece
        The pieces.

    source : object
        What they are pieces of: its `reader`, and the number of threads that read ahead.

    coder : Coder
        What makes codes of chunks.

    Yields
    ------
    coded : Coded
        Codes of the next chunk.
    """
    if source.n_threads == 0:
        for piece in pieces:
            yield from map(coder, source.reader(piece))
        return
    for chunks in map_ahead(lambda piece: list(source.reader(piece)), pieces, source.n_threads):
        yield from map(coder, chunks)
