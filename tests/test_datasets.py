import io
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from skhash import datasets
from skhash.datasets import fetch_mirflickr25k, make_digit_scenes, retrieval_split

N_IMAGES = 6


@pytest.fixture
def photographs():
    """Smooth images, so that JPEG hardly changes them; of different sizes."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(N_IMAGES):
        small = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        images.append(Image.fromarray(small).resize((20 + i, 16), Image.Resampling.BICUBIC))
    return images


@pytest.fixture
def labels():
    return {"baby": [2, 4], "baby_r1": [4], "sea": [1, 2, 6]}


@pytest.fixture
def folder(tmp_path, monkeypatch, photographs, labels):
    """The layout of the unpacked official archives, with few images."""
    monkeypatch.setattr(datasets, "_N_MIRFLICKR", N_IMAGES)
    root = tmp_path / "official"
    (root / "mirflickr" / "meta").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number, image in enumerate(photographs, 1):
        image.save(root / "mirflickr" / f"im{number}.jpg", quality=95)
    (root / "mirflickr" / "meta" / "README.txt").write_text("How this was made\n")
    for name, numbers in labels.items():
        (root / "annotations" / f"{name}.txt").write_text("".join(f"{n}\r\n" for n in numbers))
    return root


@pytest.fixture
def pack(tmp_path, folder, labels):
    """The same data as a pack."""
    files = [(folder / "mirflickr" / f"im{n}.jpg").read_bytes() for n in range(1, N_IMAGES + 1)]
    target = np.zeros((N_IMAGES, len(labels)), np.uint8)
    for column, numbers in enumerate(labels.values()):
        target[np.array(numbers) - 1, column] = 1
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": target,
        "label_names": np.array(list(labels)),
        "image_id": np.arange(1, N_IMAGES + 1),
    }
    path = tmp_path / "pack.npz"
    np.savez(path, **arrays)
    return path, arrays


def test_folder_and_pack_hold_the_same(folder, pack, labels):
    from_folder = fetch_mirflickr25k(folder, image_size=16)
    from_pack = fetch_mirflickr25k(str(pack[0]), image_size=16)
    assert from_folder.keys() == from_pack.keys()
    for name in from_folder:
        np.testing.assert_array_equal(from_folder[name], from_pack[name], err_msg=name)
    assert from_folder.target_names.tolist() == sorted(labels)
    assert [np.flatnonzero(column).tolist() for column in from_folder.target.T] == [
        [n - 1 for n in numbers] for numbers in labels.values()
    ]


def test_images_are_resized_whole(folder, photographs):
    data = fetch_mirflickr25k(folder, image_size=16)
    assert data.images.shape == (N_IMAGES, 16, 16, 3)
    assert data.images.dtype == np.uint8
    for image, photograph in zip(data.images, photographs, strict=True):
        expected = np.asarray(photograph.resize((16, 16)), dtype=float)
        # A crop would be off by far more than what JPEG changes.
        assert np.abs(image - expected).mean() < 4


def test_cache_is_written_once_and_mapped(folder, tmp_path, monkeypatch):
    cache = tmp_path / "images.npy"
    in_memory = fetch_mirflickr25k(folder, image_size=16).images
    first = fetch_mirflickr25k(folder, image_size=16, cache=cache, n_jobs=2).images
    assert isinstance(first, np.memmap)
    np.testing.assert_array_equal(first, in_memory)
    monkeypatch.setattr(datasets, "_decode", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(
        fetch_mirflickr25k(folder, image_size=16, cache=cache).images, in_memory
    )
    with pytest.raises(ValueError, match=r"cache .* should hold uint8 images of shape \(6, 8, 8"):
        fetch_mirflickr25k(folder, image_size=8, cache=cache)


def test_half_written_cache_is_not_used(folder, tmp_path, monkeypatch):
    cache = tmp_path / "images.npy"
    decode = datasets._decode

    def failing(file, image_id, size):
        if image_id == 4:
            raise KeyboardInterrupt
        return decode(file, image_id, size)

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "_decode", failing)
        with pytest.raises(KeyboardInterrupt):
            fetch_mirflickr25k(folder, image_size=16, cache=cache)
    assert not cache.exists()
    images = fetch_mirflickr25k(folder, image_size=16, cache=cache).images
    assert images[3:].any(axis=(1, 2, 3)).all()


def test_nothing_there_says_where_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"not at .*nowhere.*https://press\.liacs\.nl"):
        fetch_mirflickr25k(tmp_path / "nowhere")
    monkeypatch.setenv("SKHASH_MIRFLICKR25K", str(tmp_path / "named"))
    with pytest.raises(FileNotFoundError, match="named"):
        fetch_mirflickr25k()
    monkeypatch.delenv("SKHASH_MIRFLICKR25K")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "home"))):
        fetch_mirflickr25k()


def test_incomplete_folder_is_named(folder):
    for file in (folder / "annotations").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="no annotation files"):
        fetch_mirflickr25k(folder)
    (folder / "mirflickr" / "im3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"got 5 images \(im3\.jpg lacks\)"):
        fetch_mirflickr25k(folder)


def test_image_that_is_none_is_named(folder):
    (folder / "mirflickr" / "im5.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="Image 5 of MIRFLICKR-25K cannot be decoded"):
        fetch_mirflickr25k(folder, image_size=16)


def test_damaged_pack_is_refused(pack, tmp_path):
    _, arrays = pack
    path = tmp_path / "damaged.npz"
    np.savez(path, **{k: v for k, v in arrays.items() if k != "labels"})
    with pytest.raises(ValueError, match=r"should hold the arrays .*; labels lack"):
        fetch_mirflickr25k(path)
    np.savez(path, **arrays | {"jpeg": arrays["jpeg"][:-5]})
    with pytest.raises(ValueError, match=r"is damaged: 7 offsets"):
        fetch_mirflickr25k(path)
    path.write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match=r"not a readable \.npz pack"):
        fetch_mirflickr25k(path)


def test_scenes_are_what_the_docstring_says():
    scenes = make_digit_scenes(n_samples=200, image_size=24, max_digits=3, random_state=0)
    assert scenes.images.shape == (200, 24, 24, 3)
    assert scenes.images.dtype == np.uint8
    assert set(scenes.target.sum(axis=1)) == {1, 2, 3}
    assert scenes.target.any(axis=0).all()
    images, target = make_digit_scenes(
        n_samples=200, image_size=24, max_digits=3, return_X_y=True, random_state=0
    )
    np.testing.assert_array_equal(images, scenes.images)
    np.testing.assert_array_equal(target, scenes.target)


def test_scenes_depend_on_the_seed_alone():
    first, again, other = (make_digit_scenes(20, random_state=seed).images for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_labels_name_the_digits_that_are_drawn():
    # The ink of a lone digit, cut out where the scene is bright, is one of its class.
    digits = load_digits()
    scenes = make_digit_scenes(30, image_size=16, max_digits=1, random_state=0)
    for image, labels in zip(scenes.images, scenes.target, strict=True):
        brightness = image.max(axis=2).astype(float) / 255
        windows = np.lib.stride_tricks.sliding_window_view(brightness, (8, 8)).reshape(-1, 64)
        distances = ((windows[:, None] - digits.data[None] / 16) ** 2).sum(axis=2)
        nearest = digits.target[distances.min(axis=0).argmin()]
        assert labels[nearest] == 1


@pytest.mark.parametrize("n_train", [None, 30])
def test_split_is_a_partition(n_train):
    split = retrieval_split(np.zeros((50, 3)), n_queries=12, n_train=n_train, random_state=0)
    assert len(split.query) == 12
    np.testing.assert_array_equal(np.sort(np.r_[split.query, split.database]), np.arange(50))
    assert len(np.unique(split.train)) == (n_train or 38)
    assert np.isin(split.train, split.database).all()


def test_split_is_random_and_reproducible():
    first, again, other = (
        retrieval_split(100, n_queries=20, n_train=30, random_state=seed) for seed in (0, 0, 1)
    )
    for name in ("query", "database", "train"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()
    # The training set is not just the head of the sorted database.
    assert (first.train != first.database[:30]).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_queries": 10}, "n_queries should be less than n_samples.*n_queries=10, n_samples=10"),
        ({"n_queries": 4, "n_train": 7}, "n_train should be at most .*=6, got n_train=7"),
        ({"n_queries": 0}, "The 'n_queries' parameter of retrieval_split must be an int"),
    ],
)
def test_split_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        retrieval_split(10, **kwargs)


def test_encoded_bytes_are_decoded_as_files_are(folder):
    path = folder / "mirflickr" / "im1.jpg"
    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    assert io.BytesIO(encoded).read() == path.read_bytes()
    np.testing.assert_array_equal(
        datasets._decode(encoded, 1, (16, 16)), datasets._decode(path, 1, (16, 16))
    )
