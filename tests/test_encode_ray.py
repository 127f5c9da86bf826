"""`encode` with Ray: the files of one process, whatever dies on the way."""

import os
import signal
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from skhash import DeepRankingHasher, LSHHasher, encode
from skhash.datasets import make_digit_scenes

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

# Ray warns of its own parts.
pytestmark = pytest.mark.filterwarnings("ignore")

X = np.random.default_rng(0).normal(size=(5000, 8))


@pytest.fixture(scope="module")
def hasher():
    return LSHHasher(20, random_state=0).fit(X[:100])


@pytest.fixture(scope="module")
def cluster():
    """Ray as a user has set it up."""
    ray.init(num_cpus=3, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


def content(folder):
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def kill_an_actor(out):
    """Kill one of the processes that hold the hasher, once a shard is there."""
    while not list(out.glob("codes-*")):
        time.sleep(0.01)
    processes = psutil.Process().children(recursive=True)
    actors = [process for process in processes if "MapWorker" in "".join(process.cmdline())]
    os.kill(actors[0].pid, signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_an_actor_is_killed(hasher, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")[1000:]
    options = {"shard_size": 200, "batch_size": 40, "file_format": "parquet"}
    killer = threading.Thread(target=kill_an_actor, args=(tmp_path / "ray",))
    killer.start()
    encode(hasher, mapped, tmp_path / "ray", engine="ray", n_workers=2, **options)
    killer.join()
    # Ray was started for it, and stopped.
    assert not ray.is_initialized()
    encode(hasher, mapped, tmp_path / "local", **options)
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_sources(cluster, hasher, tmp_path):  # noqa: ARG001
    columns = {"name": [f"row {i}" for i in range(len(X))], "row": [*X]}
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=1700)
    options = {"ids": "name", "columns": "row", "file_format": "parquet", "shard_size": 900}
    for engine in ("local", "ray"):
        encode(hasher, tmp_path / "rows.parquet", tmp_path / engine, engine=engine, **options)
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_what_is_not_there_for_other_processes(cluster, hasher, tmp_path):  # noqa: ARG001
    with pytest.raises(ValueError, match=r"encode them with engine='local'"):
        encode(hasher, [X[:10], X[10:20]], tmp_path, engine="ray")


def test_images(cluster, tmp_path):  # noqa: ARG001
    images, Y = make_digit_scenes(40, return_X_y=True, random_state=0)
    hasher = DeepRankingHasher(12, hidden_size=16, image_size=32, max_epochs=1, random_state=0)
    hasher.set_params(encoding="joint", batch_size=4).fit(images, Y)
    (tmp_path / "images").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{number:03}.png")
    (tmp_path / "images" / "010.png").write_bytes(b"")
    options = {"on_error": "skip", "shard_size": 30}
    source, out = tmp_path / "images", tmp_path / "ray"
    encoded = encode(hasher, source, out, engine="ray", n_workers=1, **options)
    assert (encoded.n_codes, encoded.n_skipped) == (39, 1)
    encode(hasher, source, tmp_path / "local", **options)
    assert content(out) == content(tmp_path / "local")


def test_a_hasher_that_workers_cannot_load(cluster, hasher, tmp_path, monkeypatch):  # noqa: ARG001
    module = types.ModuleType("not_there_for_others")
    exec("from skhash import LSHHasher\nclass Own(LSHHasher): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    own = module.Own(20, random_state=0).fit(X[:100])
    with pytest.raises(Exception, match="cannot load the hasher") as raised:
        encode(own, X, tmp_path / "out", engine="ray")
    assert "No module named 'not_there_for_others'" in str(raised.value)
    encode(hasher, X, tmp_path / "other", engine="ray")
