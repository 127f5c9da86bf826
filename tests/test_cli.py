"""The command line: what each command writes and prints, and how it tells of mistakes."""

import csv
import html.parser
import json
import logging
import subprocess
import sys
from shutil import copytree

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.datasets import load_digits

import skhash
from skhash._cli._main import main
from skhash.codes import pack_codes
from skhash.export import read_faiss, read_parquet, write_parquet
from skhash.metrics import HammingHistogram, bootstrap_interval, paired_difference

COMMANDS = ("train", "encode", "search", "evaluate", "compare", "export", "info")
NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of images of three colours, labelled in several ways, and of rows."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    Y = rng.permuted(np.tile([[1, 0, 0], [0, 1, 1], [1, 1, 0]], (16, 1)))
    Y[~Y.any(axis=1), 0] = 1
    for sub in ("photos", "sorted"):
        (folder / sub).mkdir()
    rows = []
    for number, y in enumerate(Y):
        pixels = 200 * y + rng.integers(0, 50, (12, 16, 3))
        image = Image.fromarray(pixels.astype(np.uint8))
        image.save(folder / "photos" / f"{number:02d}.png")
        place = folder / "sorted" / NAMES[y.argmax()]
        place.mkdir(exist_ok=True)
        image.save(place / f"{number:02d}.png")
        rows.append([f"{number:02d}.png", *y])
    write_csv(folder / "sets.csv", [["file", *NAMES], *rows])
    names = [[file, ";".join(np.array(NAMES)[np.array(y) == 1])] for file, *y in rows]
    write_csv(folder / "names.csv", [["file", "labels"], *names])
    X, y = load_digits(return_X_y=True)
    np.save(folder / "X.npy", X[:300])
    np.save(folder / "y.npy", y[:300])
    return folder


@pytest.fixture(scope="module")
def models(folder):
    """Train a network on the images, and a hasher on the rows."""
    train_images(folder, "photos.model", "--labels", folder / "sets.csv")
    run("train", "--features", folder / "X.npy", "--labels", folder / "y.npy", "--hasher", "itq")(
        "--bits", 16, "--out", folder / "itq.model", "--quiet"
    )
    return folder


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def run(*first):
    """Return a function that runs a command with these and more arguments, to the end."""

    def more(*rest):
        assert main([str(arg) for arg in (*first, *rest)]) == 0

    return more


def train_images(folder, out, *args, images="photos"):
    run("train", "--images", folder / images, *args)(
        *("--bits", 8, "--network", "convnet", "--image-size", 16, "--epochs", 1, "--quiet"),
        *("--param", "hidden_size=16", "--param", "loss=ranking", "--out", folder / out),
    )


def said(capsys, *args):
    """Return what a command prints on standard output."""
    capsys.readouterr()
    run(*args)()
    return capsys.readouterr().out


