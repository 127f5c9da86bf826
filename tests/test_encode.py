"""`encode`: any source to the same codes, in shards that are whole or not there."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace as Given

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from pyarrow import parquet
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

import skhash
from skhash import DeepRankingHasher, LSHHasher, encode
from skhash.codes import pack_codes
from skhash.datasets import make_digit_scenes
from skhash.export import iter_shards, read_parquet, read_shards
from skhash.neighbors import HammingNeighbors

DIGITS, CLASSES = load_digits(return_X_y=True)
N_IMAGES = 23


@pytest.fixture(scope="module")
def hasher():
    return LSHHasher(20, random_state=0).fit(DIGITS)


@pytest.fixture(scope="module")
def deep():
    images, Y = make_digit_scenes(80, return_X_y=True, random_state=0)
    hasher = DeepRankingHasher(12, hidden_size=16, image_size=16, max_epochs=1, random_state=0)
    return hasher.set_params(batch_size=4, encoding="joint").fit(images, Y)


@pytest.fixture(scope="module")
def images():
    return make_digit_scenes(N_IMAGES, return_X_y=True, random_state=1)[0][:, ::2, ::2].copy()


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Images in two folders, one in the other, with names in their order."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "b").mkdir()
    for number, image in enumerate(images):
        inner = "b/" if 5 <= number < 15 else "a" if number < 5 else "c"
        Image.fromarray(image).save(folder / f"{inner}{number:02}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def files_of(folder):
    return sorted(path for path in folder.rglob("*.png") if path.name[0] != ".")


def names_of(folder):
    return [path.relative_to(folder).as_posix() for path in files_of(folder)]


def content(folder):
    """Bytes of all files by their names."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def read_skipped(encoded):
    with encoded.skipped.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def write_rows(path, X, *, row_group_size=1000, as_list=False, ids=None):
    columns = {} if ids is None else {"name": ids}
    if as_list:
        columns["row"] = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
    else:
        columns |= {f"x{i}": column for i, column in enumerate(X.T)}
    parquet.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


# Sources of images


class Samples:
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return Image.fromarray(self.images[row]), 7


def batches_of(X, size, ids=None):
    for start in range(0, len(X), size):
        rows = slice(start, start + size)
        yield X[rows] if ids is None else (ids[rows], X[rows])


IMAGE_SOURCES = {
    "paths": lambda given: files_of(given.folder),
    "paths as strings": lambda given: [*map(str, files_of(given.folder))],
    "series": lambda given: pd.Series([*map(str, files_of(given.folder))]),
    "folder": lambda given: given.folder,
    "array": lambda given: given.images,
    "channels first": lambda given: given.images.transpose(0, 3, 1, 2),
    "data set": lambda given: Samples(given.images),
    "batches": lambda given: batches_of(given.images, 10),
    "batches with ids": lambda given: batches_of(given.images, 10, np.arange(100, 123)),
    "batches of Pillow": lambda given: batches_of([*map(Image.fromarray, given.images)], 9),
    "batches of paths": lambda given: batches_of([*map(str, files_of(given.folder))], 9),
    "parquet": lambda given: paths_in_parquet(given.folder, given.tmp),
}
NUMBERED = {"array", "channels first", "data set", "batches", "batches of Pillow"}


def paths_in_parquet(folder, tmp):
    table = pa.table({"path": [*map(str, files_of(folder))]})
    parquet.write_table(table, tmp / "paths.parquet", row_group_size=6)
    return tmp / "paths.parquet"


@pytest.mark.parametrize("source", IMAGE_SOURCES)
def test_sources_of_images(source, deep, folder, images, tmp_path):
    made = IMAGE_SOURCES[source](Given(folder=folder, images=images, tmp=tmp_path))
    encoded = encode(deep, made, tmp_path / "out", shard_size=10)
    stored = read_shards(tmp_path / "out")
    assert_array_equal(stored.codes, pack_codes(deep.encode_files(files_of(folder)).codes))
    assert (stored.n_bits, encoded.n_codes, encoded.n_shards) == (12, N_IMAGES, 3)
    if source in NUMBERED:
        expected = np.arange(N_IMAGES)
    elif source == "batches with ids":
        expected = np.arange(100, 123)
    else:
        expected = names_of(folder) if source == "folder" else [*map(str, files_of(folder))]
    assert_array_equal(stored.ids, expected)


def test_codes_of_queries(deep, images, tmp_path):
    encode(deep, images, tmp_path, method="transform")
    assert_array_equal(read_shards(tmp_path).codes, pack_codes(deep.transform(images)))


