import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from skhash.datasets import (
    _digits,
    _files,
    _mirflickr,
    fetch_mirflickr25k,
    make_digit_scenes,
    retrieval_split,
)

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
    """Image numbers of each of the 38 labels; most labels have none."""
    names = _mirflickr._MIRFLICKR_LABELS
    return {name: [] for name in names} | {"baby": [2, 4], "baby_r1": [4], "sea": [1, 2, 6]}


@pytest.fixture
def folder(tmp_path, monkeypatch, photographs, labels):
    """The layout of the unpacked official archives, with few images."""
    monkeypatch.setattr(_mirflickr, "_N_MIRFLICKR", N_IMAGES)
    root = tmp_path / "official"
    (root / "mirflickr" / "meta" / "tags").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number, image in enumerate(photographs, 1):
        image.save(root / "mirflickr" / f"im{number}.jpg", quality=95)
    (root / "mirflickr" / "meta" / "README.txt").write_text("How this was made\n")
    # Tags are whatever people wrote: a year looks like an image number.
    (root / "mirflickr" / "meta" / "tags" / "tags3.txt").write_text("2007\nparis\n")
    for name, numbers in labels.items():
        (root / "annotations" / f"{name}.txt").write_text("".join(f"{n}\r\n" for n in numbers))
    return root


@pytest.fixture
def pack(tmp_path, folder, labels):
    """The same data as a pack."""
    files = [(folder / "mirflickr" / f"im{n}.jpg").read_bytes() for n in range(1, N_IMAGES + 1)]
    target = np.zeros((N_IMAGES, len(labels)), np.uint8)
    for column, numbers in enumerate(labels.values()):
        target[[n - 1 for n in numbers], column] = 1
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
    assert from_folder.target.shape == (N_IMAGES, 38)
    assert "MIR 2008" in from_folder.DESCR
    assert [np.flatnonzero(column).tolist() for column in from_folder.target.T] == [
        [n - 1 for n in numbers] for numbers in labels.values()
    ]


