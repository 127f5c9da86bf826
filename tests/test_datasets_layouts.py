"""Data sets in their official layouts, as tiny made-up copies."""

import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skhash.datasets import fetch_cifar10, fetch_coco, fetch_nus_wide, fetch_voc

SIDE = 16


def write_image(path, value):
    """An image of one colour, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 24), (value, value, value)).save(path, quality=95)


def write_lines(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())


def colours(data):
    return [int(value) for value in data.images.mean(axis=(1, 2, 3)).round()]


def same_colours(data, expected):
    assert data.images.shape == (len(expected), SIDE, SIDE, 3)
    assert data.images.dtype == np.uint8
    np.testing.assert_allclose(colours(data), expected, atol=2)


def same_data(one, another):
    assert one.keys() == another.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], another[name], err_msg=name)


# NUS-WIDE.

NUS_NAMES = ["actor/0001_11", "beach/0002_22", "beach/0003_33", "zoo/0004_44", "zoo/0005_55"]
NUS_CONCEPTS = [f"concept{number:02d}" for number in range(81)]


@pytest.fixture
def nus_wide(tmp_path):
    """Five images; concept 60 to 80 are frequent, concept 0 is the only label of the last."""
    root = tmp_path / "NUS-WIDE"
    target = np.zeros((5, 81), int)
    target[:3, 60:] = 1
    target[3, 80] = 1
    target[4, 0] = 1
    lists = root / "ImageList"
    official = [f"{name}.jpg".replace("/", "\\") for name in NUS_NAMES]
    write_lines(lists / "Imagelist.txt", official, "\r\n")
    write_lines(lists / "TrainImagelist.txt", [official[row] for row in (0, 2, 4)], "\r\n")
    write_lines(lists / "TestImagelist.txt", [official[row] for row in (1, 3)], "\r\n")
    truth = root / "Groundtruth"
    for column, concept in enumerate(NUS_CONCEPTS):
        write_lines(truth / "AllLabels" / f"Labels_{concept}.txt", target[:, column])
        for part, rows in (("Train", [0, 2, 4]), ("Test", [1, 3])):
            file = truth / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
            write_lines(file, target[rows, column])
    for row, name in enumerate(NUS_NAMES):
        write_image(root / "Flickr" / f"{name}.jpg", 40 * row)
    return root, target


def test_nus_wide_with_all_labels(nus_wide):
    root, target = nus_wide
    data = fetch_nus_wide(root)
    np.testing.assert_array_equal(data.target, target)
    assert data.target.dtype == np.uint8
    assert data.target_names.tolist() == NUS_CONCEPTS
    assert data.image_id.tolist() == [f"{name}.jpg" for name in NUS_NAMES]
    assert [Path(path) for path in data.images] == [
        root / "Flickr" / f"{name}.jpg" for name in NUS_NAMES
    ]
    assert (data.train.tolist(), data.test.tolist()) == ([0, 2, 4], [1, 3])
    same_colours(fetch_nus_wide(str(root), image_size=SIDE), [0, 40, 80, 120, 160])


def test_nus_wide_with_frequent_labels(nus_wide):
    root, target = nus_wide
    data = fetch_nus_wide(root, n_labels=21)
    assert data.target_names.tolist() == NUS_CONCEPTS[60:]
    np.testing.assert_array_equal(data.target, target[:4, 60:])
    assert (data.train.tolist(), data.test.tolist()) == ([0, 2], [1, 3])
    # The image that is left out need not be there.
    (root / "Flickr" / "zoo" / "0005_55.jpg").unlink()
    same_data(fetch_nus_wide(root, n_labels=21), data)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("0\n1\n", "got 2 values"),
        ("0\n1\n2\n0\n0\n", "got 5 values, '2' among them"),
        ("", "got 0 values"),
    ],
)
def test_nus_wide_labels_that_do_not_fit(nus_wide, text, got):
    root, _ = nus_wide
    (root / "Groundtruth" / "AllLabels" / "Labels_concept03.txt").write_text(text)
    message = rf"Labels_concept03\.txt should hold a 0 or 1 for each of the 5 images .*{got}"
    with pytest.raises(ValueError, match=message):
        fetch_nus_wide(root)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "Groundtruth/AllLabels/Labels_concept03.txt",
            r"AllLabels should hold 81 files Labels_\*\.txt, got 80\. Get",
        ),
        ("ImageList/Imagelist.txt", r"Imagelist\.txt should be a list of images.*https"),
        ("ImageList/TestImagelist.txt", r"TestImagelist\.txt should be a list of images.*https"),
        (
            "Flickr/beach/0003_33.jpg",
            r"Flickr should hold 5 images, got 4 of them \(beach/0003_33\.jpg lacks\)",
        ),
    ],
)
def test_nus_wide_that_lacks_a_file(nus_wide, file, message):
    root, _ = nus_wide
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        fetch_nus_wide(root)


def test_nus_wide_with_a_split_of_other_images(nus_wide):
    root, _ = nus_wide
    write_lines(root / "ImageList" / "TrainImagelist.txt", ["other\\0009_99.jpg"])
    with pytest.raises(ValueError, match=r"TrainImagelist\.txt should .* got 'other/0009_99\.jpg"):
        fetch_nus_wide(root)


# MS-COCO.


def annotations(images, marked):
    categories = [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
    return {
        "info": {},
        "images": [{"id": number, "file_name": name} for number, name in images.items()],
        "annotations": [
            {"id": n, "image_id": image, "category_id": kind, "iscrowd": n % 2}
            for n, (image, kind) in enumerate(marked)
        ],
        # In another order than that of their numbers.
        "categories": categories[::-1],
    }


@pytest.fixture(params=[2014, 2017])
def coco(tmp_path, request):
    """Three images of train, one of them without an object, and one of val."""
    year, root = request.param, tmp_path / "coco"
    parts = {
        "train": ({30: 120, 9: 40, 25: 80}, [(9, 13), (9, 1), (9, 1), (30, 13)]),
        "val": ({42: 200}, [(42, 1)]),
    }
    (root / "annotations").mkdir(parents=True)
    for part, (images, marked) in parts.items():
        prefix = f"COCO_{part}2014_" if year == 2014 else ""
        names = {number: f"{prefix}{number:012d}.jpg" for number in images}
        for number, colour in images.items():
            write_image(root / f"{part}{year}" / names[number], colour)
        file = root / "annotations" / f"instances_{part}{year}.json"
        file.write_text(json.dumps(annotations(names, marked)))
    return root, year


def test_coco(coco):
    root, year = coco
    data = fetch_coco(root, year=year, image_size=SIDE)
    same_colours(data, [40, 80, 120, 200])
    assert data.image_id.tolist() == [9, 25, 30, 42]
    assert data.target_names.tolist() == ["person", "stop sign"]
    assert data.target.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert (data.train.tolist(), data.val.tolist()) == ([0, 1, 2], [3])
    paths = fetch_coco(root, year=year).images
    assert [Path(path).parent.name for path in paths] == [f"train{year}"] * 3 + [f"val{year}"]


def change_annotations(coco, part, change):
    root, year = coco
    file = root / "annotations" / f"instances_{part}{year}.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_coco_annotations_that_lack_a_list(coco, key):
    change_annotations(coco, "val", lambda data: data.pop(key))
    message = rf"instances_val{coco[1]}\.json should hold lists 'images' .*'{key}'"
    with pytest.raises(ValueError, match=message):
        fetch_coco(coco[0], year=coco[1])


@pytest.mark.parametrize("wrong", [{"image_id": 7}, {"category_id": 2}])
def test_coco_annotations_of_something_else(coco, wrong):
    change_annotations(coco, "train", lambda data: data["annotations"][0].update(wrong))
    message = rf"instances_train{coco[1]}\.json should annotate .*got image (7|9) and category"
    with pytest.raises(ValueError, match=message):
        fetch_coco(coco[0], year=coco[1])


def test_coco_with_other_categories(coco):
    change_annotations(coco, "val", lambda data: data["categories"].pop(0))
    with pytest.raises(ValueError, match=r"should hold the same categories .*got 2 and 1"):
        fetch_coco(coco[0], year=coco[1])


def test_coco_annotations_that_are_cut_off(coco):
    root, year = coco
    file = root / "annotations" / f"instances_train{year}.json"
    file.write_text(file.read_text()[:-9])
    message = rf"instances_train{year}\.json should be the annotations of objects, a JSON file"
    with pytest.raises(ValueError, match=message):
        fetch_coco(root, year=year)


def test_coco_that_lacks_a_part(coco):
    root, year = coco
    other = 2017 if year == 2014 else 2014
    with pytest.raises(FileNotFoundError, match=rf"instances_train{other}\.json should be the"):
        fetch_coco(root, year=other)
    next((root / f"val{year}").iterdir()).unlink()
    with pytest.raises(FileNotFoundError, match=rf"val{year} should hold 1 images, got 0 of them"):
        fetch_coco(root, year=year)


# PASCAL VOC.

VOC_NAMES = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


def write_voc(root, year, part, labels):
    """`labels`: by image its values of cat and dog; -1 of all other kinds."""
    lists = root / f"VOC{year}" / "ImageSets" / "Main"
    write_lines(lists / f"{part}.txt", labels)
    for name in VOC_NAMES:
        column = {"cat": 0, "dog": 1}.get(name)
        values = {image: -1 if column is None else own[column] for image, own in labels.items()}
        lines = [f"{image} {value:2d}" for image, value in values.items()]
        write_lines(lists / f"{name}_{part}.txt", lines)
    for image in labels:
        write_image(root / f"VOC{year}" / "JPEGImages" / f"{image}.jpg", int(image[-3:]))


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit"
    trainval = {"000005": (1, -1), "000040": (1, 0), "000080": (-1, 1)}
    for year in (2007, 2012):
        write_voc(root, year, "trainval", trainval)
        write_voc(root, year, "train", {"000080": (-1, 1)})
        write_voc(root, year, "val", {"000005": (1, -1), "000040": (1, 0)})
    write_voc(root, 2007, "test", {"000120": (1, 1), "000200": (-1, -1)})
    return root


@pytest.mark.parametrize("given", ["..", ".", "VOC2007"])
def test_voc_2007(voc, given):
    data = fetch_voc(voc / given, image_size=SIDE)
    same_colours(data, [5, 40, 80, 120, 200])
    assert data.target_names.tolist() == VOC_NAMES
    cat, dog = VOC_NAMES.index("cat"), VOC_NAMES.index("dog")
    assert data.target[:, [cat, dog]].tolist() == [[1, 0], [1, 0], [0, 1], [1, 1], [0, 0]]
    assert data.target.sum() == 5
    assert data.image_id.tolist() == ["000005", "000040", "000080", "000120", "000200"]
    rows = [data[part].tolist() for part in ("train", "val", "test")]
    assert rows == [[2], [0, 1], [3, 4]]


def test_voc_labels_that_are_difficult(voc):
    data = fetch_voc(voc, difficult=True)
    assert data.target[:, VOC_NAMES.index("dog")].tolist() == [0, 1, 1, 1, 0]


def test_voc_without_a_test_set(voc):
    assert len(fetch_voc(voc, year=2012).target) == 3
    (voc / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    data = fetch_voc(voc)
    assert len(data.target) == 3
    assert data.test.tolist() == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cat_trainval", "000005  1\n000040 2\n", r"cat_trainval\.txt, line 2, .* got '000040 2'"),
        ("cat_trainval", "000005\n", r"cat_trainval\.txt, line 1, .* got '000005'"),
        ("cat_trainval", "000005 1\n", r"cat_trainval\.txt should name the 3 images of trainval"),
        ("train", "000006\n", r"train\.txt should name images of trainval\.txt, got '000006'"),
    ],
)
def test_voc_lists_that_do_not_fit(voc, name, text, message):
    (voc / "VOC2007" / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        fetch_voc(voc)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("ImageSets/Main/trainval.txt", r"trainval\.txt should be a list of images"),
        ("ImageSets/Main/dog_test.txt", r"dog_test\.txt should be a list of images with -1, 0"),
        ("JPEGImages/000040.jpg", r"JPEGImages should hold 5 images, .*\(000040\.jpg lacks\)"),
    ],
)
def test_voc_that_lacks_a_file(voc, file, message):
    (voc / "VOC2007" / file).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        fetch_voc(voc)


def test_voc_of_another_year(voc):
    with pytest.raises(FileNotFoundError, match=r"VOC2007 should hold VOCdevkit/VOC2012/Image"):
        fetch_voc(voc / "VOC2007", year=2012)


# CIFAR-10.

CIFAR_NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


@pytest.fixture
def batches():
    """Six batches of two images: values with their channels first, and classes."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (6, 2, 3072), dtype=np.uint8)
    return values, rng.integers(0, 10, (6, 2))