def test_each_file_is_opened_once(deep, folder, tmp_path, monkeypatch):
    opened, open_image = [], Image.open

    def count(path, *args, **kwargs):
        opened.append(path)
        return open_image(path, *args, **kwargs)

    # What is counted is how Pillow is called.
    monkeypatch.setattr(Image, "open", count)
    encode(deep, folder, tmp_path, shard_size=10)
    assert sorted(opened) == [*map(str, files_of(folder))]


# Sources of rows

ROW_SOURCES = {
    "array": lambda given: given.X,
    "mapped": lambda given: np.load(saved(given.X, given.tmp), mmap_mode="r"),
    "tensor": lambda given: torch.from_numpy(given.X),
    "part of a map": lambda given: mapped_part(given.X, given.tmp),
    "columns first": lambda given: np.load(saved(given.X, given.tmp, "F"), mmap_mode="r"),
    "changed copy": lambda given: changed_copy(given.X, given.tmp),
    "npy": lambda given: saved(given.X, given.tmp),
    "frame": lambda given: pd.DataFrame(given.X),
    "batches": lambda given: batches_of(given.X, 333),
    "columns": lambda given: write_rows(given.tmp / "rows.parquet", given.X, row_group_size=270),
    "large groups": lambda given: write_rows(
        given.tmp / "rows.parquet", given.X, row_group_size=10_000
    ),
    "lists": lambda given: write_rows(given.tmp / "rows.parquet", given.X, as_list=True),
    "parquet files": lambda given: several_files(given.X, given.tmp),
}


def saved(X, tmp, order="C"):
    np.save(tmp / "rows.npy", np.asarray(X, order=order))
    return tmp / "rows.npy"


def mapped_part(X, tmp):
    return np.load(saved(np.concatenate([X[:100], X, X[:7]]), tmp), mmap_mode="r")[100:][:-7]


def changed_copy(X, tmp):
    changed = np.load(saved(X[::-1], tmp), mmap_mode="c")
    changed[:] = X
    return changed


def several_files(X, tmp):
    folder = tmp / "rows"
    folder.mkdir()
    write_rows(folder / "1.parquet", X[:700])
    write_rows(folder / "2.parquet", X[700:], row_group_size=100)
    (folder / "_metadata.parquet").write_bytes(b"no rows")
    return folder


@pytest.mark.parametrize("file_format", ["npy", "parquet"])
@pytest.mark.parametrize("source", ROW_SOURCES)
def test_sources_of_rows(source, file_format, hasher, tmp_path):
    made = ROW_SOURCES[source](Given(X=DIGITS, tmp=tmp_path))
    options = {"shard_size": 500, "batch_size": 64, "file_format": file_format}
    encoded = encode(hasher, made, tmp_path / "out", **options)
    stored = read_shards(tmp_path / "out")
    assert_array_equal(stored.codes, pack_codes(hasher.encode_database(DIGITS)))
    assert_array_equal(stored.ids, np.arange(len(DIGITS)))
    assert (encoded.n_rows, encoded.n_shards) == (len(DIGITS), 4)
    assert [len(shard.codes) for shard in iter_shards(tmp_path / "out")] == [500] * 3 + [297]


SHALLOW = [
    name for name in skhash.__all__ if name.endswith("Hasher") and name != "DeepRankingHasher"
]


@pytest.mark.parametrize("name", SHALLOW)
def test_blocks_have_the_codes_of_the_whole(name, tmp_path):
    hasher = getattr(skhash, name)(8)
    if "random_state" in hasher.get_params():
        hasher.set_params(random_state=0)
    hasher.fit(DIGITS[:300], CLASSES[:300])
    encode(hasher, DIGITS, tmp_path, shard_size=1000, batch_size=77)
    stored = read_shards(tmp_path)
    assert_array_equal(stored.codes, pack_codes(hasher.encode_database(DIGITS)))


@pytest.mark.parametrize("encoding", ["joint", "items", "signs"])
def test_blocks_of_a_deep_hasher_have_the_codes_of_the_whole(encoding, tmp_path):
    hasher = DeepRankingHasher(16, hidden_size=32, max_epochs=2, random_state=0, encoding=encoding)
    hasher.fit(DIGITS[:300], CLASSES[:300])
    encode(hasher, DIGITS, tmp_path, shard_size=1000, batch_size=77)
    stored = read_shards(tmp_path)
    assert_array_equal(stored.codes, pack_codes(hasher.encode_database(DIGITS)))


