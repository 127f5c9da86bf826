"""DeepRankingHasher: same seed same codes, any form of images, effects, pickling, errors."""

import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from torch import nn

from skhash import DeepRankingHasher
from skhash.deep.losses import (
    LOSSES,
    CentralSimilarityLoss,
    HashingLoss,
    HyP2Loss,
    RankingLoss,
    StartedLoss,
    TieAwareNDCGLoss,
    ranking_loss,
)
from skhash.deep.losses._base import others


def make_rows(n=60, n_features=6, seed=0):
    """Rows and label sets of three labels; a label is the sign of a feature."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_features))
    return X, (X[:, :3] > 0).astype(np.uint8)


def make_images(n=60, size=8, seed=0):
    """Noisy images and label sets of three labels; a label is a bright stripe of a colour."""
    rng = np.random.default_rng(seed)
    Y = (rng.random((n, 3)) < 0.5).astype(np.uint8)
    X = rng.integers(0, 60, (n, size, size, 3))
    for label, color in enumerate(np.eye(3, dtype=int)):
        X[:, :, 2 * label : 2 * label + 2] += 180 * color * Y[:, label, None, None, None]
    return X.astype(np.uint8), Y


def make_hasher(**params):
    defaults = {
        "n_bits": 8,
        "hidden_size": 16,
        "taps": "both",
        "n_heads": 1,
        "input_dropout": 0.0,
        "loss": "ranking",
        "encoding": "signs",
        "max_epochs": 2,
        "batch_size": 20,
        "device": "cpu",
        "random_state": 0,
    }
    return DeepRankingHasher(**(defaults | params))


def tiny_backbone():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())


def save_files(X, folder, extension="png"):
    paths = [folder / f"{i}.{extension}" for i in range(len(X))]
    for x, path in zip(X, paths, strict=True):
        Image.fromarray(x).save(path)
    return paths


def projection(hasher, X, Y):
    return hasher.fit(X, Y).project(X)


KINDS = {"rows": make_rows, "images": make_images}
all_kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


# The same seed.


@all_kinds
@pytest.mark.parametrize("params", [{}, {"head_epochs": 2}], ids=repr)
def test_same_seed_same_codes(make, params):
    X, Y = make()
    first = projection(make_hasher(**params), X, Y)
    torch.rand(3)
    assert_array_equal(projection(make_hasher(**params), X, Y), first)
    assert not np.array_equal(projection(make_hasher(random_state=1, **params), X, Y), first)


@all_kinds
def test_fitting_again_starts_afresh(make):
    X, Y = make()
    hasher = make_hasher()
    first = projection(hasher, X, Y)
    assert_array_equal(projection(hasher, X, Y), first)
    assert hasher.n_iter_ == len(hasher.loss_curve_) == 2


def test_random_state_instance_moves_on():
    X, Y = make_rows()
    draw = lambda: np.random.RandomState(5)  # noqa: E731
    one = draw()
    first, second = (projection(make_hasher(random_state=one), X, Y) for _ in range(2))
    assert_array_equal(projection(make_hasher(random_state=draw()), X, Y), first)
    assert not np.array_equal(first, second)


def global_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002


@all_kinds
def test_global_generators_are_left_alone(make):
    X, Y = make()
    np.random.seed(3)  # noqa: NPY002
    before = global_states()
    make_hasher(head_epochs=1).fit(X, Y).transform(X)
    assert global_states() == before
    with pytest.raises(ValueError, match="diverged"):
        make_hasher(learning_rate=1e20, max_epochs=5).fit(X, Y)
    assert global_states() == before


# The forms of X and Y.


def test_images_in_any_form_give_the_same_codes(tmp_path):
    X, Y = make_images()
    expected = make_hasher().fit(X, Y)
    np.save(tmp_path / "images.npy", X)
    paths = save_files(X, tmp_path)
    arrays = {
        "channels first": X.transpose(0, 3, 1, 2),
        "fortran": np.asfortranarray(X),
        "mapped": np.load(tmp_path / "images.npy", mmap_mode="r"),
        "list": list(X),
    }
    files = {
        "paths": paths,
        "strings": [str(path) for path in paths],
        "array of strings": np.array([str(path) for path in paths]),
    }
    for name, form in (arrays | files).items():
        params = {"network": "convnet", "image_size": 8} if name in files else {}
        hasher = make_hasher(**params).fit(form, Y)
        assert_array_equal(hasher.database_codes_, expected.database_codes_, err_msg=name)
        assert_array_equal(hasher.project(form), expected.project(X), err_msg=name)
        assert hasher.loss_curve_ == expected.loss_curve_
        assert hasher.image_size_ == (8, 8)


def test_layout_may_change_after_fit():
    X, Y = make_images()
    hasher = make_hasher().fit(X, Y)
    assert_array_equal(hasher.project(X.transpose(0, 3, 1, 2)), hasher.project(X))


def test_images_of_another_size_are_resized_to_that_of_fit():
    X, Y = make_images()
    hasher = make_hasher().fit(X, Y)
    # Enlarged and reduced again they are nearly what they were.
    large = X.repeat(4, axis=1).repeat(4, axis=2)
    assert (hasher.transform(large) == hasher.transform(X)).mean() > 0.9


def test_image_size_is_what_the_network_sees():
    X, Y = make_images()
    for size, expected in [(9, (9, 9)), ((10, 12), (10, 12)), ("auto", (8, 8))]:
        hasher, seen = make_hasher(image_size=size, max_epochs=0).fit(X, Y), []
        hasher.network_.register_forward_pre_hook(lambda _, args, s=seen: s.append(args[0].shape))
        hasher.transform(X[:5])
        assert hasher.image_size_ == expected
        assert seen == [(5, 3, *expected)]


def test_images_are_not_changed_by_fit():
    X, Y = make_images()
    before = X.copy()
    make_hasher(max_epochs=3).fit(X, Y)
    assert_array_equal(X, before)


@pytest.mark.parametrize("form", [sparse.csr_array, np.asfortranarray, lambda Y: Y.astype(float)])
def test_label_sets_in_any_form_give_the_same_codes(form):
    X, Y = make_rows()
    assert_array_equal(projection(make_hasher(), X, form(Y)), projection(make_hasher(), X, Y))


def test_class_labels_are_their_indicator_matrix():
    X, _ = make_rows()
    y = np.arange(60) % 3
    indicator = np.eye(3, dtype=np.uint8)[y]
    expected = projection(make_hasher(), X, indicator)
    assert_array_equal(projection(make_hasher(), X, np.array(["a", "b", "c"])[y]), expected)


# The network.


@pytest.mark.parametrize("normalization", ["auto", (100.0, 50.0)])
def test_projection_is_that_of_the_network(normalization):
    X, Y = make_images()
    hasher = make_hasher(normalization=normalization, precision="float32").fit(X, Y)
    assert not hasher.network_.training
    with torch.no_grad():
        expected = hasher.network_(torch.from_numpy(X).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(hasher.project(X), expected, rtol=1e-4, atol=1e-5)
    assert_array_equal(hasher.transform(X), hasher.project(X) >= 0)
    mean = hasher.network_.mean.flatten().tolist()
    assert mean == [127.5 if normalization == "auto" else 100]


@pytest.mark.parametrize("network", ["convnet", tiny_backbone, "timm:test_resnet"])
def test_networks(network):
    X, Y = make_images(40, size=32 if isinstance(network, str) else 8)
    hasher = make_hasher(network=network, max_epochs=1).fit(X, Y)
    assert hasher.transform(X).shape == (40, 8)


def test_auto_network_depends_on_input():
    X, Y = make_images(20)
    assert isinstance(make_hasher(max_epochs=0).fit(X, Y).network_.backbone[0], nn.Conv2d)
    hasher = make_hasher(max_epochs=0).fit(*make_rows(20))
    assert isinstance(hasher.network_.backbone, nn.Identity)
    assert not hasattr(hasher, "image_size_")


def test_feature_rows_are_standardised():
    X, Y = make_rows()
    expected = projection(make_hasher(), X, Y)
    np.testing.assert_allclose(
        projection(make_hasher(), 1000 * X - 5, Y), expected, rtol=1e-2, atol=1e-2
    )


def test_weights_are_the_start(tmp_path):
    X, Y = make_images()
    backbone = tiny_backbone()
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    hasher = make_hasher(network=tiny_backbone, weights=tmp_path / "weights.pt", max_epochs=0)
    assert torch.equal(hasher.fit(X, Y).network_.backbone[0].weight, backbone[0].weight)


# Training.


def backbone_state(hasher):
    return {name: t.clone() for name, t in hasher.network_.backbone.state_dict().items()}


def test_head_epochs_train_only_the_head():
    X, Y = make_images()
    start, head = (
        make_hasher(head_epochs=n, max_epochs=0, network=tiny_backbone).fit(X, Y) for n in (0, 3)
    )
    assert start.loss_curve_ == []
    assert head.n_iter_ == len(head.loss_curve_) == 3
    # Statistics of batch normalisation are among them.
    before, after = backbone_state(start), backbone_state(head)
    assert all(torch.equal(before[name], after[name]) for name in before)
    for layer in ("fca", "fcb", "hash"):
        weights = [getattr(hasher.network_.head, layer).weight for hasher in (start, head)]
        assert not torch.equal(*weights)
    assert not np.array_equal(start.project(X), head.project(X))


def test_all_of_the_network_is_trained_after_the_head():
    X, Y = make_images()
    head, both = (
        make_hasher(head_epochs=1, max_epochs=n, network=tiny_backbone).fit(X, Y) for n in (0, 2)
    )
    assert both.loss_curve_[:1] == head.loss_curve_
    assert both.n_iter_ == 3
    before, after = backbone_state(head), backbone_state(both)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # Statistics of batch normalisation stay those on which the head was trained.
    assert changed == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_statistics_of_batch_normalisation_are_learnt_without_head_epochs():
    X, Y = make_images()
    start, end = (make_hasher(max_epochs=n, network=tiny_backbone).fit(X, Y) for n in (0, 1))
    before, after = backbone_state(start), backbone_state(end)
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_backbone_learning_rate_is_of_the_backbone():
    X, Y = make_images()
    params = {"network": tiny_backbone, "max_epochs": 1, "weight_decay": 0.0}
    start = make_hasher(**(params | {"max_epochs": 0})).fit(X, Y)
    steps = []
    for rate in (1e-3, 1e-5):
        hasher = make_hasher(backbone_learning_rate=rate, **params).fit(X, Y)
        move = lambda part, h=hasher: (  # noqa: E731
            (part(h.network_) - part(start.network_)).abs().max().item()
        )
        steps.append([move(lambda n: n.backbone[0].weight), move(lambda n: n.head.fca.weight)])
    assert steps[1][0] < 0.05 * steps[0][0]
    assert steps[1][1] > 0.5 * steps[0][1]


@all_kinds
def test_training_lowers_the_loss(make):
    X, Y = make(100)
    hasher = make_hasher(max_epochs=12, hidden_size=64, dropout=0.1, learning_rate=3e-3)
    curve = hasher.fit(X, Y).loss_curve_
    assert len(curve) == 12
    assert all(type(loss) is float for loss in curve)
    assert np.mean(curve[-3:]) < 0.8 * np.mean(curve[:2])


@all_kinds
def test_learns_what_new_samples_share(make):
    X, Y = make(240)
    train, test = slice(0, 160), slice(160, None)
    params = {"n_bits": 12, "hidden_size": 64, "dropout": 0.2}
    trained, random = (
        make_hasher(max_epochs=n, learning_rate=3e-3, **params).fit(X[train], Y[train])
        for n in (25, 0)
    )
    shuffled = Y[np.random.default_rng(0).permutation(240)]
    chance = trained.score(X[test], shuffled[test])
    assert trained.score(X[test], Y[test]) > max(random.score(X[test], Y[test]), chance) + 0.1
    accuracy = (trained.predict(X[test]) == Y[test]).mean()
    assert accuracy > 0.8


@pytest.mark.parametrize(
    "params",
    [
        {"loss": RankingLoss(margin=3.0)},
        {"loss": RankingLoss(weighting="uniform")},
        {"loss": RankingLoss(balance=5.0)},
        {"loss": RankingLoss(class_weight="balanced")},
        {"taps": "fca"},
        {"taps": "fcb"},
        {"optimizer": "sgd"},
        {"dropout": 0.1},
        {"learning_rate": 1e-2},
        {"weight_decay": 1.0},
        {"batch_size": 15},
        {"max_epochs": 3},
        {"flip": False},
        {"normalization": (0.0, 255.0)},
        {"hidden_size": 17},
        {"image_size": 9},
        {"precision": "bfloat16"},
    ],
    ids=repr,
)
def test_parameters_have_an_effect(params):
    X, Y = make_images()
    base = {"precision": "float32"}
    assert not np.array_equal(
        projection(make_hasher(**(base | params)), X, Y), projection(make_hasher(**base), X, Y)
    )


def test_auto_margin_is_5_at_64_bits():
    X, Y = make_rows()
    for n_bits, margin in [(64, 5.0), (16, 1.25)]:
        assert_array_equal(
            projection(make_hasher(n_bits=n_bits), X, Y),
            projection(make_hasher(n_bits=n_bits, loss=RankingLoss(margin=margin)), X, Y),
        )


def test_balance_balances_the_bits():
    X, Y = make_rows(200)
    means = []
    for balance in (0.0, 100.0):
        params = {"max_epochs": 10, "learning_rate": 1e-2, "dropout": 0.0}
        loss = RankingLoss(balance=balance)
        t = projection(make_hasher(loss=loss, **params), X, Y)
        means.append(np.abs(np.tanh(t / 2).mean(axis=0)).mean())
    assert means[1] < 0.5 * means[0]


@pytest.mark.parametrize("n", [2, 3, 5, 41])
@pytest.mark.parametrize("make", [make_rows, make_images])
def test_any_number_of_samples_and_batches_of_two(n, make):
    X, Y = make(n)
    Y[:2] = [[1, 1, 1], [1, 1, 0]]
    hasher = make_hasher(batch_size=2, head_epochs=1).fit(X, Y)
    assert np.isfinite(hasher.loss_curve_).all()
    assert np.isfinite(hasher.project(X)).all()


def test_samples_without_labels():
    X, Y = make_rows()
    Y[10:] = 0
    hasher = make_hasher(batch_size=4).fit(X, Y)
    assert np.isfinite(hasher.loss_curve_).all()
    assert np.isfinite(hasher.project(X)).all()


def test_verbose_prints_each_epoch(capsys):
    make_hasher(verbose=True, head_epochs=1).fit(*make_rows())
    lines = capsys.readouterr().out.splitlines()
    epochs = ["head, epoch 1 of 1", "network, epoch 1 of 2", "network, epoch 2 of 2"]
    assert [line.split(":")[0] for line in lines] == [f"[DeepRankingHasher] {e}" for e in epochs]
    make_hasher().fit(*make_rows())
    assert capsys.readouterr().out == ""


# The loss.


@dataclass(frozen=True, kw_only=True)
class Objective(HashingLoss):
    """The default loss, written out."""

    def batch_loss(self, projection, labels, _):
        codes = torch.tanh(projection / 2)
        distances = others((codes.shape[1] - codes @ codes.T) / 2)
        relevance = others((labels @ labels.T).long())
        loss = ranking_loss(distances, relevance, margin=5 * codes.shape[1] / 64).sum()
        loss = loss / (labels.any(dim=1).sum().clamp(min=1) * distances.shape[1])
        return loss + 0.1 / 2 * codes.mean(dim=0).square().sum()


@all_kinds
@pytest.mark.parametrize("loss", ["ranking", RankingLoss()], ids=["name", "object"])
def test_default_loss_is_the_formula(make, loss):
    X, Y = make()
    params = {"head_epochs": 1, "batch_size": 20}
    expected = make_hasher(loss=Objective(), **params).fit(X, Y)
    hasher = make_hasher(loss=loss, **params).fit(X, Y)
    assert hasher.loss_curve_ == expected.loss_curve_
    assert_array_equal(hasher.project(X), expected.project(X))


def test_parameters_of_the_loss_are_set_through_the_hasher():
    X, Y = make_rows()
    params = {"margin": 2.0, "weighting": "uniform", "balance": 3.0, "class_weight": "balanced"}
    loss = RankingLoss(**params)
    nested = {f"loss__{name}": value for name, value in params.items()}
    expected = projection(make_hasher(loss=loss), X, Y)
    for start in ("ranking", RankingLoss()):
        hasher = make_hasher(loss=start).set_params(**nested)
        assert hasher.loss == loss
        assert hasher.get_params()["loss"] is hasher.loss
        assert_array_equal(projection(hasher, X, Y), expected)
    assert hasher.get_params()["loss__margin"] == 2.0


def test_name_and_parameters_of_a_loss_are_set_together():
    hasher = make_hasher().set_params(loss__quantization=0.5, loss="csq")
    assert hasher.loss == CentralSimilarityLoss(quantization=0.5)


def test_error_on_parameters_that_are_of_the_loss():
    hasher = make_hasher()
    with pytest.raises(ValueError, match=r"'margin'[\s\S]* set loss__margin, or loss=RankingLoss"):
        hasher.set_params(margin=2.0)
    with pytest.raises(ValueError, match="Invalid parameter 'margin' for estimator Central"):
        hasher.set_params(loss="csq", loss__margin=2.0)
    with pytest.raises(ValueError, match="'margin' parameter of RankingLoss"):
        hasher.set_params(loss="ranking", loss__margin=0)
    no_parameters = SimpleNamespace(start=lambda *_: None)
    with pytest.raises(ValueError, match="has no parameters to set, got 'loss__margin'"):
        hasher.set_params(loss=no_parameters, loss__margin=2.0)
    with pytest.raises(TypeError, match=r"from_paper got margin=2.* loss=SampledRankingLoss"):
        DeepRankingHasher.from_paper(margin=2)


def test_grid_over_parameters_of_the_loss():
    X, Y = make_rows(90)
    grid = {"loss__margin": [0.5, 4.0], "loss__weighting": ["ndcg", "uniform"]}
    search = GridSearchCV(make_hasher(learning_rate=1e-2), grid, cv=2, error_score="raise")
    scores = search.fit(X, Y).cv_results_["mean_test_score"]
    assert len(set(scores)) == 4
    assert search.best_estimator_.loss.margin == search.best_params_["loss__margin"]


# Parameters without an effect.


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"tol": 1e-3}, "tol=0.001 has no effect without early_stopping.* for early_stopping="),
        ({"n_iter_no_change": 4}, "n_iter_no_change=4 has no effect without early_stopping"),
        ({"validation_fraction": 0.2}, "validation_fraction=0.2 has no effect without early"),
        ({"dropout": 0.2, "taps": "fca"}, "dropout=0.2 has no effect with taps='fca'"),
        ({"flip": False}, "flip=False has no effect on feature rows.*'auto'; it is for X of im"),
        ({"image_size": 32}, "image_size=32 has no effect on feature rows"),
        ({"normalization": (0.0, 1.0)}, "has no effect with network='mlp', which standardises"),
        ({"backbone_learning_rate": 1e-4}, "has no effect with network='mlp', which has no back"),
    ],
    ids=repr,
)
def test_error_on_a_parameter_without_effect(params, expected):
    X, Y = make_rows()
    hasher = DeepRankingHasher(8, hidden_size=16, **params)
    for fit in (hasher.fit, hasher.partial_fit):
        with pytest.raises(ValueError, match=expected):
            fit(X, Y)


def test_parameters_with_an_effect_are_none_without():
    X, Y = make_rows()
    make_hasher(early_stopping=True, tol=1e-3, n_iter_no_change=1, max_epochs=1).fit(X, Y)
    make_hasher(optimizer="sgd", backbone_learning_rate=1e-4, max_epochs=1).fit(X, Y)
    make_hasher(head_epochs=1, backbone_learning_rate=1e-4, max_epochs=1).fit(X, Y)
    images, Y = make_images()
    make_hasher(flip=False, image_size=9, max_epochs=1).fit(images, Y)


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_learns_digits(name):
    X, y = load_digits(return_X_y=True)
    params = {"n_bits": 16, "hidden_size": 64, "batch_size": 64, "dropout": 0.1}
    scores = [
        make_hasher(loss=name, max_epochs=n, learning_rate=5e-3, **params)
        .fit(X[150:900], y[150:900])
        .score(X[:150], y[:150])
        for n in (0, 25)
    ]
    assert scores[1] > scores[0] + 0.3


@pytest.mark.parametrize("name", LOSSES)
@all_kinds
def test_each_loss_is_seeded_and_leaves_generators_alone(name, make):
    X, Y = make()
    before = global_states()
    hasher = make_hasher(loss=name, head_epochs=1)
    first = projection(hasher, X, Y)
    assert global_states() == before
    torch.rand(3)
    assert_array_equal(projection(hasher, X, Y), first)


def recorded(calls):
    """A loss that notes what its start and its steps are given."""

    def start(n_bits, labels):
        calls.append((n_bits, labels))
        return Recorder(calls)

    return SimpleNamespace(start=start)


class Recorder(nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, projection, labels, progress):
        self.calls.append((projection.detach(), labels, progress, self.training))
        return projection.square().mean()


@pytest.mark.parametrize(("head_epochs", "max_epochs"), [(0, 2), (2, 0), (1, 3)])
def test_what_a_loss_is_given(head_epochs, max_epochs):
    X, Y = make_rows(50)
    calls = []
    params = {"head_epochs": head_epochs, "max_epochs": max_epochs}
    make_hasher(loss=recorded(calls), **params).fit(X, Y)
    (n_bits, labels), *steps = calls
    assert n_bits == 8
    assert labels.dtype == torch.float32
    assert_array_equal(labels, Y)
    n_steps = 3 * (head_epochs + max_epochs)
    assert [progress for _, _, progress, _ in steps] == [i / n_steps for i in range(n_steps)]
    for step, (t, y, _, training) in enumerate(steps):
        assert training
        assert t.dtype == y.dtype == torch.float32
        assert t.shape == (len(y), 8)
        assert len(y) == [17, 17, 16][step % 3]
    # Every sample once an epoch.
    assert_array_equal(sum(y.sum(0) for _, y, _, _ in steps[:3]), Y.sum(0))


@dataclass(frozen=True)
class ProxyLoss(HashingLoss):
    """A learnt tensor that follows a constant gradient; the started loss is handed out."""

    kept: list

    def start(self, n_bits, _):
        self.kept.append(StartedLoss(self, proxy=nn.Parameter(torch.zeros(n_bits))))
        return self.kept[-1]

    def batch_loss(self, projection, *_, proxy):
        return proxy.sum() + projection.square().mean()


@pytest.mark.parametrize("params", [{"head_epochs": 1, "max_epochs": 0}, {"max_epochs": 1}])
def test_parameters_of_a_loss_are_trained_at_the_rate_of_the_head(params):
    X, Y = make_images(20)
    kept = []
    params = params | {"backbone_learning_rate": 1e-9, "weight_decay": 0.0, "batch_size": 60}
    make_hasher(loss=ProxyLoss(kept), learning_rate=0.25, **params).fit(X, Y)
    # The first step of Adam is as long as its rate.
    torch.testing.assert_close(kept[0].proxy.detach(), torch.full((8,), -0.25))


@pytest.mark.parametrize("loss", ["hyp2", RankingLoss(list_size=500)], ids=["hyp2", "memory"])
def test_nothing_of_a_loss_is_kept(loss):
    X, Y = make_rows()
    hasher = make_hasher(loss=loss).fit(X, Y)
    assert vars(hasher).keys() == vars(make_hasher().fit(X, Y)).keys()
    assert hasher.loss is loss


@pytest.mark.parametrize("kind", [RankingLoss, TieAwareNDCGLoss])
def test_list_size_has_an_effect_once_there_is_a_memory(kind):
    X, Y = make_rows()
    short, long = (make_hasher(loss=kind(list_size=n)).fit(X, Y) for n in (19, 50))
    assert_array_equal(short.project(X), projection(make_hasher(loss=kind()), X, Y))
    assert not np.array_equal(long.project(X), short.project(X))


def test_loss_survives_clone_and_pickle():
    X, Y = make_rows()
    hasher = make_hasher(loss=HyP2Loss(beta=0.25)).fit(X, Y)
    for other in (clone(hasher), pickle.loads(pickle.dumps(hasher))):
        assert other.loss == HyP2Loss(beta=0.25)
        assert_array_equal(projection(other, X, Y), hasher.project(X))


@pytest.mark.parametrize("name", ["csq", "orthohash", "hyp2"])
def test_losses_with_centers_need_no_shared_label(name):
    X, _ = make_rows(20)
    hasher = make_hasher(loss=name, max_epochs=5).fit(X, np.arange(20))
    assert np.isfinite(hasher.project(X)).all()


# The procedure of the paper.


def step_of(hasher, X, Y):
    """Change of each parameter in one step on all of `X`, and its gradient and start."""
    start = clone(hasher).set_params(max_epochs=0).fit(X, Y).network_
    end = hasher.set_params(max_epochs=1, batch_size=len(X)).fit(X, Y).network_
    projection = start(torch.from_numpy(X).permute(0, 3, 1, 2).float())
    codes = torch.tanh(projection / 2)
    (codes.mean(dim=0).square().sum() / 2).backward()
    for (name, before), (_, after) in zip(
        start.named_parameters(), end.named_parameters(), strict=True
    ):
        yield name, (after - before).detach(), before.grad, before.detach()


@dataclass(frozen=True, kw_only=True)
class Balance(HashingLoss):
    """The second term of the loss alone."""

    def batch_loss(self, projection, *_):
        return torch.tanh(projection / 2).mean(dim=0).square().sum() / 2


@pytest.mark.parametrize("taps", ["both", "fca", "fcb"])
def test_rates_of_the_paper(taps):
    X, Y = make_images(20)
    params = {"loss": Balance(), "taps": taps, "network": plain_backbone, "dropout": 0.0}
    hasher = make_hasher(
        optimizer="sgd",
        learning_rate=1e-2,
        weight_decay=0.1,
        flip=False,
        **params,
        precision="float32",
    )
    for name, change, gradient, before in step_of(hasher, X, Y):
        rate, decay = 1e-3, 0.1
        if name.startswith("head.hash"):
            rate = 1e-2
        if name.endswith("bias"):
            rate, decay = 2 * rate, 0.0
        if name == "head.hash.weight" and taps != "fcb":
            rate = torch.full(before.shape, rate)
            rate[:, :16] /= 4
        expected = -rate * (gradient + decay * before)
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-7, msg=name)


def plain_backbone():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh())


def test_rates_of_the_paper_fall_to_a_tenth_after_half_of_the_steps():
    X, Y = make_rows(40)
    kept, moves = [], []

    def watched(n_bits, labels):
        started = ProxyLoss(kept).start(n_bits, labels)
        started.proxy.register_hook(lambda _: moves.append(started.proxy[0].item()))
        return started

    hasher = make_hasher(loss=SimpleNamespace(start=watched), optimizer="sgd", max_epochs=10)
    hasher.set_params(batch_size=20, learning_rate=0.5, weight_decay=0.0).fit(X, Y)
    steps = -np.diff([*moves, kept[0].proxy[0].item()])
    momentum = 0.0
    for i, step in enumerate(steps):
        momentum = 0.9 * momentum + 1
        assert step == pytest.approx((0.5 if i < 10 else 0.05) * momentum, rel=1e-4)


def test_from_paper():
    hasher = DeepRankingHasher.from_paper(48, random_state=3)
    assert isinstance(hasher, DeepRankingHasher)
    assert (hasher.n_bits, hasher.random_state, hasher.network) == (48, 3, "alexnet")
    assert clone(hasher).get_params() == hasher.get_params()
    assert DeepRankingHasher.from_paper().n_bits == 64
    assert DeepRankingHasher.from_paper(taps="fca").taps == "fca"
    with pytest.raises(TypeError, match="unexpected keyword argument 'tap'"):
        DeepRankingHasher.from_paper(tap="fca")


def test_procedure_of_the_paper_learns_digits():
    X, y = load_digits(return_X_y=True)
    params = {"network": "mlp", "hidden_size": 64, "batch_size": 32, "device": "cpu"}
    params |= {"backbone_learning_rate": 1e-3, "random_state": 0}
    scores = [
        DeepRankingHasher.from_paper(16, max_epochs=n, **params)
        .fit(X[150:900], y[150:900])
        .score(X[:150], y[:150])
        for n in (0, 15)
    ]
    assert scores[1] > scores[0] + 0.3


# Objects.


@all_kinds
def test_pickle_round_trip(make):
    X, Y = make()
    hasher = make_hasher().fit(X, Y)
    copied = pickle.loads(pickle.dumps(hasher))
    assert_array_equal(copied.project(X), hasher.project(X))
    assert_array_equal(copied.kneighbors(X[:5])[1], hasher.kneighbors(X[:5])[1])
    assert copied.score(X, Y) == hasher.score(X, Y)
    assert_array_equal(copied.fit(X, Y).project(X), hasher.project(X))


def test_clone_is_unfitted_and_alike():
    X, Y = make_images()
    hasher = make_hasher(network=tiny_backbone, loss=RankingLoss(margin=2.0)).fit(X, Y)
    cloned = clone(hasher)
    assert cloned.get_params() == hasher.get_params()
    assert not hasattr(cloned, "network_")
    with pytest.raises(NotFittedError):
        cloned.transform(X)
    assert_array_equal(projection(cloned, X, Y), hasher.project(X))


def test_set_database_of_images():
    X, Y = make_images()
    hasher = make_hasher().fit(X, Y)
    hasher.set_database(X[:9], Y[:9])
    assert len(hasher.database_codes_) == 9
    assert hasher.kneighbors(X[:3], n_neighbors=9)[1].max() == 8


@all_kinds
def test_error_leaves_nothing_half_fitted(make):
    X, Y = make()
    fresh, diverging = make_hasher(), {"learning_rate": 1e20, "max_epochs": 5}
    with pytest.raises(ValueError, match=r"loss is (nan|inf) \(network, epoch [1-5] of 5\)"):
        fresh.set_params(**diverging).fit(X, Y)
    assert vars(fresh).keys() == vars(make_hasher()).keys()
    with pytest.raises(NotFittedError):
        fresh.transform(X)
    fitted = make_hasher().fit(X, Y)
    before, state = fitted.project(X), vars(fitted).copy()
    with pytest.raises(ValueError, match="diverged"):
        fitted.set_params(**diverging).fit(X[:40], Y[:40])
    assert vars(fitted).keys() == state.keys()
    assert_array_equal(fitted.project(X), before)
    assert len(fitted.database_codes_) == 60


def test_fit_on_another_kind_forgets_the_first():
    hasher = make_hasher().fit(*make_images())
    hasher.fit(*make_rows())
    assert hasher.n_features_in_ == 6
    assert not hasattr(hasher, "image_size_")
    hasher.fit(*make_images())
    assert not hasattr(hasher, "n_features_in_")


# Errors.


def check_error(error, match, X, Y, **params):
    hasher = make_hasher(**params)
    with pytest.raises(error, match=match):
        hasher.fit(X, Y)
    assert vars(hasher).keys() == hasher.get_params(deep=False).keys()


def test_error_on_images():
    X, Y = make_images()
    shape = r"\(n_samples, height, width, 3\) or \(n_samples, 3, height, width\), got an array of"
    check_error(ValueError, rf"{shape} shape \(60, 8, 8, 1\)", X[..., :1], Y)
    check_error(ValueError, rf"{shape} shape \(0, 8, 8, 3\)", X[:0], Y[:0])
    check_error(ValueError, "images of dtype uint8, from 0 to 255, got dtype float64", X / 255, Y)
    check_error(ValueError, r"shape \(60, 8, 8\)\. np\.repeat\(X\[\.\.\., None\], 3", X[..., 0], Y)
    check_error(ValueError, r"1 sample\(s\).*minimum of 2", X[:1], Y[:1])


def test_error_on_feature_rows():
    X, Y = make_rows()
    check_error(ValueError, "X contains NaN", np.where(X > 2, np.nan, X), Y)
    check_error(ValueError, "X contains infinity", np.where(X > 2, np.inf, X), Y)
    check_error(ValueError, r"1 sample\(s\).*minimum of 2", X[:1], Y[:1])
    check_error(ValueError, "Expected 2D array, got 1D array", X[:, 0], Y)
    check_error(TypeError, "[Ss]parse", sparse.csr_array(X), Y)


@all_kinds
def test_error_on_label_sets(make):
    X, Y = make()
    check_error(ValueError, "requires y to be passed", X, None)
    check_error(ValueError, r"inconsistent numbers of samples: \[60, 59\]", X, Y[1:])
    check_error(ValueError, "y must hold only 0 and 1, got 2", X, 2 * Y)
    check_error(ValueError, "got sequences of different lengths", X, [[1], [1, 2]] * 30)
    check_error(ValueError, "No pair of the training samples shares a label", X, np.arange(60))
    check_error(ValueError, "No training sample has a label", X, 0 * Y)


@pytest.mark.parametrize("name", LOSSES)
def test_error_on_label_sets_from_which_a_loss_learns_nothing(name):
    X, Y = make_rows()
    check_error(ValueError, "No training sample has a label", X, 0 * Y, loss=name)
    if name not in ("csq", "orthohash", "hyp2"):
        match = f"No pair of the training samples shares a label, .* loss='{name}'"
        check_error(ValueError, match, X, np.arange(60), loss=name)


def test_error_on_loss():
    X, Y = make_rows()
    check_error(
        ValueError, "loss should be one of 'ranking', .*got 'triplet'", X, Y, loss="triplet"
    )
    match = r"name or an object with a method start.*got the class HyP2Loss"
    check_error(TypeError, match, X, Y, loss=HyP2Loss)
    check_error(TypeError, "name or an object with a method start.*got None", X, Y, loss=None)
    check_error(
        ValueError,
        "at most 16 Hadamard centers, but there are 20 labels",
        X,
        np.arange(60) % 20,
        loss=CentralSimilarityLoss(centers="hadamard"),
    )
    no_module = SimpleNamespace(start=lambda *_: None)
    check_error(
        TypeError, r"should return a torch\.nn\.Module, got NoneType", X, Y, loss=no_module
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"n_bits": 0}, "'n_bits' parameter .* int in the range"),
        ({"n_bits": 2.5}, "'n_bits' parameter .* int in the range"),
        ({"network": 3}, "'network' parameter"),
        ({"hidden_size": 0}, "'hidden_size' parameter"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"image_size": 0}, "'image_size' parameter"),
        ({"image_size": "small"}, "'image_size' parameter"),
        ({"normalization": 1.0}, "'normalization' parameter"),
        ({"flip": "yes"}, "'flip' parameter"),
        ({"taps": "fcc"}, "'taps' parameter"),
        ({"optimizer": "adam"}, "'optimizer' parameter"),
        ({"early_stopping": "yes"}, "'early_stopping' parameter"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"n_iter_no_change": 0}, "'n_iter_no_change' parameter"),
        ({"tol": -1}, "'tol' parameter"),
        ({"warm_start": 1.5}, "'warm_start' parameter"),
        ({"compile": None}, "'compile' parameter"),
        ({"head_epochs": -1}, "'head_epochs' parameter"),
        ({"max_epochs": -1}, "'max_epochs' parameter"),
        ({"batch_size": 1}, "'batch_size' parameter"),
        ({"learning_rate": 0}, "'learning_rate' parameter"),
        ({"backbone_learning_rate": 0}, "'backbone_learning_rate' parameter"),
        ({"weight_decay": -1}, "'weight_decay' parameter"),
        ({"device": None}, "'device' parameter"),
        ({"precision": "float16"}, "'precision' parameter"),
        ({"image_size": ()}, r"int or a tuple \(height, width\) of ints above 0, got \(\)"),
        ({"image_size": (8,)}, r"tuple \(height, width\) of ints above 0, got \(8,\)"),
        ({"image_size": (8, 0)}, r"tuple \(height, width\) of ints above 0, got \(8, 0\)"),
        ({"image_size": (8, 8.5)}, r"tuple \(height, width\) of ints above 0, got \(8, 8.5\)"),
        ({"image_size": (8, 8, 3)}, r"tuple \(height, width\) of ints above 0, got \(8, 8, 3\)"),
        ({"normalization": (1.0,)}, r"normalization should be 'auto' or a tuple \(mean, std\)"),
        ({"normalization": (0.0, 0.0)}, "normalization should be .* std above 0"),
        ({"network": "resnet"}, "network should be one of"),
        ({"device": "gpu"}, "'auto' or one of torch's .* devices.*got 'gpu'"),
        ({"device": "meta"}, "device"),
        ({"device": "xpu"}, "device"),
    ],
    ids=repr,
)
def test_error_on_parameters(params, expected):
    check_error(ValueError, expected, *make_images(), **params)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_error_on_cuda_that_is_absent(device):
    match = f"device='{device}' was asked for, but torch finds no such device"
    check_error(ValueError, match, *make_images(), device=device)


def test_error_on_network_that_is_a_module():
    X, Y = make_images()
    with pytest.raises(TypeError, match=r"callable that returns a new torch\.nn\.Module"):
        make_hasher(network=tiny_backbone()).fit(X, Y)


def test_error_on_files(tmp_path):
    X, Y = make_images(4)
    Y[:] = [[1, 0, 0]] + 3 * [[1, 1, 1]]
    paths = save_files(X, tmp_path)
    size = {"network": "convnet", "image_size": 8}
    (tmp_path / "text.png").write_text("no image")
    for network in ("convnet", tiny_backbone):
        check_error(
            ValueError, "image_size should be given for image files", paths, Y, network=network
        )
    match = r"X\[3\] is the file absent\.png, which does not exist"
    check_error(FileNotFoundError, match, [*paths[:3], "absent.png"], Y, **size)
    match = r"X\[3\] is the file .*text\.png, which cannot be decoded as an image"
    check_error(ValueError, match, [*paths[:3], tmp_path / "text.png"], Y, **size)
    check_error(ValueError, r"1 sample\(s\).*minimum of 2", paths[:1], Y[:1], **size)
    check_error(ValueError, r"0 sample\(s\)", np.array([], dtype=str), Y[:0], **size)
    hasher = make_hasher(**size).fit(paths, Y)
    with pytest.raises(FileNotFoundError, match="absent"):
        hasher.transform(["absent.png"])
    with pytest.raises(ValueError, match=r"text\.png, which cannot be decoded as an image"):
        hasher.transform([tmp_path / "text.png"])


@all_kinds
def test_error_before_fit(make):
    X, Y = make()
    hasher = make_hasher()
    for call in (hasher.transform, hasher.project, hasher.predict, hasher.kneighbors):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(X)
    for call in (hasher.score, hasher.set_database):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(X, Y)


def test_error_on_another_kind_than_in_fit(tmp_path):
    images, rows = make_hasher().fit(*make_images()), make_hasher().fit(*make_rows())
    with pytest.raises(ValueError, match="X should be images, as in fit, got features"):
        images.transform(make_rows()[0])
    with pytest.raises(ValueError, match="X should be features, as in fit, got images"):
        rows.transform(make_images()[0])
    with pytest.raises(ValueError, match="X should be features, as in fit, got files"):
        rows.transform(save_files(make_images(2)[0], tmp_path))
    with pytest.raises(ValueError, match=r"X has 5 features, .* expecting 6 features"):
        rows.transform(make_rows()[0][:, :5])
    with pytest.raises(ValueError, match="dtype uint8"):
        images.transform(make_images()[0] / 255)


@all_kinds
@pytest.mark.parametrize("n_epochs", [1, 3])
def test_error_on_training_that_diverges(make, n_epochs):
    X, Y = make()
    # One batch an epoch: what the last step did, no loss has seen.
    check_error(
        ValueError,
        r"Training diverged.* learning_rate",
        X,
        Y,
        learning_rate=1e20,
        max_epochs=n_epochs,
        batch_size=60,
    )
