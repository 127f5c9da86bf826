"""Checks of hashers: what is right passes, and each planted fault fails its check."""

import doctest
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from skhash import LSHHasher
from skhash.metrics import ndcg_score
from skhash.neighbors import HammingNeighbors
from skhash.utils import check_hasher, parametrize_hasher_checks, show_versions

DESIGN = Path(__file__).parents[1] / "docs" / "design.rst"


class ThreeValued(LSHHasher):
    def transform(self, X):
        return (np.sign(self.project(X)) + (np.arange(self.n_bits) == 0)).astype(np.uint8)


class OtherSide(LSHHasher):
    def transform(self, X):
        return (self.project(X) < 0).astype(np.uint8)


class WholeBytes(LSHHasher):
    """Pads codes to whole bytes."""

    def _project(self, X):
        projection = super()._project(X)
        return np.pad(projection, ((0, 0), (0, -self.n_bits % 8)))


class AnotherFitTransform(LSHHasher):
    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)[::-1]


class OneName(LSHHasher):
    def get_feature_names_out(self, input_features=None):  # noqa: ARG002
        return np.array(["bit"] * self.n_bits, dtype=object)


class NoDatabase(LSHHasher):
    def fit(self, X, y=None):
        super().fit(X, y)
        self.database_codes_ = self.database_codes_[:0]
        return self


class LastOfEqualsFirst(LSHHasher):
    def kneighbors(self, X, n_neighbors=None, return_distance=True):
        codes = self.database_codes_
        self.database_codes_ = codes[::-1]
        distances, indices = super().kneighbors(X, n_neighbors)
        self.database_codes_ = codes
        indices = len(codes) - 1 - indices
        return (distances, indices) if return_distance else indices


class PredictsShares(LSHHasher):
    def predict(self, X):
        predicted = super().predict(X)
        return predicted if predicted.ndim == 1 else predicted / 2


class PredictsClassNumbers(LSHHasher):
    def predict(self, X):
        predicted = super().predict(X)
        return np.searchsorted(self.classes_, predicted) if predicted.ndim == 1 else predicted


class DropsSparseLabels(LSHHasher):
    def fit(self, X, y=None):
        return super().fit(X, np.zeros(y.shape) if sparse.issparse(y) else y)


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


class TakesUnseenClasses(LSHHasher):
    def set_database(self, X, y=None):
        known = self.classes_[:1]
        return super().set_database(X, np.where(np.isin(y, self.classes_), y, known))


class ForgetsOnError(LSHHasher):
    def fit(self, X, y=None):
        self.__dict__.pop("components_", None)
        return super().fit(X, y)


class NotDeterministic(LSHHasher):
    def _fit(self, X, Y):
        super()._fit(X, Y)
        self.components_ = np.random.default_rng().normal(size=self.components_.shape)


class PicklesRounded(LSHHasher):
    def __getstate__(self):
        return super().__getstate__() | {"components_": np.round(self.components_)}


class StoresInInit(LSHHasher):
    """Fails a check of scikit-learn and none of skhash."""

    def __init__(self, n_bits=3, *, center=True, n_neighbors=5, random_state=None):
        super().__init__(n_bits, center=center, n_neighbors=n_neighbors, random_state=random_state)
        self.scale_ = 1


FAULTS = {
    ThreeValued: ("check_codes_are_signs", r"expected 0 and 1, got also \[2(, 255)?\]"),
    OtherSide: ("check_codes_are_signs", r"expected np.True_ at \(0, \d\), got np.uint8\(0\)"),
    WholeBytes: (
        "check_code_lengths",
        r"shape of project\(X\): expected \(30, 1\), got \(30, 8\)",
    ),
    AnotherFitTransform: ("check_fit_transform", r"fit_transform\(X, y\): expected .*differ"),
    OneName: ("check_feature_names_out", "number of feature names out: expected np.int64.3"),
    NoDatabase: ("check_database_is_training_set", r"expected shape \(130, 1\), got \(0, 1\)"),
    LastOfEqualsFirst: ("check_kneighbors", "indices of kneighbors.X, n_neighbors=1.: expected"),
    PredictsShares: ("check_predict_label_sets", r"predict\(X\), which should be 0 and 1"),
    PredictsClassNumbers: ("check_class_labels", r"predict\(X\) of strings: expected np.str_"),
    DropsSparseLabels: ("check_sparse_labels", "database_labels_ where y is sparse: expected"),
    MakesUpLabels: ("check_without_labels", r"database_labels_ after fit\(X\): expected None"),
    ScoresWholeDatabase: ("check_score_is_ndcg", r"expected ndcg_score\(k=100\), 0\.\d+, got 0"),
    AddsToDatabase: ("check_set_database", r"expected shape \(30, 1\), got \(160, 1\)"),
    TakesUnseenClasses: (
        "check_set_database_refuses_other_labels",
        r"set_database\(X, y\) with y of shape \(30,\): expected ValueError, got no error",
    ),
    ForgetsOnError: ("check_failed_fit_changes_nothing", r"took or .* \['components_'\]"),
    NotDeterministic: ("check_random_state_decides", "of a second fit with the same random_state"),
    PicklesRounded: ("check_copies", "of the pickled hasher: expected"),
}


def own_checks(hasher):
    """Checks of skhash by name, without those of scikit-learn."""
    checks = (test.values[1] for test in parametrize_hasher_checks([hasher]).args[1])
    return {c.__name__: c for c in checks if getattr(c, "__module__", None) == "skhash.utils"}


@pytest.mark.parametrize("Faulty", FAULTS)
def test_fault_fails_its_check(Faulty):
    name, message = FAULTS[Faulty]
    with pytest.raises(AssertionError, match=rf"^{name} failed for {Faulty.__name__}.*{message}"):
        own_checks(Faulty(n_bits=3))[name](Faulty(n_bits=3))
    with pytest.raises(AssertionError, match=f"failed for {Faulty.__name__}"):
        check_hasher(Faulty(n_bits=3))


def test_each_check_has_its_fault():
    assert {name for name, _ in FAULTS.values()} == own_checks(LSHHasher(n_bits=3)).keys()


def test_error_of_a_hasher_names_the_check_too():
    class Raises(LSHHasher):
        def project(self, X):  # noqa: ARG002
            raise RuntimeError("no projection today")

    message = r"check_codes_are_signs failed for Raises\(.*\): RuntimeError: no projection today"
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
    class ThreeBits(LSHHasher):
        def _fit(self, X, Y):
            if self.n_bits != 3:
                raise ValueError(f"n_bits should be 3, got {self.n_bits}.")
            super()._fit(X, Y)

    own_checks(ThreeBits(n_bits=3))["check_code_lengths"](ThreeBits(n_bits=3))


@pytest.mark.parametrize(
    "call", [check_hasher, lambda hasher: parametrize_hasher_checks([hasher])]
)
def test_what_is_no_hasher_is_refused(call):
    with pytest.raises(TypeError, match="got the class LSHHasher"):
        call(LSHHasher)
    with pytest.raises(TypeError, match=r"got HammingNeighbors\(\), which lacks project, transf"):
        call(HammingNeighbors())


def test_hasher_of_the_documentation(monkeypatch):
    examples = doctest.DocTestParser().get_examples(DESIGN.read_text(encoding="utf-8"))
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
