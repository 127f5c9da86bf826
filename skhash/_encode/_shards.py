"""The folder of shards as it is written: what is whole, what is missing, and the end."""

import csv
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skhash._io import replaced_file
from skhash.export._arrow import write_parquet
from skhash.export._shards import MANIFEST, MARKS, SKIPPED, mark_path, shard_paths
from skhash.export._stored import check_stored

__all__ = ["Shards"]

_REMEDY = "Give another folder as out, or remove this one to encode all anew."


@dataclass
class _Open:
    """A shard of which pieces are on their way."""

    digest: object = field(default_factory=hashlib.sha256)
    n_rows: int = 0
    n_done: int = 0
    closed: bool = False
    parts: dict = field(default_factory=dict)


class Shards:
    """Writes shards of codes into a folder, each as a whole, those that are missing.

    Parameters
    ----------
    folder : path-like
        The folder. It is made if it is not there.

    manifest : dict
        What tells this encoding from others: `n_bits`, `file_format`, `shard_size` and more.

    Attributes
    ----------
    finished : dict or None
        What a former call has noted at its end.

    shard_size : int
        Rows of a shard.

    n_whole : int
        Number of shards that were whole at the start.

    Raises
    ------
    ValueError
        If the folder holds another encoding, or something else.
    """

    def __init__(self, folder, manifest):
        self.folder = Path(folder)
        self._manifest, self._open = manifest, {}
        self.shard_size = manifest["shard_size"]
        self.folder.mkdir(exist_ok=True)
        self._remove_remains()
        self.finished = self._started()
        (self.folder / MARKS).mkdir(exist_ok=True)
        self._whole = {int(path.stem) for path in (self.folder / MARKS).glob("*.json")}
        self.n_whole = len(self._whole)

    def _remove_remains(self):
        """Remove what a killed process has left of files that it was writing."""
        for pattern in ("_*.tmp", "codes-*.tmp", "ids-*.tmp", f"{MARKS}/*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def _started(self):
        """Write the manifest, or compare with the one that is there; return how it ended."""
        path = self.folder / MANIFEST
        if not path.is_file():
            if other := next(self.folder.iterdir(), None):
                raise ValueError(
                    f"out={str(self.folder)!r} should be a new or an empty folder, or one that "
                    f"skhash.encode has written, got one that holds {other.name!r}."
                )
            _write_json(path, self._manifest)
            return None
        there = json.loads(path.read_text(encoding="utf-8"))
        finished = there.pop("finished", None)
        wanted = json.loads(json.dumps(self._manifest))
        if differing := [name for name in wanted if there.get(name) != wanted[name]]:
            what = "; ".join(f"{x} {there.get(x)!r}, got {wanted[x]!r}" for x in differing)
            raise ValueError(
                f"out={str(self.folder)!r} holds codes of another encoding: {what}. {_REMEDY}"
            )
        return finished

    def missing(self, pieces):
        """Yield those pieces that belong to shards which are not whole.

        Parameters
        ----------
        pieces : iterable of Piece
            All pieces of the source, in order.

        Yields
        ------
        piece : Piece
            The next piece whose codes :meth:`add` is to be given.

        Raises
        ------
        ValueError
            If shards are whole and of other rows, or there are no rows.
        """
        number = None
        for piece in pieces:
            previous, number = number, piece.start // self.shard_size
            if number != previous:
                self._close(previous)
                self._open[number] = _Open()
            shard = self._open[number]
            shard.n_rows += piece.stop - piece.start
            if piece.ids is not None:
                shard.digest.update(_as_bytes(piece.ids))
            if number not in self._whole:
                yield piece
        if number is None:
            raise ValueError("source should have at least one row or image file, got none.")
        self._close(number)
        if any(whole > number for whole in self._whole):
            self._raise_changed(number + 1)

    def _close(self, number):
        """Note that a shard gets no further pieces."""
        if number is None:
            return
        self._open[number].closed = True
        self._open[number].digest.update(str(self._open[number].n_rows).encode())
        if number not in self._whole:
            self._write_if_complete(number)
        elif self._mark(number)["source"] != self._open.pop(number).digest.hexdigest():
            self._raise_changed(number)

    def _raise_changed(self, number):
        raise ValueError(
            f"source has changed since out={str(self.folder)!r} was begun: its rows differ from "
            f"those of shard {number}. {_REMEDY}"
        )

    def _mark(self, number):
        return json.loads(mark_path(self.folder, number).read_text(encoding="utf-8"))

    def add(self, coded):
        """Take the codes of a chunk, and write its shard if that completes it.

        Parameters
        ----------
        coded : Coded
            The chunk. One that was taken before is left alone.
        """
        number = coded.start // self.shard_size
        shard = self._open.get(number)
        if shard is None or coded.start in shard.parts:
            return
        shard.parts[coded.start] = coded
        shard.n_done += coded.n_rows
        self._write_if_complete(number)

    def _write_if_complete(self, number):
        shard = self._open[number]
        if shard.closed and shard.n_done == shard.n_rows:
            parts = [shard.parts[start] for start in sorted(shard.parts)]
            self._write(number, parts, shard.digest.hexdigest())
            self._whole.add(number)
            del self._open[number]

    def _write(self, number, parts, digest):
        """Write the files of a shard, and last the mark that it is whole."""
        codes = np.concatenate([part.codes for part in parts])
        if len(codes):
            ids = np.concatenate([part.ids for part in parts])
            self._write_codes(number, codes, ids)
        skipped = [entry for part in parts for entry in part.skipped]
        mark = {
            "n_rows": sum(part.n_rows for part in parts),
            "n_codes": len(codes),
            "source": digest,
            "skipped": skipped,
        }
        _write_json(mark_path(self.folder, number), mark)

    def _write_codes(self, number, codes, ids):
        file_format, n_bits = self._manifest["file_format"], self._manifest["n_bits"]
        paths = shard_paths(self.folder, number, file_format)
        if file_format == "parquet":
            write_parquet(paths[0], codes, n_bits=n_bits, ids=ids)
            return
        for path, array in zip(paths, check_stored(codes, n_bits, ids), strict=True):
            with replaced_file(path) as beside, beside.open("wb") as file:
                np.save(file, array)

    def finish(self):
        """Write the list of what was skipped, and note the end.

        Returns
        -------
        finished : dict
            Numbers of shards, of rows, of codes and of what was skipped.

        Raises
        ------
        RuntimeError
            If pieces that `missing` gave never came back as codes.
        """
        if self._open:
            raise RuntimeError(
                f"No codes came of {len(self._open)} shards, the first of which is "
                f"{min(self._open)}. Call skhash.encode again: it goes on from the others."
            )
        counts = {"n_shards": len(self._whole), "n_rows": 0, "n_codes": 0, "n_skipped": 0}
        with (
            replaced_file(self.folder / SKIPPED) as beside,
            beside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["id", "reason"])
            for mark in map(self._mark, sorted(self._whole)):
                writer.writerows(mark["skipped"])
                counts["n_rows"] += mark["n_rows"]
                counts["n_codes"] += mark["n_codes"]
                counts["n_skipped"] += len(mark["skipped"])
        if self.finished != counts:
            _write_json(self.folder / MANIFEST, self._manifest | {"finished": counts})
        return counts


def _write_json(path, content):
    with replaced_file(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _as_bytes(ids):
    return "".join(f"{name}\0" for name in ids.tolist()).encode("utf-8", "surrogateescape")
