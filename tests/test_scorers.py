"""Scorers: a hasher that needs nothing but the contract, under scikit-learn's model selection."""

import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from test_metrics import OPTIONS, ORACLES

from skhash import LSHHasher, metrics
from skhash.codes import pack_codes, unpack_codes
from skhash.metrics import (
    HammingHistogram,
    get_scorer,
    get_scorer_names,
    get_scorers,
    make_retrieval_scorer,
)

METRICS = get_scorer_names()


class SignHasher(TransformerMixin, BaseEstimator):
    """Signs of a random projection, with the database that scorers read."""

    def __init__(self, n_bits=8, random_state=0):
        self.n_bits = n_bits
        self.random_state = random_state

    def fit(self, X, y=None, sample_weight=None):
        self.n_weights_ = 0 if sample_weight is None else len(sample_weight)
        rng = np.random.default_rng(self.random_state)
        self.weights_ = rng.normal(size=(np.shape(X)[1], self.n_bits))
        self.database_codes_ = pack_codes(self.transform(X))
        if y is not None and np.ndim(y) == 1:
            self.classes_ = np.unique(y)
        self.database_labels_ = None if y is None else pack_codes(self.encode_labels(y))
        return self

    def transform(self, X):
        check_is_fitted(self, "weights_")
        return (np.asarray(X) @ self.weights_ >= 0).astype(np.uint8)

    def encode_labels(self, y):
        if sparse.issparse(y):
            y = y.toarray()
        y = np.asarray(y)
        return (y[:, None] == self.classes_ if y.ndim == 1 else y).astype(np.uint8)

    def labeled_database(self):
        if self.database_labels_ is None:
            raise ValueError("The database of this SignHasher has no label sets.")
        return self.database_codes_, self.database_labels_