def test_label_names_are_those_of_the_official_files():
    expected = """animals baby baby_r1 bird bird_r1 car car_r1 clouds clouds_r1 dog dog_r1 female
        female_r1 flower flower_r1 food indoor lake male male_r1 night night_r1 people people_r1
        plant_life portrait portrait_r1 river river_r1 sea sea_r1 sky structures sunset transport
        tree tree_r1 water"""
    assert expected.split() == _mirflickr._MIRFLICKR_LABELS


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
    monkeypatch.setattr(_files, "_decode", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(
        fetch_mirflickr25k(folder, image_size=16, cache=cache).images, in_memory
    )
    with pytest.raises(ValueError, match=r"cache .* should hold uint8 images of shape \(6, 8, 8"):
        fetch_mirflickr25k(folder, image_size=8, cache=cache)


def test_half_written_cache_is_not_used(folder, tmp_path, monkeypatch):
    (tmp_path / "caches").mkdir()
    cache = tmp_path / "caches" / "images.npy"
    decode = _files._decode

    def failing(file, image_id, size, name):
        if image_id == 4:
            raise KeyboardInterrupt
        return decode(file, image_id, size, name)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_decode", failing)
        with pytest.raises(KeyboardInterrupt):
            fetch_mirflickr25k(folder, image_size=16, cache=cache)
    # Neither a cache nor 1.2 GB of rubbish beside it.
    assert list(cache.parent.iterdir()) == []
    images = fetch_mirflickr25k(folder, image_size=16, cache=cache).images
    assert images[3:].any(axis=(1, 2, 3)).all()
    assert list(cache.parent.iterdir()) == [cache]


@pytest.mark.parametrize("n_bytes", [0, 40, -1])
def test_damaged_cache_is_named(folder, tmp_path, n_bytes):
    cache = tmp_path / "images.npy"
    np.save(cache, np.zeros((N_IMAGES, 16, 16, 3), np.uint8))
    cache.write_bytes(cache.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"The cache .*images\.npy is not a whole \.npy file"):
        fetch_mirflickr25k(folder, image_size=16, cache=cache)


def test_no_image_size_gives_paths(folder):
    paths = fetch_mirflickr25k(folder, image_size=None).images
    assert paths.shape == (N_IMAGES,)
    assert [path[-7:] for path in paths] == [f"im{n}.jpg" for n in range(1, N_IMAGES + 1)]
    for path, image in zip(paths, fetch_mirflickr25k(folder, image_size=16).images, strict=True):
        with Image.open(path) as file:
            expected = np.asarray(file.resize((16, 16), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(image, expected)


def test_no_image_size_needs_files(pack, folder, tmp_path):
    with pytest.raises(ValueError, match=r"image_size should be an int .*path='.*pack\.npz'"):
        fetch_mirflickr25k(pack[0], image_size=None)
    with pytest.raises(ValueError, match=r"image_size should be an int .*c\.npy"):
        fetch_mirflickr25k(folder, image_size=None, cache=tmp_path / "c.npy")


def test_nothing_there_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not at .*nowhere.*https://press\.liacs\.nl"):
        fetch_mirflickr25k(tmp_path / "nowhere")


@pytest.mark.parametrize("variable", ["SKHASH_DATA", "SCIKIT_LEARN_DATA"])
def test_default_is_looked_for_in_the_data_home(pack, tmp_path, monkeypatch, variable):
    monkeypatch.delenv("SKHASH_DATA", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "other"))
    monkeypatch.setenv(variable, str(home))
    (home / "mirflickr25k.zip").write_bytes(b"not unpacked")
    with pytest.raises(FileNotFoundError, match=re.escape(str(home / "mirflickr25k") + ". Get")):
        fetch_mirflickr25k()
    (home / "mirflickr25k_128.npz").write_bytes(pack[0].read_bytes())
    np.testing.assert_array_equal(
        fetch_mirflickr25k(image_size=16).target, pack[1]["labels"].astype(np.uint8)
    )


def test_incomplete_folder_is_named(folder):
    (folder / "annotations" / "sea.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"38 annotation files, got 37 \(sea\.txt lacks\).*https"
    ):
        fetch_mirflickr25k(folder)
    (folder / "mirflickr" / "im3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"got 5 images \(im3\.jpg lacks\)"):
        fetch_mirflickr25k(folder)


@pytest.mark.parametrize("line", ["0", "7", "-1", "1.5", "baby"])
def test_annotation_that_is_none_is_named(folder, line):
    (folder / "annotations" / "sea.txt").write_text(f"1\n{line}\n")
    message = rf"sea\.txt should list image numbers from 1 to 6, got '{re.escape(line)}'"
    with pytest.raises(ValueError, match=message):
        fetch_mirflickr25k(folder)


def test_image_that_is_none_is_named(folder):
    (folder / "mirflickr" / "im5.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="Image 5 of MIRFLICKR-25K cannot be decoded"):
        fetch_mirflickr25k(folder, image_size=16)


@pytest.mark.parametrize(
    "changed",
    [
        lambda a: {"jpeg": a["jpeg"][:-5]},
        lambda a: {"offsets": a["offsets"][:-1]},
        lambda a: {"offsets": a["offsets"][:0]},
        lambda a: {"offsets": a["offsets"] + np.eye(1, N_IMAGES + 1, dtype=int)[0]},
        lambda a: {"offsets": a["offsets"][[0, 2, 1, 3, 4, 5, 6]]},
        lambda a: {"labels": a["labels"][:-1]},
        lambda a: {"label_names": a["label_names"][:-1]},
        lambda a: {"image_id": a["image_id"][:-1]},
        lambda a: {"labels": a["labels"] * 2},
    ],
)
def test_pack_of_arrays_that_do_not_fit_is_refused(pack, tmp_path, changed):
    _, arrays = pack
    path = tmp_path / "damaged.npz"
    np.savez(path, **arrays | changed(arrays))
    with pytest.raises(ValueError, match=r"damaged\.npz is damaged: .*should"):
        fetch_mirflickr25k(path, image_size=16)


def test_pack_that_lacks_arrays_is_refused(pack, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, **{k: v for k, v in pack[1].items() if k != "labels"})
    with pytest.raises(
        ValueError, match=r"should hold the arrays .*; labels lack, got jpeg, offsets, label_names"
    ):
        fetch_mirflickr25k(path)


def test_archive_that_is_not_unpacked_is_refused(tmp_path):
    path = tmp_path / "mirflickr25k.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1, 8):
            archive.writestr(f"mirflickr/im{number}.jpg", b"")
    with pytest.raises(
        ValueError, match=r"got .*im5\.jpg, \.\.\.\. An official archive .*unpacked"
    ):
        fetch_mirflickr25k(path)


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "npy", "pickle"])
def test_pack_that_is_none_is_refused(pack, tmp_path, kind):
    whole = pack[0].read_bytes()
    path = tmp_path / "damaged.npz"
    path.write_bytes({"empty": b"", "text": b"PK no zip"}.get(kind, whole[: len(whole) // 2]))
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    if kind == "pickle":
        np.savez(path, **pack[1] | {"labels": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match=r"damaged\.npz is not a readable \.npz pack"):
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
    assert scenes.target_names.tolist() == list(range(10))
    assert "load_digits" in scenes.DESCR


@pytest.mark.parametrize("kwargs", [{"max_digits": 11}, {"image_size": 15}, {"subset": "half"}])
def test_scene_errors(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=f"The '{name}' parameter of make_digit_scenes must be"):
        make_digit_scenes(5, **kwargs)


def test_subsets_are_halves_of_each_class():
    classes = load_digits().target
    train, test = (_digits._digits_of_class(classes, subset) for subset in ("train", "test"))
    for label, (first, second) in enumerate(zip(train, test, strict=True)):
        assert abs(len(first) - len(second)) <= 1
        np.testing.assert_array_equal(np.r_[first, second], np.flatnonzero(classes == label))


@pytest.mark.parametrize("subset", ["train", "test"])
def test_scenes_show_digits_of_their_subset(monkeypatch, subset):
    digits = load_digits()
    rows = np.concatenate(_digits._digits_of_class(digits.target, subset))
    allowed = {ink.tobytes() for ink in digits.images[rows].astype(np.float32) / 16}
    drawn = []
    monkeypatch.setattr(_digits, "_draw", lambda _, ink, __: drawn.append(ink.tobytes()))
    make_digit_scenes(300, subset=subset, random_state=0)
    assert drawn
    assert set(drawn) <= allowed


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


@pytest.mark.parametrize(("n_train", "n_expected"), [(None, 19), (30, 30), (0.25, 10), (37, 37)])
def test_split_in_three_disjoint_parts(n_train, n_expected):
    split = retrieval_split(
        50, n_queries=12, n_train=n_train, train_in_database=False, random_state=0
    )
    parts = [split.query, split.train, split.database]
    assert [len(part) for part in parts] == [12, n_expected, 38 - n_expected]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(50))
    # The same seed draws the same queries and the same training set, whatever is ranked.
    other = retrieval_split(50, n_queries=12, n_train=n_expected, random_state=0)
    np.testing.assert_array_equal(split.query, other.query)
    np.testing.assert_array_equal(split.train, other.train)


def test_split_is_random_and_reproducible():
    first, again, other = (
        retrieval_split(100, n_queries=20, n_train=30, random_state=seed) for seed in (0, 0, 1)
    )
    for name in ("query", "database", "train"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()
    # The training set is not just the head of the sorted database.
    assert (first.train != first.database[:30]).any()


@pytest.mark.parametrize(("share", "n_queries"), [(0.25, 3), (0.3, 3), (0.01, 1)])
def test_split_by_share_rounds_up(share, n_queries):
    by_share, by_number = (
        retrieval_split(np.eye(10), n_queries=n, random_state=0) for n in (share, n_queries)
    )
    np.testing.assert_array_equal(by_share.query, by_number.query)
    np.testing.assert_array_equal(by_share.database, by_number.database)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"n_queries": 0.95},
            "n_queries should be less than n_samples.*n_queries=10, n_samples=10",
        ),
        ({"n_queries": 1.0}, "The 'n_queries' parameter of retrieval_split must be"),
        ({"n_queries": 10}, "n_queries should be less than n_samples.*n_queries=10, n_samples=10"),
        ({"n_queries": 4, "n_train": 7}, "n_train should be from 1 to 6, .* got n_train=7"),
        (
            {"n_queries": 4, "n_train": 6, "train_in_database": False},
            "n_train should be from 1 to 5, with 6 samples .*=False; got n_train=6",
        ),
        (
            {"n_queries": 9, "train_in_database": False},
            "n_train should be from 1 to 0, with 1 samples .* got n_train=0",
        ),
        ({"n_queries": 0}, "The 'n_queries' parameter of retrieval_split must be an int"),
    ],
)
def test_split_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        retrieval_split(10, **kwargs)