def fault(capsys, *args, code=1):
    """Return the line that a command tells on standard error, when it fails."""
    capsys.readouterr()
    assert main([str(arg) for arg in args]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(capsys, command):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"examples:\n  skhash {command} " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_can_be_parsed(command):
    from skhash._cli._main import _COMMANDS, _parser

    (module,) = (module for module in _COMMANDS if command == module.NAME)
    for line in module.EXAMPLES.replace("\\\n", "").splitlines():
        assert _parser().parse_args(line.split()[1:]).command == command


def test_usage(capsys):
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err
    line = fault(capsys, "train", "--images", "x", "--out", "m", "--hold-out", "2", code=2)
    assert "it should be a number from 0 to below 1, got '2'" in line
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"skhash {skhash.__version__}\n"


def test_as_a_module(models):
    command = [sys.executable, "-m", "skhash", "info", models / "itq.model", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["hasher"] == "ITQHasher"
    assert done.stderr == ""


# --- train -------------------------------------------------------------------------------------


def test_train_reports_images_that_were_not_trained_on(folder, capsys):
    capsys.readouterr()
    train_images(folder, "a.model", "--labels", folder / "names.csv", "--hold-out", 0.25)
    report = json.loads(capsys.readouterr().out)
    assert (report["n_trained_on"], report["n_held_out"], report["n_bits"]) == (36, 12, 8)
    hasher = skhash.load(folder / "a.model")
    files = sorted(path.name for path in (folder / "photos").iterdir())
    held_out = np.setdiff1d(files, hasher.database_ids_)
    labels = dict(line.split(",") for line in (folder / "names.csv").read_text().splitlines())
    Y = [[name in labels[file].split(";") for name in hasher.classes_] for file in held_out]
    score = hasher.score([folder / "photos" / file for file in held_out], np.array(Y))
    assert report["ndcg@100"] == pytest.approx(score)
    low, high = report["interval"]
    assert low <= score <= high
    assert list(hasher.classes_) == sorted(NAMES)


def test_train_on_folders_of_classes(folder, capsys):
    train_images(folder, "classes.model", "--hold-out", 0, images="sorted")
    assert "ndcg@100" not in json.loads(capsys.readouterr().out)
    hasher = skhash.load(folder / "classes.model")
    assert set(hasher.classes_) <= set(NAMES)
    assert all(file.split("/")[0] in NAMES for file in hasher.database_ids_)
    assert len(hasher.database_ids_) == 48


def test_damaged_images(folder, tmp_path, capsys):
    copytree(folder / "sorted", tmp_path / "sorted")
    bad = tmp_path / "sorted" / "red" / "zz.png"
    bad.write_bytes(b"no image")
    args = ("train", "--images", tmp_path / "sorted", "--epochs", 1, "--out", tmp_path / "m")
    args = (*args, "--network", "convnet", "--image-size", 16, "--param", "hidden_size=16")
    assert "zz.png, which cannot be decoded" in fault(capsys, *args)
    run(*args, "--on-error", "skip")()
    assert f"skipped {bad}, which cannot be decoded" in capsys.readouterr().err
    run("encode", tmp_path / "m", tmp_path / "sorted", "--out", tmp_path / "c")(
        "--on-error", "skip"
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["n_skipped"] == 1
    assert "_skipped.csv names them" in err
    report = json.loads(said(capsys, "evaluate", tmp_path / "c", "folders", "--json"))
    assert report["n_queries"] == 48


FOUND = ("a-b/5.png", "a/1.PNG", "a/2.webp", "a/b.png/3.jp2", "a/b.png/4.jpeg", "c/6.Tiff")
NOT_FOUND = ("a/.7.png", ".d/8.png", "a/.e/9.png")


def test_commands_find_the_same_files(tmp_path, capsys):
    photos = tmp_path / "photos"
    for name in sorted((*FOUND, *NOT_FOUND)):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), tuple(name.encode()[-3:])).save(photos / name)
    for name in ("a/notes.txt", "c/rows.h5", "c/film.mpg", "c/jpg"):
        (photos / name).write_text("no image")
    (photos / "f").symlink_to(photos / "a")
    (photos / "a" / "g.png").symlink_to(photos / "c")
    (photos / "c" / "8.gif").symlink_to(photos / "c" / "6.Tiff")
    expected = sorted([*FOUND, "c/8.gif"], key=lambda name: name.split("/"))
    train_images(tmp_path, "m", "--hold-out", 0)
    assert skhash.load(tmp_path / "m").database_ids_.tolist() == expected
    run("encode", tmp_path / "m", photos, "--out", tmp_path / "codes")()
    assert skhash.export.read_shards(tmp_path / "codes").ids.tolist() == expected
    capsys.readouterr()
    args = ("search", tmp_path / "m", tmp_path / "codes", photos, "--images", photos, "--json")
    assert [section["query"] for section in json.loads(said(capsys, *args))] == expected


def test_folders_without_images(models, tmp_path, capsys):
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    for args in (
        ("train", "--images", tmp_path, "--out", tmp_path / "m"),
        ("encode", models / "photos.model", tmp_path, "--out", tmp_path / "codes"),
        ("search", models / "photos.model", models / "photos.model", tmp_path),
    ):
        message = f"{tmp_path} has no images: files of a format that Pillow reads, such as .jpg"
        assert message in fault(capsys, *args)
    for folder in (tmp_path / "nowhere", tmp_path / ".hidden.png"):
        line = fault(capsys, "train", "--images", folder, "--out", tmp_path / "m")
        assert line.endswith(f"{folder}: There is no such folder")


def test_both_forms_of_csv_say_the_same(folder):
    from skhash._cli._labels import read_labels

    names, sets = read_labels(folder / "names.csv"), read_labels(folder / "sets.csv")
    assert names.sets() == sets.sets()
    assert list(sets.y.columns) == list(NAMES)


def test_train_rows(models, capsys):
    args = ("train", "--features", models / "X.npy", "--out", models / "b.model", "--quiet")
    report = json.loads(said(capsys, *args, "--hasher", "spectral", "--bits", 8))
    assert report["hasher"] == "SpectralHasher"
    assert report["n_held_out"] == 0
    said(capsys, *args, "--labels", models / "y.npy", "--hasher", "KSH", "--param", "n_anchors=20")
    assert skhash.load(models / "b.model").n_anchors == 20


def test_train_a_hasher_of_ones_own(models, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_hasher.py").write_text(
        "from skhash import LSHHasher\n\n\nclass OwnHasher(LSHHasher):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    own = ("--hasher", "own_hasher:OwnHasher")
    args = ("--features", models / "X.npy", "--out", "own.model", "--bits", 8)
    assert json.loads(said(capsys, "train", *args, *own))["hasher"] == "OwnHasher"
    run("encode", "own.model", models / "X.npy", "--out", "codes", *own)()
    assert "X.npy:7" in said(capsys, "search", "own.model", "codes", models / "X.npy:7", *own)
    assert "OwnHasher, which is not part of skhash" in fault(capsys, "info", "own.model")


def test_checkpoint_goes_on(folder, tmp_path, capsys):
    args = ("--labels", folder / "sets.csv", "--checkpoint", tmp_path / "checkpoint")
    train_images(folder, "c.model", *args)
    about = json.loads(said(capsys, "info", tmp_path / "checkpoint", "--json"))
    assert about["kind"] == "checkpoint of a training"
    assert about["epochs_done"] == 1
    assert about["training"]["n_bits"] == "8"
    (tmp_path / "checkpoint" / "training.ckpt").write_bytes(b'{"identity": {}}\n')
    assert "damaged" in fault(capsys, "info", tmp_path / "checkpoint")


# --- encode and search -------------------------------------------------------------------------


def test_encode_and_search_images(models, tmp_path, capsys):
    encoded = json.loads(
        said(capsys, "encode", models / "photos.model", models / "photos", "--out", tmp_path / "c")
    )
    assert encoded["n_codes"] == 48
    args = ("search", models / "photos.model", tmp_path / "c", models / "photos" / "03.png")
    args = (*args, "--images", models / "photos", "--k", 5)
    (found,) = json.loads(said(capsys, *args, "--json", "--labels", models / "sets.csv"))
    hasher = skhash.load(models / "photos.model")
    files = sorted((models / "photos").iterdir())
    hasher.set_database(files, ids=[file.name for file in files])
    distances, ids = hasher.kneighbors([files[3]], 5)
    assert [result["id"] for result in found["results"]] == ids[0].tolist()
    assert [result["distance"] for result in found["results"]] == distances[0].tolist()
    for result in found["results"]:
        assert result["n_shared"] == len(set(result["labels"]) & set(found["labels"]))
    (weighted,) = json.loads(said(capsys, *args, "--json", "--asymmetric"))
    distances, ids = hasher.kneighbors([files[3]], 5, asymmetric=True)
    assert [result["id"] for result in weighted["results"]] == ids[0].tolist()
    assert "labels" not in weighted["results"][0]
    table = said(capsys, *args).splitlines()
    assert table[2].split() == ["query", "rank", "distance", "id"]
    assert len(table) == 9


class Page(html.parser.HTMLParser):
    """The tags of a page, and that all of them are closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def count(self, tag, word=""):
        return sum(name == tag and word in attrs.get("class", "") for name, attrs in self.tags)


def test_page_of_results(models, tmp_path, capsys):
    out, photos = tmp_path / "found.html", models / "photos"
    args = ("search", models / "photos.model", models / "photos.model", "--html", out, "--k", 6)
    assert said(capsys, *args, photos / "01.png", photos / "02.png", "--images", photos) == ""
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert (page.count("section"), page.count("li"), page.count("img")) == (2, 12, 14)
    assert all(
        attrs["src"].startswith("data:image/jpeg;base64,") and attrs["loading"] == "lazy"
        for tag, attrs in page.tags
        if tag == "img"
    )
    # Nothing of it is anywhere else.
    assert not [attrs for tag, attrs in page.tags if tag in ("script", "link", "iframe")]
    assert "http" not in text
    assert page.count("li", "hit") + page.count("li", "miss") == 12
    assert len(text) < 60_000
    assert "prefers-color-scheme:dark" in text


def test_page_without_labels_or_pictures(models, tmp_path, capsys):
    out, photos = tmp_path / "found.html", models / "photos"
    run("encode", models / "photos.model", photos, "--out", tmp_path / "codes", "--quiet")()
    args = ("search", models / "photos.model", tmp_path / "codes", photos / "01.png")
    capsys.readouterr()
    run(*args, "--html", out)()
    assert "10 pictures were not found: give the folder of the ids" in capsys.readouterr().err
    page = Page(out.read_text(encoding="utf-8"))
    assert page.open == []
    assert (page.count("img"), page.count("div", "none"), page.count("span", "mark")) == (1, 10, 0)


def test_page_escapes_what_it_shows(tmp_path):
    from skhash._cli._page import Page as Shown
    from skhash._cli._page import Result, Section, write_page

    evil, labels = "<script>'\"&", frozenset(["<b>"])
    section = Section(evil, None, labels, [Result(evil, 1, labels)])
    write_page(tmp_path / "p.html", Shown("", [section]))
    page = Page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.count("script") == 0


def test_search_rows(models, tmp_path, capsys):
    args = ("search", models / "itq.model", models / "itq.model", f"{models / 'X.npy'}:0:3")
    found = json.loads(said(capsys, *args, "--json", "--k", 2))
    assert [len(query["results"]) for query in found] == [2, 2, 2]
    X, hasher = np.load(models / "X.npy"), skhash.load(models / "itq.model")
    _, rows = hasher.kneighbors(X[:3], 2)
    assert [[r["id"] for r in query["results"]] for query in found] == rows.tolist()
    codes = pack_codes(hasher.encode_database(X))
    write_parquet(tmp_path / "c.parquet", codes, n_bits=16, ids=[f"row {i}" for i in range(300)])
    args = ("search", models / "itq.model", tmp_path / "c.parquet", f"{models / 'X.npy'}:7")
    (query,) = json.loads(said(capsys, *args, "--json", "--k", 1))
    assert query["query"].endswith("X.npy:7")
    assert query["results"][0]["distance"] == 0


# --- evaluate and compare ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(models):
    """Write codes and labels in every form."""
    hasher = skhash.load(models / "itq.model")
    X, y = np.load(models / "X.npy"), np.load(models / "y.npy")
    bits = hasher.encode_database(X)
    folder = models / "forms"
    folder.mkdir()
    np.save(folder / "bits.npy", bits)
    np.save(folder / "bool.npy", bits.astype(bool))
    np.save(folder / "signs.npy", 2.0 * bits - 1)
    np.save(folder / "packed.npy", pack_codes(bits))
    write_parquet(folder / "codes.parquet", pack_codes(bits), n_bits=16)
    skhash.export.write_faiss(folder / "codes.faiss", pack_codes(bits), n_bits=16)
    skhash.neighbors.HammingNeighbors().fit(bits).save(folder / "search")
    write_foreign_parquet(folder, bits, y)
    write_csv(folder / "y.csv", [["row", "digit"], *enumerate(y)])
    np.save(folder / "Y.npy", y[:, None] == np.arange(10))
    np.save(folder / "y.npy", y)
    return folder


def write_foreign_parquet(folder, bits, y):
    import pyarrow as pa
    from pyarrow import parquet

    columns = {f"b{i}": bits[:, i] for i in range(bits.shape[1])}
    tables = {
        "columns": columns,
        "lists": {"id": [f"i{i}" for i in range(len(y))], "code": bits.tolist()},
        "bytes": {"code": [row.tobytes() for row in pack_codes(bits)]},
        "labels": {"id": [f"i{i}" for i in range(len(y))], "names": [[str(k)] for k in y]},
    }
    for name, table in tables.items():
        parquet.write_table(pa.table(table), folder / f"{name}.parquet")


@pytest.mark.parametrize(
    ("codes", "labels", "bits"),
    [
        ("bits.npy", "y.npy", None),
        ("bits.npy", "Y.npy", None),
        ("bits.npy", "y.csv", 16),
        ("bool.npy", "labels.parquet", None),
        ("signs.npy", "y.npy", None),
        ("packed.npy", "y.npy", 16),
        ("codes.parquet", "y.npy", None),
        ("codes.faiss", "y.csv", None),
        ("search", "y.csv", None),
        ("columns.parquet", "y.npy", None),
        ("lists.parquet", "labels.parquet", None),
        ("bytes.parquet", "y.npy", 16),
    ],
)
def test_evaluate_takes_codes_and_labels_of_any_source(files, capsys, codes, labels, bits):
    args = ["evaluate", files / codes, files / labels, "--json", "--k", 10, "all", "--radius", 2]
    args += ["--metrics", "ndcg", "weighted_average_precision"]
    report = json.loads(said(capsys, *args, *(["--bits", bits] if bits else [])))
    bits, y = np.load(files / "bits.npy"), np.load(files / "y.npy")
    histogram = HammingHistogram.leave_one_out(bits, y)
    assert (report["n_bits"], report["n_queries"]) == (16, 300)
    assert report["protocol"] == "leave_one_out"
    assert len(report["metrics"]) == 3 * 2
    for row in report["metrics"]:
        cut = {"radius": 2} if "radius" in row else {"k": row["k"]}
        values = histogram.evaluate(row["metric"], **cut)
        assert row["mean"] == pytest.approx(values.mean())
        assert row["interval"] == pytest.approx(bootstrap_interval(values, random_state=0))


def test_evaluate_queries_over_a_database(files, tmp_path, capsys):
    bits, y = np.load(files / "bits.npy"), np.load(files / "y.npy")
    for name, part in (("q", slice(50)), ("d", slice(50, None))):
        np.save(tmp_path / f"{name}.npy", bits[part])
        np.save(tmp_path / f"{name}y.npy", y[part])
    args = ("evaluate", tmp_path / "d.npy", tmp_path / "dy.npy", "--queries", tmp_path / "q.npy")
    args = (*args, "--query-labels", tmp_path / "qy.npy", "--metrics", "ndcg", "--k", 20)
    report = json.loads(said(capsys, *args, "--json"))
    expected = skhash.metrics.ndcg_score(bits[:50], y[:50], bits[50:], y[50:], k=20)
    assert report["metrics"][0]["mean"] == pytest.approx(expected)
    table = said(capsys, *args)
    assert table.startswith("16 bits, 50 queries, 250 items\n")
    assert f"{expected:.4f}" in table


def test_evaluate_a_model(models, capsys):
    report = json.loads(said(capsys, "evaluate", models / "photos.model", "--json"))
    hasher = skhash.load(models / "photos.model")
    codes = skhash.codes.unpack_codes(hasher.database_codes_, 8)
    labels = skhash.codes.unpack_codes(hasher.database_labels_, 3)
    values = HammingHistogram.leave_one_out(codes, labels).ndcg(k=100)
    assert report["metrics"][0]["mean"] == pytest.approx(values.mean())
    names = {
        name.removesuffix("_score") for name in skhash.metrics.__all__ if name.endswith("_score")
    }
    assert {row["metric"] for row in report["metrics"]} == names


def test_compare(files, tmp_path, capsys):
    bits, y = np.load(files / "bits.npy"), np.load(files / "y.npy")
    noisy = bits ^ (np.random.default_rng(0).random(bits.shape) < 0.1)
    np.save(tmp_path / "noisy.npy", noisy)
    args = ("compare", f"ITQ={files / 'bits.npy'}", tmp_path / "noisy.npy")
    args = (*args, "--labels", files / "y.npy", "--metrics", "ndcg", "precision", "--k", 5)
    report = json.loads(said(capsys, *args, "--format", "json"))
    values = [HammingHistogram.leave_one_out(codes, y).ndcg(k=5) for codes in (bits, noisy)]
    expected = paired_difference(values[1], values[0], random_state=0)
    row = report["differences"][0]
    assert (report["baseline"], row["method"], row["metric"]) == ("ITQ", "noisy", "ndcg")
    assert [row["difference"], *row["interval"], row["p_value"]] == pytest.approx(list(expected))
    assert [m["mean"] for m in report["metrics"][::2]] == pytest.approx([v.mean() for v in values])
    mean = f"{values[0].mean():.4f}"
    assert f"| ITQ    | {mean} [" in said(capsys, *args, "--format", "markdown")
    run(*args, "--format", "latex", "--out", tmp_path / "t.tex")()
    latex = (tmp_path / "t.tex").read_text()
    assert f"ITQ    & {mean} [" in latex
    assert "$-$0." in latex
    assert latex.count(r"\toprule") == latex.count(r"\end{tabular}") == 2
    page = Page(said(capsys, *args, "--format", "html"))
    assert page.open == []
    assert page.count("table") == 2
    swapped = json.loads(said(capsys, *args, "--format", "json", "--baseline", "noisy"))
    assert swapped["differences"][0]["difference"] == pytest.approx(-row["difference"])


def test_compare_goes_by_ids(files, tmp_path, capsys):
    bits = np.load(files / "bits.npy")
    order = np.random.default_rng(0).permutation(len(bits))
    for name, rows in (("a", np.arange(len(bits))), ("b", order)):
        ids = [f"i{row}" for row in rows]
        write_parquet(tmp_path / f"{name}.parquet", pack_codes(bits[rows]), n_bits=16, ids=ids)
    args = ("compare", tmp_path / "a.parquet", tmp_path / "b.parquet", "--format", "json")
    report = json.loads(said(capsys, *args, "--labels", files / "labels.parquet"))
    assert all(row["difference"] == 0 and row["p_value"] == 1 for row in report["differences"])


# --- export and info ---------------------------------------------------------------------------


def test_export(models, tmp_path, capsys):
    hasher = skhash.load(models / "photos.model")
    for name in ("p.parquet", "p.faiss", "p.onnx"):
        run("export", models / "photos.model", tmp_path / name, "--quiet")()
    stored = read_parquet(tmp_path / "p.parquet")
    assert_array_equal(stored.codes, hasher.database_codes_)
    assert_array_equal(stored.ids, hasher.database_ids_)
    assert_array_equal(read_faiss(tmp_path / "p.faiss", n_bits=8).codes, hasher.database_codes_)
    assert (tmp_path / "p.onnx").stat().st_size > 0
    (tmp_path / "ids.txt").write_text("\n".join(map(str, range(1000, 1300))))
    bits = skhash.load(models / "itq.model").encode_database(np.load(models / "X.npy"))
    np.save(tmp_path / "bits.npy", bits)
    run("export", tmp_path / "bits.npy", tmp_path / "b.parquet", "--ids", tmp_path / "ids.txt")()
    assert read_parquet(tmp_path / "b.parquet").ids[0] == "1000"
    lancedb = pytest.importorskip("lancedb")
    run("export", models / "photos.model", tmp_path / "p.lance", "--table", "photos")()
    stored = skhash.export.read_lancedb(lancedb.connect(tmp_path / "p.lance"), "photos")
    assert sorted(stored.ids) == sorted(hasher.database_ids_)
    line = fault(capsys, "export", models / "itq.model", "postgresql://localhost:1/none")
    assert "postgresql://localhost:1/none: connection failed" in line
    line = fault(capsys, "export", models / "itq.model", tmp_path / "x.onnx")
    assert "A ITQHasher is no network" in line
    assert "got 'codes.txt'" in fault(capsys, "export", models / "itq.model", "codes.txt")


def test_info(models, capsys):
    about = json.loads(said(capsys, "info", models / "photos.model", "--json"))
    assert (about["hasher"], about["n_bits"], about["input"]) == ("DeepRankingHasher", 8, "images")
    assert about["labels"] == list(NAMES)
    assert about["params"]["hidden_size"] == 16
    text = said(capsys, "info", models / "itq.model")
    assert "n_features  64" in text
    assert "ITQHasher" in text


# --- mistakes ----------------------------------------------------------------------------------


def test_missing_files(models, tmp_path, capsys):
    gone = tmp_path / "gone"
    model = models / "photos.model"
    for args in (
        ("info", gone),
        ("train", "--images", gone, "--out", tmp_path / "m"),
        ("train", "--images", models / "photos", "--labels", gone, "--out", tmp_path / "m"),
        ("train", "--features", gone, "--out", tmp_path / "m", "--hasher", "itq"),
        ("encode", gone, models / "photos", "--out", tmp_path / "c"),
        ("encode", model, gone, "--out", tmp_path / "c"),
        ("search", model, gone, models / "photos"),
        ("search", model, model, gone),
        ("evaluate", gone, gone),
        ("export", gone, tmp_path / "x.parquet"),
    ):
        assert str(gone) in fault(capsys, *args)


def test_mistakes_in_labels(folder, tmp_path, capsys):
    def told(*rows):
        write_csv(tmp_path / "l.csv", rows)
        args = ("--labels", tmp_path / "l.csv", "--out", tmp_path / "m")
        return fault(capsys, "train", "--images", folder / "photos", *args)

    assert "names of columns in its first line" in told(["01.png", 0, 1], ["02.png", 1, 0])
    assert "a line of column names" in told(["file"], ["01.png"])
    assert "line 3: expected 3 columns" in told(["f", "a", "b"], ["01.png", 1, 1], ["02.png", 1])
    assert "column 'b' should be 0 or 1, got '2'" in told(["f", "a", "b"], ["01.png", 1, 2])
    assert "more than one line for '01.png'" in told(["f", "a"], ["01.png", "x"], ["01.png", "y"])
    assert "1 of 2 files" in told(["f", "a"], ["01.png", "x"], ["gone.png", "y"])
    (tmp_path / "l.csv").write_bytes("f,a\n01.png,Köln\n".encode("latin-1"))
    args = ("--labels", tmp_path / "l.csv", "--out", tmp_path / "m")
    assert "in UTF-8" in fault(capsys, "train", "--images", folder / "photos", *args)
    line = fault(capsys, "train", "--images", folder / "photos", "--out", tmp_path / "m")
    assert "'00.png', are in no sub-folder" in line
    assert not (tmp_path / "m").exists()


def test_labels_and_codes_that_do_not_match(files, tmp_path, capsys):
    np.save(tmp_path / "y.npy", np.zeros(7))
    line = fault(capsys, "evaluate", files / "bits.npy", tmp_path / "y.npy")
    assert "has labels of 7 items, while there are 300" in line
    write_csv(tmp_path / "l.csv", [["id", "name"], ["i0", "a"], ["i1", "b"]])
    line = fault(capsys, "evaluate", files / "lists.parquet", tmp_path / "l.csv")
    assert "has no labels of 298 of 300 items, such as 'i2'" in line
    assert "Give a file of them" in fault(capsys, "evaluate", files / "bits.npy")


def test_wrong_bits(models, files, capsys):
    labels = files / "y.npy"
    line = fault(capsys, "evaluate", files / "packed.npy", labels)
    assert "give their length with --bits" in line
    line = fault(capsys, "evaluate", files / "codes.parquet", labels, "--bits", 8)
    assert "holds codes of 16 bits, expected 8" in line
    line = fault(capsys, "evaluate", files / "packed.npy", labels, "--bits", 99)
    assert "take 13 bytes each, got 2" in line
    line = fault(capsys, "search", models / "photos.model", files / "bits.npy", models / "photos")
    assert "codes of 16 bits, while those of" in line
    line = fault(capsys, "search", models / "itq.model", files / "bits.npy", models / "photos")
    assert "takes feature rows: a query should be X.npy" in line
    line = fault(capsys, "train", "--features", models / "X.npy", "--out", "m", "--bits", 0)
    assert "n_bits" in line


def test_unknown_names(models, tmp_path, capsys):
    args = ("train", "--features", models / "X.npy", "--out", tmp_path / "m")
    assert "There is no hasher 'foo': it should be" in fault(capsys, *args, "--hasher", "foo")
    assert "No module named 'foo'" in fault(capsys, *args, "--hasher", "foo:Bar")
    assert "should be a class that is derived" in fault(capsys, *args, "--hasher", "math:pi")
    line = fault(capsys, *args, "--hasher", "itq", "--network", "mlp")
    assert "ITQHasher has no parameter 'network'" in line
    assert "has no parameter 'foo'" in fault(capsys, *args, "--param", "foo=1")
    line = fault(capsys, "train", "--images", models / "sorted", "--out", "m", "--hasher", "itq")
    assert "give them with --features" in line


def test_damaged_files(models, tmp_path, capsys):
    content = bytearray((models / "itq.model").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m").write_bytes(content)
    assert "damaged" in fault(capsys, "info", tmp_path / "m")
    assert "damaged" in fault(capsys, "search", tmp_path / "m", tmp_path / "m", models / "X.npy")
    (tmp_path / "c.npy").write_bytes((models / "X.npy").read_bytes()[:90])
    assert "cannot be read as a .npy file" in fault(capsys, "info", tmp_path / "c.npy")
    (tmp_path / "t").write_text("no codes at all")
    assert "holds no codes" in fault(capsys, "info", tmp_path / "t")


def test_debug_shows_the_traceback(tmp_path, capsys):
    assert main(["info", str(tmp_path / "gone"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c(models, monkeypatch, capsys):
    def interrupted(*_args):
        raise KeyboardInterrupt

    # In place of the key, which a user hits at a moment of the work.
    monkeypatch.setattr(skhash.ITQHasher, "_fit", interrupted)
    args = ("train", "--features", models / "X.npy", "--out", models / "i.model")
    assert fault(capsys, *args, "--hasher", "itq", code=130) == "skhash: interrupted"


def test_reader_that_goes_away(models):
    info = f"{sys.executable} -m skhash info {models / 'itq.model'}"
    command = f"{info} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


def test_logging_is_left_as_it_was(models, capsys):
    logger = logging.getLogger("skhash")
    before = logger.level, list(logger.handlers)
    run("info", models / "itq.model")()
    assert (logger.level, list(logger.handlers)) == before
    args = ("--hasher", "lsh", "--bits", 8, "--out", models / "l.model")
    capsys.readouterr()
    run("train", "--features", models / "X.npy", *args)()
    out, err = capsys.readouterr()
    assert json.loads(out)["n_bits"] == 8
    assert "training on 300 samples" in err