@pytest.fixture
def data():
    """Samples whose labels can be read off their coordinates."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    return X, (X + rng.normal(scale=0.1, size=X.shape) > 0.3).astype(np.uint8)


def by_hand(metric, hasher, X, Y, k=None):
    """Score by the public function, from unpacked codes and labels of the database."""
    codes = unpack_codes(hasher.database_codes_, hasher.n_bits)
    labels = unpack_codes(hasher.database_labels_, Y.shape[1])
    score = getattr(metrics, f"{metric}_score")
    return score(hasher.transform(X), Y, codes, labels, k=k)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [None, 1, 10])
def test_scorer_ranks_the_database_for_the_queries(metric, k, data):
    X, Y = data
    hasher = SignHasher(n_bits=12).fit(X[20:], Y[20:])
    score = make_retrieval_scorer(metric, k=k)(hasher, X[:20], Y[:20])
    assert type(score) is float
    assert_allclose(score, by_hand(metric, hasher, X[:20], Y[:20], k), rtol=1e-12)


def test_default_is_ndcg_of_the_whole_database(data):
    hasher = SignHasher().fit(*data)
    assert make_retrieval_scorer()(hasher, *data) == by_hand("ndcg", hasher, *data)


def test_cross_val_score_scores_training_folds_as_database(data):
    X, Y = data
    cv = KFold(4, shuffle=True, random_state=0)
    scores = cross_val_score(SignHasher(), X, Y, scoring=make_retrieval_scorer("acg", k=5), cv=cv)
    expected = [
        by_hand("acg", SignHasher().fit(X[train], Y[train]), X[test], Y[test], k=5)
        for train, test in cv.split(X)
    ]
    assert_allclose(scores, expected, rtol=1e-12)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_cross_validate_with_several_scorers(n_jobs, data):
    scoring = {name: make_retrieval_scorer(name, k=9) for name in METRICS}
    results = cross_validate(
        SignHasher(), *data, scoring=scoring, cv=3, n_jobs=n_jobs, return_train_score=True
    )
    for name, scorer in scoring.items():
        expected = cross_val_score(SignHasher(), *data, scoring=scorer, cv=3)
        assert_array_equal(results[f"test_{name}"], expected)
        assert np.all(results[f"train_{name}"] > 0)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search_prefers_more_bits(n_jobs, data):
    grid = {"n_bits": [1, 32]}
    search = GridSearchCV(
        SignHasher(), grid, scoring=make_retrieval_scorer(k=10), cv=3, n_jobs=n_jobs
    ).fit(*data)
    assert search.best_params_ == {"n_bits": 32}
    assert_allclose(
        search.score(*data), by_hand("ndcg", search.best_estimator_, *data, k=10), rtol=1e-12
    )


def test_pipelines_transform_the_queries(data):
    X, Y = data
    X = X * [1, 10, 100, 1000] + 50
    scorer = make_retrieval_scorer("average_precision")
    pipeline = make_pipeline(StandardScaler(), SignHasher()).fit(X, Y)
    expected = by_hand("average_precision", pipeline[-1], pipeline[0].transform(X), Y)
    assert_allclose(scorer(pipeline, X, Y), expected, rtol=1e-12)
    nested = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), SignHasher()))
    assert_allclose(scorer(nested.fit(X, Y), X, Y), expected, rtol=1e-12)
    assert scorer(SignHasher().fit(X, Y), X, Y) != expected


def test_labels_in_every_form(data):
    X, Y = data
    scorer, classes = make_retrieval_scorer("precision", k=7), np.array(["bee", "ant"])[Y[:, 0]]
    hasher = SignHasher().fit(X, Y)
    for same in [sparse.csr_array(Y), Y.tolist(), Y.astype(bool)]:
        assert scorer(hasher, X, same) == scorer(hasher, X, Y)
    one_hot = np.column_stack([Y[:, 0], 1 - Y[:, 0]])
    expected = scorer(SignHasher().fit(X, one_hot), X, one_hot)
    assert scorer(SignHasher().fit(X, classes), X, classes) == expected


def test_sample_weights_of_fit_pass_by_the_scorers(data):
    # Grid search asks every scorer whether it takes weights, and says so when it does not.
    scoring = {"ndcg": make_retrieval_scorer(), "acg": make_retrieval_scorer("acg")}
    search = GridSearchCV(SignHasher(), {"n_bits": [8]}, scoring=scoring, refit="ndcg", cv=3)
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(*data, sample_weight=np.ones(60))
    assert search.best_estimator_.n_weights_ == 60


@pytest.mark.parametrize("several", [False, True])
def test_metadata_routing(several, data):
    scorer = make_retrieval_scorer("ndcg", k=5)
    scoring = {"a": scorer, "b": make_retrieval_scorer("acg")} if several else scorer
    expected = cross_val_score(SignHasher(), *data, scoring=scorer, cv=3)
    weights = {"sample_weight": np.ones(60)}
    with sklearn.config_context(enable_metadata_routing=True):
        hasher = SignHasher().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        results = cross_validate(
            hasher, *data, scoring=scoring, cv=3, params=weights, return_estimator=True
        )
        assert_array_equal(results["test_a" if several else "test_score"], expected)
        assert [fitted.n_weights_ for fitted in results["estimator"]] == [40] * 3
        search = GridSearchCV(
            make_pipeline(scaler, hasher),
            {"signhasher__n_bits": [4, 8]},
            scoring=scoring,
            refit="b" if several else True,
            cv=3,
        ).fit(*data, **weights)
        assert search.best_estimator_[-1].n_weights_ == 60
        assert search.score(*data) > 0


def test_scorer_pickles_clones_and_shows_its_call(data):
    scorer = make_retrieval_scorer("recall", k=3)
    hasher = SignHasher().fit(*data)
    for copy in [
        pickle.loads(pickle.dumps(scorer)),
        clone(scorer, safe=False),
        eval(repr(scorer)),
    ]:
        assert copy is not scorer
        assert repr(copy) == "make_retrieval_scorer('recall', k=3)"
        assert copy(hasher, *data) == scorer(hasher, *data)
    assert repr(make_retrieval_scorer("acg")) == "make_retrieval_scorer('acg')"


def test_error_without_labels(data):
    X, Y = data
    scorer = make_retrieval_scorer()
    with pytest.raises(ValueError, match="database of this SignHasher has no label sets"):
        scorer(make_pipeline(StandardScaler(), SignHasher()).fit(X), X, Y)
    with pytest.raises(ValueError, match=r"make_retrieval_scorer\('ndcg'\) needs the label sets"):
        scorer(SignHasher().fit(X, Y), X)
    with pytest.raises(ValueError, match="SignHasher has no label sets"):
        cross_val_score(SignHasher(), X, scoring=scorer, error_score="raise")


def test_error_on_lengths_widths_and_estimators(data):
    X, Y = data
    scorer, hasher = make_retrieval_scorer(), SignHasher().fit(X, Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        scorer(hasher, X, Y[1:])
    # Batches of one query would otherwise never see the surplus of labels.
    with (
        sklearn.config_context(working_memory=0),
        pytest.raises(ValueError, match="inconsistent numbers of samples"),
    ):
        scorer(hasher, X[1:], Y)
    with pytest.raises(ValueError, match="as many bytes per row"):
        scorer(hasher, X, np.tile(Y, (1, 3)))
    with pytest.raises(NotFittedError, match="SignHasher instance is not fitted yet"):
        scorer(SignHasher(), X, Y)
    with pytest.raises(TypeError, match=r"ends in one, got LogisticRegression\(\)"):
        scorer(LogisticRegression(), X, Y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"metric": "map"}, "'metric' parameter of make_retrieval_scorer must be a str among"),
        ({"k": 0}, "'k' parameter of make_retrieval_scorer must be an int"),
        ({"k": 1.5}, "'k' parameter of make_retrieval_scorer must be an int"),
    ],
)
def test_error_on_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        make_retrieval_scorer(**params)


# Scorers by name.


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("cut", "options"),
    [
        ("", {}),
        ("@1", {"k": 1}),
        ("@100", {"k": 100}),
        ("@r0", {"radius": 0}),
        ("@r2", {"radius": 2}),
    ],
    ids=["all", "at_1", "at_100", "within_0", "within_2"],
)
def test_scorers_by_name(name, cut, options, data):
    hasher = SignHasher().fit(*data)
    scorer = get_scorer(name + cut)
    assert repr(scorer) == repr(make_retrieval_scorer(name, **options))
    assert repr(eval(repr(scorer))) == repr(scorer)
    codes = unpack_codes(hasher.database_codes_, 8)
    expected = getattr(metrics, f"{name}_score")(codes, data[1], codes, data[1], **options)
    assert_allclose(scorer(hasher, *data), expected, rtol=1e-12)


def test_scorer_names():
    assert get_scorer_names() == sorted(ORACLES)
    assert all(f"{name}_score" in metrics.__all__ for name in get_scorer_names())


@pytest.mark.parametrize(
    "name",
    ["map", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@1.5", "ndcg@r", "ndcg@r-1", "@5", "NDCG", ""],
)
def test_error_on_unknown_names_lists_the_names(name):
    with pytest.raises(
        ValueError, match=rf"^'{name}' is not a valid scoring value.*'ndcg', 'prec"
    ):
        get_scorer(name)


def test_error_on_a_name_that_is_none():
    with pytest.raises(
        ValueError, match="'scoring' parameter of get_scorer must be an instance of"
    ):
        get_scorer(None)


@pytest.mark.parametrize("kind", [list, tuple, set])
def test_several_scorers_by_name(kind, data):
    names = kind(["ndcg@10", "precision@r2", "average_precision"])
    scorers = get_scorers(names)
    assert {name: repr(scorer) for name, scorer in scorers.items()} == {
        name: repr(get_scorer(name)) for name in names
    }
    results = cross_validate(SignHasher(), *data, scoring=scorers, cv=3)
    for name in names:
        expected = cross_val_score(SignHasher(), *data, scoring=get_scorer(name), cv=3)
        assert_array_equal(results[f"test_{name}"], expected)
    grid = {"n_bits": [1, 32]}
    search = GridSearchCV(SignHasher(), grid, scoring=scorers, refit="ndcg@10", cv=3).fit(*data)
    assert search.best_params_ == {"n_bits": 32}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"names that are all different, got \[\]"),
        (["ndcg", "ndcg"], r"names that are all different, got \['ndcg', 'ndcg'\]"),
        (["ndcg", "map"], "'map' is not a valid scoring value"),
        (["ndcg", 3], "'scoring' parameter of get_scorers must be an instance of 'str'"),
        ("ndcg", "'scoring' parameter of get_scorers must be an instance of"),
    ],
)
def test_error_on_several_names(names, message):
    with pytest.raises(ValueError, match=message):
        get_scorers(names)


# Options.


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("protocol", ["database", "leave_one_out"])
def test_options_reach_the_metric(metric, protocol, data):
    X, Y = data
    Y[:5] = 0
    hasher = SignHasher(n_bits=5).fit(X, Y)
    codes = hasher.transform(X)
    counts = {
        "database": lambda: HammingHistogram.from_codes(codes, Y, codes, Y),
        "leave_one_out": lambda: HammingHistogram.leave_one_out(codes, Y),
    }
    method, shown = getattr(counts[protocol](), metric), []
    for options in [
        {"k": 7, "ties": "best"},
        {"radius": 1, "ties": "worst"},
        {"empty": 1},
        {"empty": "nan"},
        *({name: values[1]} for name, values in OPTIONS.get(metric, {}).items()),
    ]:
        scorer = make_retrieval_scorer(metric, protocol=protocol, **options)
        expected = np.nanmean(method(**options))
        for same in [scorer, pickle.loads(pickle.dumps(scorer)), eval(repr(scorer))]:
            assert_allclose(same(hasher, X, Y), expected, rtol=1e-12)
        shown.append(repr(scorer))
    assert len(set(shown)) == len(shown)
    with pytest.raises(ValueError, match=r"\d+ of 60 queries have no relevant item"):
        make_retrieval_scorer(metric, protocol=protocol, empty="raise")(hasher, X, Y)


def test_repr_shows_what_is_not_default():
    scorer = make_retrieval_scorer(
        "average_precision", convention="authors", protocol="leave_one_out", ties="best", k=5
    )
    assert repr(scorer) == (
        "make_retrieval_scorer('average_precision', k=5, protocol='leave_one_out', ties='best', "
        "convention='authors')"
    )


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"k": 3, "radius": 1}, ValueError, "two ways to cut a ranking, got k=3 and radius=1"),
        ({"radius": -1}, ValueError, "'radius' parameter of make_retrieval_scorer must be an int"),
        ({"protocol": "loo"}, ValueError, "'protocol' parameter .* must be a str among"),
        ({"ties": "random"}, ValueError, "'ties' parameter of .* must be a str among"),
        ({"empty": 0.5}, ValueError, "'empty' parameter of make_retrieval_scorer must be"),
        ({"gain": "log"}, ValueError, r"'gain' option .*'exponential', 'linear'\). Got 'log'"),
        ({"convention": "authors"}, TypeError, r"'ndcg'\) got an unexpected option 'convention'"),
        ({"metric": "acg", "gain": "linear"}, TypeError, "it takes none"),
    ],
    ids=lambda part: "-".join(part) if isinstance(part, dict) else "",
)
def test_error_on_options(params, error, message):
    with pytest.raises(error, match=message):
        make_retrieval_scorer(**params)


# Leave one out.


def test_leave_one_out_needs_no_labels_in_the_database(data):
    X, Y = data
    scorer = make_retrieval_scorer("acg", k=3, protocol="leave_one_out")
    score = scorer(SignHasher().fit(X[:30]), X[30:], Y[30:])
    codes = SignHasher().fit(X[:30]).transform(X[30:])
    expected = HammingHistogram.leave_one_out(codes, Y[30:]).acg(3).mean()
    assert_allclose(score, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="needs the label sets of the queries"):
        scorer(SignHasher().fit(X), X)
    with pytest.raises(ValueError, match="takes at least 2 samples, got 1"):
        scorer(SignHasher().fit(X), X[:1], Y[:1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        scorer(SignHasher().fit(X), X[1:], Y)


def test_leave_one_out_sees_classes_that_fit_has_not(data):
    X, Y = data
    classes = np.array(["ant", "bee", "cat", "dog"])[2 * Y[:, 0] + Y[:, 1]]
    old = np.isin(classes, ["ant", "bee"])
    hasher = SignHasher().fit(X[old], classes[old])
    scorer = make_retrieval_scorer("recall", k=5, protocol="leave_one_out")
    one_hot = classes[~old, None] == ["cat", "dog"]
    expected = scorer(hasher, X[~old], one_hot)
    assert expected > 0
    assert scorer(hasher, X[~old], classes[~old]) == expected
    with pytest.raises(ValueError, match="no class that this SignHasher knows"):
        make_retrieval_scorer("recall", k=5)(hasher, X[~old], classes[~old])


def test_leave_one_out_in_batches(data):
    scorer = make_retrieval_scorer("ndcg", k=9, protocol="leave_one_out")
    hasher = SignHasher().fit(*data)
    expected = scorer(hasher, *data)
    with sklearn.config_context(working_memory=0):
        assert_allclose(scorer(hasher, *data), expected, rtol=1e-12)


# Model selection, with all kinds at once.

SCORING = {
    "ndcg@10": get_scorer("ndcg@10"),
    "precision@r2": get_scorer("precision@r2"),
    "reciprocal_rank": get_scorer("reciprocal_rank"),
    "worst": make_retrieval_scorer("average_precision", ties="worst"),
    "theirs": make_retrieval_scorer("weighted_average_precision", convention="authors"),
    "among": make_retrieval_scorer("ndcg", k=10, protocol="leave_one_out"),
}


@pytest.mark.parametrize("routing", [False, True], ids=["plain", "routing"])
def test_all_kinds_in_cross_validate_and_grid_search(routing, data):
    X, Y = data
    pipeline = make_pipeline(StandardScaler(), LSHHasher(n_bits=8, random_state=0))
    cv = KFold(3, shuffle=True, random_state=0)
    with sklearn.config_context(enable_metadata_routing=routing):
        results = cross_validate(pipeline, X, Y, scoring=SCORING, cv=cv, n_jobs=2)
        search = GridSearchCV(
            pipeline,
            {"lshhasher__n_bits": [2, 16]},
            scoring=SCORING,
            refit="among",
            cv=cv,
            n_jobs=2,
        ).fit(X, Y)
    for fold, (train, test) in enumerate(cv.split(X)):
        fitted = clone(pipeline).fit(X[train], Y[train])
        for name, scorer in SCORING.items():
            assert_allclose(results[f"test_{name}"][fold], scorer(fitted, X[test], Y[test]))
    assert len({tuple(results[f"test_{name}"]) for name in SCORING}) == len(SCORING)
    assert search.best_params_ == {"lshhasher__n_bits": 16}
    assert search.score(X, Y) == SCORING["among"](search.best_estimator_, X, Y)