def test_ids_of_a_column(hasher, tmp_path):
    names = [f"digit {i}" for i in range(len(DIGITS))]
    source = write_rows(tmp_path / "rows.parquet", DIGITS, ids=names)
    encode(hasher, source, tmp_path / "out", ids="name", file_format="parquet", shard_size=600)
    assert_array_equal(read_shards(tmp_path / "out").ids, names)


def test_features_that_the_hasher_knows_by_name(tmp_path):
    names = [f"x{i}" for i in range(DIGITS.shape[1])]
    hasher = LSHHasher(20, random_state=0).fit(pd.DataFrame(DIGITS, columns=names))
    source = write_rows(tmp_path / "rows.parquet", DIGITS, ids=[*map(str, range(len(DIGITS)))])
    # No warning of names that are missing, and `name` is no feature.
    encode(hasher, source, tmp_path / "out")
    expected = hasher.encode_database(pd.DataFrame(DIGITS, columns=names))
    assert_array_equal(read_shards(tmp_path / "out").codes, pack_codes(expected))


@pytest.mark.parametrize("ids", [np.arange(7, 1804), [f"id {i}" for i in range(len(DIGITS))]])
def test_ids_that_are_given(ids, hasher, tmp_path):
    encode(hasher, DIGITS, tmp_path, ids=ids, shard_size=1000)
    assert_array_equal(read_shards(tmp_path).ids, ids)


def test_ids_in_bytes(hasher, tmp_path):
    ids = np.array([b"a", b"b"], object)
    encode(hasher, [(ids, DIGITS[:2])], tmp_path)
    assert_array_equal(read_shards(tmp_path).ids, ["a", "b"])


# What the folder holds


def test_files_of_the_folder(hasher, tmp_path):
    encode(hasher, DIGITS, tmp_path / "npy", shard_size=1000)
    encode(hasher, DIGITS, tmp_path / "parquet", shard_size=1000, file_format="parquet")
    marks = ["_manifest.json", "_shards/00000000.json", "_shards/00000001.json", "_skipped.csv"]
    assert sorted(content(tmp_path / "npy")) == [
        *marks,
        *("codes-00000000.npy", "codes-00000001.npy", "ids-00000000.npy", "ids-00000001.npy"),
    ]
    names = ["codes-00000000.parquet", "codes-00000001.parquet"]
    assert sorted(content(tmp_path / "parquet")) == [*marks, *names]
    codes = pack_codes(hasher.encode_database(DIGITS))
    assert_array_equal(read_parquet(tmp_path / "parquet" / names[0]).codes, codes[:1000])
    # Other readers of folders of Parquet take the codes alone.
    table = parquet.read_table(tmp_path / "parquet")
    assert table.num_rows == len(DIGITS)
    manifest = json.loads((tmp_path / "npy" / "_manifest.json").read_text())
    counts = {"n_shards": 2, "n_rows": len(DIGITS), "n_codes": len(DIGITS), "n_skipped": 0}
    assert manifest["finished"] == counts


def test_one_shard_is_mapped_and_searched(hasher, tmp_path):
    encode(hasher, DIGITS, tmp_path)
    stored = read_shards(tmp_path)
    assert isinstance(stored.codes, np.memmap)
    search = HammingNeighbors(n_bits=stored.n_bits).fit(stored.codes, ids=stored.ids)
    assert_array_equal(search.kneighbors(stored.codes[:5], 1, return_distance=False)[:, 0] >= 0, 1)
    kept = clone(hasher).fit(DIGITS).set_database_codes(stored.codes, ids=stored.ids)
    assert np.shares_memory(kept.database_codes_, stored.codes)


def test_the_end_is_noted_once(hasher, tmp_path, caplog):
    encode(hasher, DIGITS, tmp_path, shard_size=500)
    before = content(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("codes*")}
    with caplog.at_level(logging.INFO, "skhash"):
        encoded = encode(hasher, DIGITS, tmp_path, shard_size=500, verbose=True)
    assert "had ended before: 1797 codes in 4 shards" in caplog.text
    assert content(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("codes*")} == times
    assert encoded.n_codes == len(DIGITS)


def test_progress(hasher, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "skhash"):
        encode(hasher, DIGITS, tmp_path / "out", shard_size=600, batch_size=600, verbose=2)
    assert "600 of 1797 rows" in caplog.text
    assert " a second, " in caplog.text
    assert " left" in caplog.text
    assert "1797 codes in 3 shards" in caplog.text
    with caplog.at_level(logging.INFO, "skhash"):
        encode(hasher, batches_of(DIGITS, 500), tmp_path / "other", verbose=2)
    assert "] 500 rows" in caplog.text