def cifar_names(suffix=""):
    return [f"data_batch_{number}{suffix}" for number in range(1, 6)] + [f"test_batch{suffix}"]


def write_pickled(root, batches, protocol=2):
    root.mkdir(parents=True)
    for name, values, classes in zip(cifar_names(), *batches, strict=True):
        batch = {b"batch_label": b"of one", b"labels": classes.tolist(), b"data": values}
        batch[b"filenames"] = [b"a.png", b"b.png"]
        (root / name).write_bytes(pickle.dumps(batch, protocol))
    meta = {b"num_cases_per_batch": 2, b"label_names": [n.encode() for n in CIFAR_NAMES]}
    (root / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    return root


def write_binary(root, batches):
    root.mkdir(parents=True)
    for name, values, classes in zip(cifar_names(".bin"), *batches, strict=True):
        (root / name).write_bytes(np.c_[classes.astype(np.uint8), values].tobytes())
    write_lines(root / "batches.meta.txt", [*CIFAR_NAMES, ""])
    return root


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar10(tmp_path, batches, protocol, inside):
    root = write_pickled(tmp_path / "cifar-10-batches-py", batches, protocol)
    data = fetch_cifar10(tmp_path if inside else root)
    assert data.images.shape == (12, 32, 32, 3)
    expected = batches[0].reshape(12, 3, 32, 32)
    np.testing.assert_array_equal(data.images.transpose(0, 3, 1, 2), expected)
    np.testing.assert_array_equal(data.target.argmax(axis=1), batches[1].ravel())
    assert data.target.sum(axis=1).tolist() == [1] * 12
    assert data.target_names.tolist() == CIFAR_NAMES
    assert (data.train.tolist(), data.test.tolist()) == (list(range(10)), [10, 11])


def test_cifar10_as_python_2_and_old_numpy_wrote_it(tmp_path, batches):
    # Strings are the opcodes of str of Python 2, and arrays name a module that NumPy has moved.
    root = write_pickled(tmp_path / "cifar-10-batches-py", batches)
    for name, values, classes in zip(cifar_names(), *batches, strict=True):
        body = b"".join(b"I%d\n" % value for value in classes)
        array = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
            b"(I1\n(I2\nI3072\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
            b"I00\nS" + repr(values.tobytes())[1:].encode() + b"\ntb"
        )
        text = b"(S'data'\n" + array + b"S'labels'\n(" + body + b"ld."
        (root / name).write_bytes(text)
    data = fetch_cifar10(root)
    np.testing.assert_array_equal(
        data.images.transpose(0, 3, 1, 2), batches[0].reshape(12, 3, 32, 32)
    )
    np.testing.assert_array_equal(data.target.argmax(axis=1), batches[1].ravel())


