"""Checks of hashers: what is right passes, and each planted fault fails its check."""

import doctest
import re
import sys
import tomllib
import types
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from skhash import ITQHasher, LSHHasher, utils
from skhash.codes import pack_codes
from skhash.metrics import ndcg_score
from skhash.neighbors import HammingNeighbors
from skhash.utils import check_hasher, show_versions

ROOT = Path(__file__).parents[1]
# The extras with which the tests are run.
TESTED = ["faiss", "onnx", "stores", "timm", "tests"]


class ThreeValued(LSHHasher):
    def transform(self, X):
        return (np.sign(self.project(X)) + (np.arange(self.n_bits) == 0)).astype(np.uint8)


class OtherSide(LSHHasher):
    def transform(self, X):
        return (self.project(X) < 0).astype(np.uint8)


class BooleanCodes(LSHHasher):
    def transform(self, X):
        return self.project(X) >= 0


class IntegerProjection(LSHHasher):
    def project(self, X):
        return np.sign(super().project(X)).astype(int)


class WholeBytes(LSHHasher):
    """Pads codes to whole bytes."""

    def _project(self, X):
        projection = super()._project(X)
        return np.pad(projection, ((0, 0), (0, -self.n_bits % 8)))


class EmptyDatabase(LSHHasher):
    def fit(self, X, y=None):
        super().fit(X, y)
        self.database_codes_ = self.database_codes_[:0]
        return self


class UnpackedDatabase(LSHHasher):
    def fit(self, X, y=None):
        super().fit(X, y)
        self.database_codes_ = self.transform(X)
        return self


class OnlyUpToFourBits(LSHHasher):
    def _fit(self, X, Y):
        if self.n_bits > 4:
            raise ValueError("That is too long.")
        super()._fit(X, Y)


class OtherOrder(LSHHasher):
    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)[::-1]


class OneName(LSHHasher):
    def get_feature_names_out(self, input_features=None):  # noqa: ARG002
        return np.array(["bit"] * self.n_bits, dtype=object)


class FitReturnsAnother(LSHHasher):
    def fit(self, X, y=None):
        return deepcopy(super().fit(X, y))


class LosesLabels(LSHHasher):
    def fit(self, X, y=None):
        super().fit(X, y)
        if y is not None:
            self.database_labels_ = np.zeros_like(self.database_labels_)
        return self


class LastOfEqualsFirst(LSHHasher):
    def kneighbors(self, X, n_neighbors=None, return_distance=True):
        codes = self.database_codes_
        self.database_codes_ = codes[::-1]
        distances, indices = super().kneighbors(X, n_neighbors)
        self.database_codes_ = codes
        indices = len(codes) - 1 - indices
        return (distances, indices) if return_distance else indices


class HalvesDistances(LSHHasher):
    def kneighbors(self, X, n_neighbors=None, return_distance=True):
        found = super().kneighbors(X, n_neighbors, return_distance)
        return (found[0] / 2, found[1]) if return_distance else found


class TakesAnyNumber(LSHHasher):
    def kneighbors(self, X, n_neighbors=5, return_distance=True):
        return super().kneighbors(X, min(n_neighbors, len(self.database_codes_)), return_distance)


class PredictsFirst(LSHHasher):
    """Predicts the labels of the nearest item, whatever `n_neighbors`."""

    def predict(self, X):
        n_neighbors, self.n_neighbors = self.n_neighbors, 1
        predicted = super().predict(X)
        self.n_neighbors = n_neighbors
        return predicted


class PredictsClassNumbers(LSHHasher):
    def predict(self, X):
        predicted = super().predict(X)
        named = predicted.ndim == 1 and predicted.dtype.kind == "U"
        return np.searchsorted(self.classes_, predicted) if named else predicted


class DropsSparseLabels(LSHHasher):
    def fit(self, X, y=None):
        return super().fit(X, np.zeros(y.shape) if sparse.issparse(y) else y)


class CutsLabelSets(LSHHasher):
    def encode_labels(self, y):
        missing = len(self.classes_) - y.shape[-1] if y.ndim == 2 else 0
        return super().encode_labels(np.pad(y, ((0, 0), (0, missing))) if missing > 0 else y)


class NearestClass(LSHHasher):
    """Encodes a class that it does not know as one that it knows."""

    def encode_labels(self, y):
        return super().encode_labels(np.minimum(y, self.classes_[-1]) if y.ndim == 1 else y)


class MakesUpLabels(LSHHasher):
    def fit(self, X, y=None):
        return super().fit(X, np.zeros((len(X), 1)) if y is None else y)


class ScoresWholeDatabase(LSHHasher):
    def fit(self, X, y=None):
        super().fit(X, y)
        self.train_ = self.transform(X), y
        return self

    def score(self, X, y):
        return ndcg_score(self.transform(X), y, *self.train_)


class AddsToDatabase(LSHHasher):
    def set_database(self, X, y=None):
        codes = self.database_codes_
        super().set_database(X, y)
        self.database_codes_ = np.concatenate([self.database_codes_, codes])
        return self