# Files that cannot be read


@pytest.fixture
def damaged(folder, tmp_path):
    paths = files_of(folder)
    (tmp_path / "empty.png").write_bytes(b"")
    whole = paths[0].read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    paths[3:3] = [tmp_path / "empty.png", tmp_path / "missing.png"]
    return [*paths[:12], tmp_path / "cut.png", *paths[12:]]


@pytest.mark.parametrize("file_format", ["npy", "parquet"])
def test_skipped_files_are_listed(file_format, deep, folder, damaged, tmp_path):
    options = {"shard_size": 8, "file_format": file_format}
    encoded = encode(deep, damaged, tmp_path / "out", on_error="skip", **options)
    assert (encoded.n_rows, encoded.n_codes, encoded.n_skipped) == (N_IMAGES + 3, N_IMAGES, 3)
    stored = read_shards(tmp_path / "out")
    assert_array_equal(stored.codes, pack_codes(deep.encode_files(files_of(folder)).codes))
    assert_array_equal(stored.ids, [*map(str, files_of(folder))])
    expected = deep.encode_files(damaged, on_error="skip").skipped
    assert read_skipped(encoded) == [[*entry] for entry in expected]


def test_a_shard_of_skipped_files_alone(deep, folder, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)] + files_of(folder)
    encoded = encode(deep, paths, tmp_path / "out", on_error="skip", shard_size=4)
    assert_array_equal(read_shards(tmp_path / "out").ids, [*map(str, files_of(folder))])
    assert encoded.n_skipped == 4
    encode(deep, paths[:4], tmp_path / "none", on_error="skip")
    with pytest.raises(ValueError, match="holds no codes: all files were skipped"):
        read_shards(tmp_path / "none")


def test_an_error_names_the_file_and_keeps_what_was_done(deep, damaged, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"empty\.png', which is empty\. 1 of the 3 read with it"):
        encode(deep, damaged, out, shard_size=3)
    assert [len(shard.codes) for shard in iter_shards(out)] == [3]
    with pytest.raises(ValueError, match="has not ended"):
        read_shards(out)
    assert encode(deep, damaged, out, shard_size=3, on_error="skip").n_skipped == 3
    with pytest.raises(FileNotFoundError, match=r"missing\.png', which does not exist"):
        encode(deep, [tmp_path / "missing.png"], tmp_path / "other")


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are text there")
def test_a_name_that_is_not_text_is_skipped(deep, tmp_path):
    (tmp_path / "images").mkdir()
    image = Image.new("RGB", (16, 16))
    for name in (b"a.png", b"\xff.png"):
        image.save(os.fsdecode(os.fsencode(tmp_path / "images") + b"/" + name))
    source, out = tmp_path / "images", tmp_path / "out"
    encoded = encode(deep, source, out, on_error="skip", file_format="parquet")
    assert read_shards(out).ids.tolist() == ["a.png"]
    assert read_skipped(encoded) == [["\\udcff.png", "has a name that is not valid UTF-8"]]
    assert encode(deep, source, out, on_error="skip", file_format="parquet").n_skipped == 1


# Stopped and started again


class FullDiskError(OSError):
    pass


@pytest.mark.parametrize("file_format", ["npy", "parquet"])
def test_stopped_at_any_write(file_format, deep, damaged, tmp_path, monkeypatch):
    options = {"shard_size": 10, "file_format": file_format, "on_error": "skip"}
    encode(deep, damaged, tmp_path / "undisturbed", **options)
    replace, counts = Path.replace, {"left": np.inf}

    # Stands for a full disk, or a process that is killed, as a file is put in its place.
    def fail(self, target):
        counts["left"] -= 1
        if counts["left"] < 0:
            raise FullDiskError
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    for n_writes in range(100):
        out, counts["left"] = tmp_path / f"out-{n_writes}", n_writes
        try:
            encode(deep, damaged, out, **options)
        except FullDiskError:
            counts["left"] = np.inf
            encode(deep, damaged, out, **options)
            assert content(out) == content(tmp_path / "undisturbed")
        else:
            break
    # The manifest twice, for each of 3 shards its files and a mark, and the list.
    assert n_writes == {"npy": 12, "parquet": 9}[file_format]