def test_cifar10_versions_hold_the_same(tmp_path, batches):
    pickled = fetch_cifar10(write_pickled(tmp_path / "py", batches))
    same_data(fetch_cifar10(write_binary(tmp_path / "bin", batches)), pickled)


class Harmful:
    """What runs code where it is unpickled without care."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return os.mkdir, (self.file,)


@pytest.mark.parametrize("name", ["data_batch_2", "batches.meta"])
def test_cifar10_runs_no_code(tmp_path, batches, name):
    root = write_pickled(tmp_path / "py", batches)
    trace = tmp_path / "trace"
    (root / name).write_bytes(pickle.dumps({b"data": Harmful(trace)}, 2))
    message = rf"{name} should be a pickled batch of CIFAR-10, .*names \w+\.mkdir, which is not"
    with pytest.raises(ValueError, match=message):
        fetch_cifar10(root)
    assert not trace.exists()


def changed(batch, **changes):
    return {key: value for key, value in (batch | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "an array 'data' and a list 'labels', got NoneType and list"),
        ({"labels": None}, "an array 'data' and a list 'labels', got ndarray and NoneType"),
        ({"data": np.zeros((2, 3071), np.uint8)}, r"got uint8 of shape \(2, 3071\) and 2 labels"),
        ({"data": np.zeros((2, 3072))}, r"got float64 of shape \(2, 3072\)"),
        ({"labels": [1, 2, 3]}, r"of shape \(2, 3072\) and 3 labels"),
        ({"labels": [1, 10]}, "classes from 0 to 9, got others"),
        ({"labels": ["a", "b"]}, "classes from 0 to 9, got others"),
        (
            {"data": np.zeros((1, 3072), np.uint8), "labels": [0]},
            "as many images as the other batches, 2, got 1",
        ),
    ],
)
def test_cifar10_batch_that_does_not_fit(tmp_path, batches, changes, message):
    root = write_pickled(tmp_path / "py", batches)
    whole = {"data": batches[0][2], "labels": batches[1][2].tolist()}
    (root / "data_batch_3").write_bytes(pickle.dumps(changed(whole, **changes)))
    with pytest.raises(ValueError, match=rf"data_batch_3 should hold .*{message}"):
        fetch_cifar10(root)


@pytest.mark.parametrize("n_bytes", [0, 1, 1000, -1])
def test_cifar10_batch_that_is_cut_off(tmp_path, batches, n_bytes):
    pickled, binary = (
        write_pickled(tmp_path / "py", batches),
        write_binary(tmp_path / "bin", batches),
    )
    for root, name in ((pickled, "test_batch"), (binary, "test_batch.bin")):
        (root / name).write_bytes((root / name).read_bytes()[:n_bytes])
        with pytest.raises(ValueError, match=rf"{re.escape(name)} should "):
            fetch_cifar10(root)


def test_cifar10_binary_batch_that_lacks_an_image(tmp_path, batches):
    root = write_binary(tmp_path / "bin", batches)
    (root / "data_batch_4.bin").write_bytes((root / "data_batch_4.bin").read_bytes()[:3073])
    with pytest.raises(ValueError, match=r"data_batch_4\.bin should hold as many .*2, got 1"):
        fetch_cifar10(root)


def test_cifar10_that_lacks_a_batch(tmp_path, batches):
    root = write_pickled(tmp_path / "py", batches)
    (root / "data_batch_5").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_5 should be a batch .*got no file"):
        fetch_cifar10(root)


def test_cifar10_names(tmp_path, batches):
    root = write_pickled(tmp_path / "py", batches)
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat"]}))
    with pytest.raises(ValueError, match=r"batches\.meta should hold the names of 10 classes"):
        fetch_cifar10(root)
    (root / "batches.meta").write_bytes(pickle.dumps(["cat"]))
    with pytest.raises(ValueError, match=r"batches\.meta should hold a dict, got list"):
        fetch_cifar10(root)


# All of them.

ALL = {
    fetch_nus_wide: "nus-wide",
    fetch_coco: "coco",
    fetch_voc: "voc",
    fetch_cifar10: "cifar-10-",
}


@pytest.mark.parametrize("fetch", ALL)
def test_nothing_there_says_where_to_get_it(fetch, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"is not at .*nowhere\. Get .*http"):
        fetch(tmp_path / "nowhere")
    monkeypatch.setenv("SKHASH_DATA", str(tmp_path))
    (tmp_path / f"{ALL[fetch]}.zip").write_bytes(b"not unpacked")
    with pytest.raises(FileNotFoundError, match=rf"is not at .*{ALL[fetch]}\. Get"):
        fetch()
    with pytest.raises(NotADirectoryError, match=r"\.zip should be the folder of .*unpack"):
        fetch(tmp_path / f"{ALL[fetch]}.zip")
    (tmp_path / f"{ALL[fetch].upper()}X").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"{ALL[fetch].upper()}X.* should "):
        fetch()


@pytest.mark.parametrize(
    ("fetch", "params"),
    [
        (fetch_nus_wide, {"n_labels": 10}),
        (fetch_coco, {"year": 2007}),
        (fetch_voc, {"year": 2014}),
    ],
)
def test_parameters_that_are_not_known(fetch, params, tmp_path):
    with pytest.raises(
        ValueError, match=rf"The '{next(iter(params))}' parameter of {fetch.__name__}"
    ):
        fetch(tmp_path, **params)


def test_images_are_cached_or_named(nus_wide, tmp_path):
    root, _ = nus_wide
    cache = tmp_path / "images.npy"
    first = fetch_nus_wide(root, image_size=SIDE, cache=cache).images
    assert isinstance(first, np.memmap)
    for row, name in enumerate(NUS_NAMES):
        (root / "Flickr" / f"{name}.jpg").write_bytes(b"damaged" * row)
    np.testing.assert_array_equal(first, fetch_nus_wide(root, image_size=SIDE, cache=cache).images)
    with pytest.raises(
        ValueError, match=r"Image actor/0001_11\.jpg of NUS-WIDE cannot be decoded"
    ):
        fetch_nus_wide(root, image_size=SIDE)
    with pytest.raises(ValueError, match=r"image_size should be an int with a cache.*images\.npy"):
        fetch_nus_wide(root, cache=cache)