class ReplacesCodesFirst(LSHHasher):
    def set_database(self, X, y=None):
        self.database_codes_ = pack_codes(self.transform(X))
        return super().set_database(X, y)


class TakesUnseenClasses(LSHHasher):
    def set_database(self, X, y=None):
        if y is not None and np.ndim(y) == 1:
            y = np.where(np.isin(y, self.classes_), y, self.classes_[:1])
        return super().set_database(X, y)


class ForgetsOnError(LSHHasher):
    def fit(self, X, y=None):
        self.__dict__.pop("components_", None)
        return super().fit(X, y)


class HalfFitted(LSHHasher):
    def fit(self, X, y=None):
        if not hasattr(self, "components_"):
            self.mean_ = np.mean(X, axis=0)
        return super().fit(X, y)


class AnotherSeed(LSHHasher):
    def _fit(self, X, Y):
        super()._fit(X, Y)
        self.components_ = np.random.default_rng().normal(size=self.components_.shape)


class GoesOn(LSHHasher):
    """Goes on from what an earlier `fit` has learnt."""

    def fit(self, X, y=None):
        self.n_fits_ = n_fits = getattr(self, "n_fits_", 0) + 1
        super().fit(X, y)
        self.n_fits_ = n_fits
        self.components_ = self.components_ * (-1) ** n_fits
        return self._store_database(X, None if y is None else self.encode_labels(y)) or self


class KeepsLastPart(ITQHasher):
    def partial_fit(self, X, y=None, classes=None):  # noqa: ARG002
        return super().partial_fit(X, y).set_database(X)


class KeepsFaultyPart(LSHHasher):
    """Has learnt from a part before it raises."""

    def partial_fit(self, X, y=None, classes=None):
        if hasattr(self, "components_"):
            self.components_ = -self.components_
        return super().partial_fit(X, y, classes)


class ForgetsSeed(LSHHasher):
    def _learn_part(self, X, Y, first):
        super()._learn_part(X, Y, first)
        self.components_ = np.random.default_rng().normal(size=self.components_.shape)


class PicklesRounded(LSHHasher):
    def __getstate__(self):
        return super().__getstate__() | {"components_": np.round(self.components_)}


class ThreeBits(LSHHasher):
    def _fit(self, X, Y):
        if self.n_bits != 3:
            raise ValueError(f"n_bits should be 3, got {self.n_bits}.")
        super()._fit(X, Y)


class StoresInInit(LSHHasher):
    """Fails a check of scikit-learn and none of skhash."""

    def __init__(self, n_bits=3, *, center=True, n_neighbors=5, random_state=None):
        super().__init__(n_bits, center=center, n_neighbors=n_neighbors, random_state=random_state)
        self.scale = 1


FAULTS = {
    ThreeValued: ("check_codes", r"transform\(X\), which should be project\(X\) >= 0: expected"),
    OtherSide: ("check_codes", r".* expected (True|False) at \(0, 0\), got [01]; 90 of 90 differ"),
    BooleanCodes: ("check_codes", r"dtype of transform\(X\): expected 'uint8', got 'bool'"),
    IntegerProjection: ("check_codes", r"kind of dtype of project\(X\): expected 'f', got 'i'"),
    WholeBytes: (
        "check_codes",
        r"shape of project\(X\) with n_bits=3: expected 3 at \(1,\), got 8",
    ),
    EmptyDatabase: ("check_codes", r"database_codes_ .* expected shape \(130, 1\), got \(0, 1\)"),
    UnpackedDatabase: ("check_codes", r"database_codes_ .*\(130, 1\), got \(130, 3\)"),
    OnlyUpToFourBits: ("check_codes", "ValueError: That is too long"),
    OtherOrder: ("check_fit_transform", r"fit_transform\(X, y\): expected [01] at .* differ"),
    OneName: ("check_feature_names_out", r"number of .*: expected 3 at \(1,\), got 1"),
    FitReturnsAnother: ("check_labels", r"fit\(X, y\): expected Fit.*, got Fit"),
    LosesLabels: ("check_labels", r"database_labels_: expected \d+ at \(\d, 0\), got 0"),
    LastOfEqualsFirst: (
        "check_kneighbors",
        r"indices of kneighbors\(X, n_neighbors=1\): expected",
    ),
    HalvesDistances: ("check_kneighbors", r"distances of kneighbors\(X, n_neighbors=130\): exp"),
    TakesAnyNumber: (
        "check_kneighbors",
        r".*n_database \+ 1\): expected ValueError, got no error",
    ),
    PredictsFirst: ("check_predict", r"predict\(X\) with n_neighbors=100: expected"),
    PredictsClassNumbers: ("check_label_forms", r"predict\(X\) of strings: expected 'class \w'"),
    DropsSparseLabels: ("check_label_forms", "database_labels_ where y is sparse: expected"),
    CutsLabelSets: ("check_encode_labels", r"encode_labels\(y\) with a column less: expected Val"),
    NearestClass: ("check_encode_labels", r"encode_labels\(y\) of classes: expected False at"),
    MakesUpLabels: ("check_without_labels", r"database_labels_ after fit\(X\): expected None"),
    ScoresWholeDatabase: ("check_score", r"score.*expected ndcg_score\(k=100\), 0\.\d+, got 0"),
    AddsToDatabase: ("check_set_database", r".*expected shape \(30, 1\), got \(160, 1\)"),
    ReplacesCodesFirst: (
        "check_set_database",
        r"database_codes_ after set_database.* raised: exp",
    ),
    TakesUnseenClasses: ("check_set_database", ".* an unseen class: expected ValueError, got no"),
    ForgetsOnError: (
        "check_failed_fit",
        r"attributes after fit\(X, y\) where X has NaN raised: ex",
    ),
    HalfFitted: (
        "check_failed_fit",
        r"attributes after the first .* expected \[\], got \['mean_'\]",
    ),
    AnotherSeed: ("check_fit_again", r"transform\(X\) of a second hasher with the same seed: exp"),
    GoesOn: ("check_fit_again", r"transform\(X\) of a second fit, to other data: expected"),
    KeepsLastPart: ("check_partial_fit", "length of database_codes_ .*: expected 0, got 60"),
    KeepsFaultyPart: ("check_partial_fit", r"project\(X\) after partial_fit raised: expected"),
    ForgetsSeed: ("check_partial_fit", r"project\(X\) of the same parts with the same seed: exp"),
    PicklesRounded: ("check_copies", r"transform\(X\) of the pickled hasher: expected"),
}