def test_whole_shards_are_not_encoded_again(hasher, tmp_path, monkeypatch):
    encode(hasher, DIGITS, tmp_path / "undisturbed", shard_size=300)
    rows = []
    encode_database = LSHHasher.encode_database

    def fail_late(self, X):
        if sum(rows) > 1000:
            raise RuntimeError("stopped")
        rows.append(len(X))
        return encode_database(self, X)

    monkeypatch.setattr(LSHHasher, "encode_database", fail_late)
    options = {"shard_size": 300, "batch_size": 100}
    with pytest.raises(RuntimeError, match="stopped"):
        encode(hasher, batches_of(DIGITS, 250), tmp_path / "out", **options)
    assert 900 <= sum(rows) < 1200
    rows.clear()
    rows.append(-10_000)
    encode(hasher, batches_of(DIGITS, 250), tmp_path / "out", **options)
    assert sum(rows[1:]) == len(DIGITS) - 900
    for one, other in zip(
        iter_shards(tmp_path / "out"), iter_shards(tmp_path / "undisturbed"), strict=True
    ):
        assert_array_equal(one.codes, other.codes)


KILLED = """
import sys
import numpy as np
from skhash import LSHHasher, encode
X = np.load(sys.argv[1], mmap_mode="r")
hasher = LSHHasher(64, random_state=0).fit(X[:100])
encode(hasher, X, sys.argv[2], shard_size=2000, batch_size=500)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_and_started_again(tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(80_000, 16)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "rows.npy")]
    out = tmp_path / "out"
    running = subprocess.Popen([*command, str(out)])
    while running.poll() is None and not len(list(out.glob("codes-*.npy"))) > 2:
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    subprocess.run([*command, str(out)], check=True)
    subprocess.run([*command, str(tmp_path / "undisturbed")], check=True)
    assert content(out) == content(tmp_path / "undisturbed")


# Errors


def test_another_encoding_is_not_gone_on_with(hasher, tmp_path):
    encode(hasher, DIGITS, tmp_path, shard_size=500)
    other = LSHHasher(20, random_state=1).fit(DIGITS)
    message = "holds codes of another encoding: {}.*Give another folder as out, or remove"
    with pytest.raises(ValueError, match=message.format("learnt")):
        encode(other, DIGITS, tmp_path, shard_size=500)
    with pytest.raises(ValueError, match=message.format("file_format 'npy', got 'parquet'")):
        encode(hasher, DIGITS, tmp_path, shard_size=500, file_format="parquet")
    with pytest.raises(ValueError, match=message.format("method 'encode_database', got")):
        encode(hasher, DIGITS, tmp_path, shard_size=500, method="transform")
    with pytest.raises(ValueError, match=message.format("shard_size 500, got 400; source")):
        encode(hasher, DIGITS[1:], tmp_path, shard_size=400)


def test_what_does_not_matter_may_change(hasher, tmp_path):
    encode(hasher, DIGITS, tmp_path)
    hasher.save(tmp_path.parent / "hasher.safetensors")
    loaded = LSHHasher.load(tmp_path.parent / "hasher.safetensors", n_neighbors=3)
    loaded.set_database(DIGITS[:10], CLASSES[:10])
    encode(loaded, DIGITS, tmp_path, batch_size=100)


def test_a_deep_hasher_is_known_again(deep, images, tmp_path):
    encode(deep, images, tmp_path / "out")
    deep.save(tmp_path / "hasher.safetensors")
    encode(DeepRankingHasher.load(tmp_path / "hasher.safetensors"), images, tmp_path / "out")
    scenes, Y = make_digit_scenes(80, return_X_y=True, random_state=0)
    encode(clone(deep).fit(scenes, Y), images, tmp_path / "out")
    with pytest.raises(ValueError, match="another encoding: learnt"):
        encode(clone(deep).set_params(random_state=1).fit(scenes, Y), images, tmp_path / "out")


def test_a_folder_that_has_changed(deep, folder, tmp_path):
    source = tmp_path / "images"
    source.mkdir()
    for path in files_of(folder):
        (source / path.name).write_bytes(path.read_bytes())
    encode(deep, source, tmp_path / "out", shard_size=5)
    (source / "a00.png").rename(source / "z.png")
    with pytest.raises(ValueError, match=r"has changed since .* differ from those of shard 2"):
        encode(deep, source, tmp_path / "out", shard_size=5)
    (source / "z.png").rename(source / "a00.png")
    extra = (source / "zz.png").write_bytes((source / "a00.png").read_bytes())
    assert extra
    with pytest.raises(ValueError, match="differ from those of shard 4"):
        encode(deep, source, tmp_path / "out", shard_size=5)
    for path in sorted(source.iterdir())[10:]:
        path.unlink()
    with pytest.raises(ValueError, match="differ from those of shard 2"):
        encode(deep, source, tmp_path / "out", shard_size=5)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (DIGITS, {"n_workers": 2}, "n_workers=2 has no effect with engine='local'"),
        (DIGITS, {"columns": "x"}, "columns='x' names columns of Parquet files, got .* ndarray"),
        (DIGITS, {"ids": "x"}, "ids='x' names columns of Parquet"),
        (DIGITS, {"ids": [1, 2]}, r"ids should be integers or strings of shape \(1797,\)"),
        (DIGITS, {"ids": [1] * 1797}, "ids should be each of one item alone, got 1 1797 times"),
        (DIGITS[:0], {}, "source should have at least one row"),
        (DIGITS[0], {}, r"got an array of shape \(64,\)"),
        (["a", "b"], {}, "this LSHHasher takes feature rows"),
        ("nowhere", {}, "source='nowhere' should be a folder .* but there is nothing"),
        (__file__, {}, "should be a folder of images or of Parquet files"),
        (iter([DIGITS]), {"ids": [1]}, "ids are not taken with an iterable of batches"),
        ([{"x": 1}], {}, "should be X or a pair .*, got dict as batch 0"),
        ([DIGITS, 3], {}, "got int as batch 1"),
        ([DIGITS[0]], {}, r"got an array of shape \(64,\) as batch 0"),
        ([DIGITS, ([1], DIGITS[:1])], {}, "got integers as ids of batch 1 after no ids"),
        ([([1, 2], DIGITS[:1])], {}, r"ids should be integers or strings of shape \(1,\)"),
    ],
)
def test_errors(source, options, message, hasher, tmp_path):
    kind = FileNotFoundError if message.endswith("there is nothing") else ValueError
    with pytest.raises(kind, match=message):
        encode(hasher, source, tmp_path / "out", **options)


def test_more_errors(hasher, deep, folder, tmp_path):
    with pytest.raises(NotFittedError):
        encode(LSHHasher(), DIGITS, tmp_path)
    with pytest.raises(TypeError, match=r"source should be paths, a folder, .* got int"):
        encode(hasher, 3, tmp_path)
    with pytest.raises(ValueError, match=r"hold each path once, .* got 'a' 2 times"):
        encode(deep, ["a", "b", "a"], tmp_path)
    with pytest.raises(ValueError, match="ids are not taken with a folder"):
        encode(deep, folder, tmp_path, ids=[1])
    with pytest.raises(ValueError, match=r"out=.* one that holds 'notes\.txt'|holds 'b'|holds"):
        encode(deep, folder, folder)
    with pytest.raises(FileNotFoundError):
        encode(hasher, DIGITS, tmp_path / "missing" / "out")
    with pytest.raises(FileNotFoundError, match=r"has no _manifest\.json"):
        read_shards(tmp_path / "missing")


def test_errors_of_parquet(hasher, tmp_path):
    names = [*map(str, range(len(DIGITS)))]
    rows = write_rows(tmp_path / "rows.parquet", DIGITS, ids=names)
    with pytest.raises(ValueError, match=r"columns should be one column of strings, .*'x0': 'n"):
        encode(hasher, rows, tmp_path / "out")
    with pytest.raises(ValueError, match="should have a column 'y', got columns"):
        encode(hasher, rows, tmp_path / "out", columns=["x0", "y"])
    with pytest.raises(ValueError, match="ids should be the name of a column"):
        encode(hasher, rows, tmp_path / "out", ids=[1])
    with pytest.raises(ValueError, match="this LSHHasher takes feature rows"):
        encode(hasher, rows, tmp_path / "out", columns="name")
    parquet.write_table(pa.table({"x": [1.0, None]}), tmp_path / "nulls.parquet")
    with pytest.raises(ValueError, match="'x' of source should have no nulls, got 1 among 2"):
        encode(hasher, tmp_path / "nulls.parquet", tmp_path / "out")
    ragged = pa.table({"x": [[1.0], [1.0, 2.0]]})
    parquet.write_table(ragged, tmp_path / "ragged.parquet")
    with pytest.raises(ValueError, match="lists of one length, got lengths from 1 to 2"):
        encode(hasher, tmp_path / "ragged.parquet", tmp_path / "other")