@pytest.mark.parametrize("Faulty", FAULTS)
def test_fault_fails_its_check(Faulty):
    name, message = FAULTS[Faulty]
    with pytest.raises(AssertionError) as info:
        check_hasher(Faulty(n_bits=3))
    assert re.match(
        rf"{name} failed for {Faulty.__name__}\(n_bits=3\): {message}", str(info.value)
    )


def test_each_check_has_its_fault():
    checks = {name for name in vars(utils) if name.startswith("check_")} - {"check_hasher"}
    assert {name for name, _ in FAULTS.values()} == checks


def test_error_of_a_hasher_names_the_check_too():
    class Raises(LSHHasher):
        def project(self, X):  # noqa: ARG002
            raise RuntimeError("no projection today")

    message = r"check_codes failed for Raises\(.*\): RuntimeError: no projection today"
    with pytest.raises(AssertionError, match=message) as info:
        check_hasher(Raises(n_bits=3))
    assert isinstance(info.value.__cause__, RuntimeError)


def test_checks_of_scikit_learn_are_run():
    with pytest.raises(AssertionError, match="StoresInInit should not set any attribute"):
        check_hasher(StoresInInit())


def test_hasher_is_left_as_it_is():
    hasher = LSHHasher(n_bits=3)
    check_hasher(hasher)
    assert vars(hasher) == vars(LSHHasher(n_bits=3))


def test_a_length_may_be_refused():
    check_hasher(ThreeBits(n_bits=3))


def test_what_is_no_hasher_is_refused():
    with pytest.raises(TypeError, match="got the class LSHHasher"):
        check_hasher(LSHHasher)
    with pytest.raises(
        TypeError, match=r"got HammingNeighbors\(\), which lacks fit_transform, pro"
    ):
        check_hasher(HammingNeighbors())


def test_hasher_of_the_documentation(monkeypatch):
    examples = doctest.DocTestParser().get_examples(
        (ROOT / "docs" / "design.rst").read_text(encoding="utf-8")
    )
    source = next(e.source for e in examples if e.source.startswith("class PCAHasher"))
    # In a module of its own, so that pickle finds the class.
    module = types.ModuleType("pca_hasher")
    monkeypatch.setitem(sys.modules, "pca_hasher", module)
    exec("import numpy as np\nfrom skhash.base import BaseHasher\n" + source, vars(module))
    check_hasher(module.PCAHasher(n_bits=2))


# Versions.


def test_show_versions(capsys):
    show_versions()
    printed = dict(
        line.strip().split(": ", 1)
        for line in capsys.readouterr().out.splitlines()
        if ": " in line
    )
    assert printed["numpy"] == np.__version__
    assert torch.__version__.startswith(printed["torch"])
    assert printed["CUDA"] == str(torch.version.cuda)
    assert printed["python"].startswith(sys.version.split()[0])


def test_show_versions_without_torch(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch")
    show_versions()
    assert "GPUs" not in capsys.readouterr().out
    assert "torch" not in sys.modules


def test_oldest_versions_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = project["dependencies"] + [r for name in TESTED for r in extras[name]]
    # Without the extra of a package and the systems that it is for.
    required = [re.sub(r"\[.*?\]|;.*", "", r) for r in required if ">=" in r]
    bounds = dict(r.split(">=") for r in required)
    # The linter does not run with the oldest versions.
    del bounds["ruff"]
    text = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8")
    oldest = dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.M))
    for name, bound in bounds.items():
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", oldest[name]), name
